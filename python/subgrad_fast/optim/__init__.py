"""Optimizers for PyTorch: ``torch.optim`` classes whose step runs in subgrad_fast's kernels."""

from subgrad_fast.optim.operator import sgd_step_
from subgrad_fast.optim.sgd import SGD
from subgrad_fast.optim.threshold_sgd import ThresholdSGD

__all__ = ["SGD", "ThresholdSGD", "sgd_step_"]
