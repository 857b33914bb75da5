"""Optimizers and clipping for PyTorch: named as in ``torch``, run by subgrad_fast's kernels."""

from subgrad_fast.optim.clipping import (
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
)
from subgrad_fast.optim.keep_memory import KeptMemory, keep_memory
from subgrad_fast.optim.operator import sgd_step_
from subgrad_fast.optim.sgd import SGD
from subgrad_fast.optim.support_sgd import SupportSGD
from subgrad_fast.optim.threshold_sgd import ThresholdSGD

__all__ = [
    "SGD",
    "KeptMemory",
    "SupportSGD",
    "ThresholdSGD",
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "get_total_norm",
    "keep_memory",
    "sgd_step_",
]
