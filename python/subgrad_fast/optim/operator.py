"""`torch.ops.subgrad_fast.sgd_step_`: the step as an operator, for functions that are compiled."""

from __future__ import annotations

from typing import List, Optional  # noqa: UP035  # what torch reads a schema from

import torch
from torch import Tensor

from subgrad_fast.dense import sgd_step


def _sgd_step_(
    params: List[Tensor],  # noqa: UP006
    grads: List[Tensor],  # noqa: UP006
    momentum_buffers: List[Tensor],  # noqa: UP006
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    l1: float = 0.0,
    first_step: bool = False,
    grad_scale: float = 1.0,
    max_norm: Optional[float] = None,  # noqa: UP045
    clip_value: Optional[float] = None,  # noqa: UP045
    skip_nonfinite: bool = False,
) -> None:
    """``subgrad_fast.sgd_step`` on lists of tensors; an empty list for no momentum buffers."""
    sgd_step(
        params,
        grads,
        momentum_buffers or None,
        lr=lr,
        momentum=momentum,
        dampening=dampening,
        weight_decay=weight_decay,
        nesterov=nesterov,
        maximize=maximize,
        decoupled_weight_decay=decoupled_weight_decay,
        l1=l1,
        first_step=first_step,
        grad_scale=grad_scale,
        max_norm=max_norm,
        clip_value=clip_value,
        skip_nonfinite=skip_nonfinite,
    )


sgd_step_ = torch.library.custom_op(
    "subgrad_fast::sgd_step_", _sgd_step_, mutates_args=("params", "momentum_buffers")
)
sgd_step_.register_fake(lambda *arguments, **keywords: None)
