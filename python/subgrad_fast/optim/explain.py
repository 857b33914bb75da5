"""Why `optim.SGD` leaves tensors to torch's own code, in words."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from subgrad_fast.optim.dtensor import shard_of, why_shard_not_covered
from subgrad_fast.optim.modes import is_observed
from subgrad_fast.optim.tensors import (
    EXPANDED,
    Group,
    has_row_gradient,
    has_usual_slots,
    is_usual,
    why_not_dense,
)
from subgrad_fast.optim.torchs_step import slot_of

if TYPE_CHECKING:
    from subgrad_fast.optim.planned_step import PlannedStep

EXPLAINS = os.environ.get("SUBGRAD_FAST_EXPLAIN") == "1"
"""Whether steps explain themselves."""


def _why_all(optimizer: PlannedStep) -> str | None:
    """Why torch steps everything, if it does."""
    if not optimizer._is_ours():
        return "foreach or fused=False was given, which name an implementation of torch's"
    if is_observed():
        return "a mode or a transform of functorch's sees torch's operations"
    if not is_usual(optimizer):
        return "param_groups are no list of dicts, or state is no dict"
    if not all(isinstance(group["params"], list) for group in optimizer.param_groups):
        return "params of a group are no list"
    return None


def _why_group(group: Group) -> str | None:
    if group.get("differentiable"):
        return "differentiable=True"
    for name, value in group.items():
        if isinstance(value, Tensor) and value.requires_grad:
            return f"{name} is a tensor that requires a gradient"
    return None


def _why_gradient(param: Tensor, buffer: Tensor | None) -> str | None:
    grad = param.grad
    if grad is None:
        return None
    if shard_of(param) is not None:
        if (shard := shard_of(grad)) is None:
            return "the gradient is no DTensor, and the parameter is one"
        grad = shard
    if type(grad) is not Tensor:
        return f"the gradient is of the class {type(grad).__name__}"
    if grad.layout is not torch.strided:
        return (
            None if has_row_gradient(param, buffer) else f"the gradient's layout is {grad.layout}"
        )
    why = why_not_dense(grad)
    if why is not None and why is not EXPANDED:  # which is no hindrance in what is only read
        return f"the gradient is {why}"
    if grad.dtype != param.dtype and torch.float64 in (grad.dtype, param.dtype):
        return f"the gradient is of dtype {grad.dtype}, the parameter of {param.dtype}"
    return None


def _why(optimizer: PlannedStep, group: Group, param: Tensor) -> str | None:
    """Why torch steps one parameter, if it does."""
    if not has_usual_slots(optimizer, param):
        return "what the state has for it is no dict"
    buffer = slot_of(optimizer, param, "momentum_buffer")
    average = slot_of(optimizer, param, "ema") if group.get("ema_decay") is not None else None
    return why_shard_not_covered(param, buffer, average) or _why_gradient(param, buffer)


def reasons(optimizer: PlannedStep) -> list[str]:
    """Sentences: which tensors are torch's to step, and why."""
    if why := _why_all(optimizer):
        return [f"all parameters are stepped by torch: {why}"]
    found: dict[str, list[str]] = defaultdict(list)
    for index, group in enumerate(optimizer.param_groups):
        for place, param in enumerate(group["params"]):
            why = _why_group(group) or _why(optimizer, group, param)
            if why is not None:
                found[why].append(f"param_groups[{index}]['params'][{place}]")
    if optimizer._overlaps:
        found["memory that a step writes is shared"].append("all parameters")
    return [f"{_some(names)} stepped by torch: {why}" for why, names in found.items()]


def _some(names: list[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} is" if names[0] != "all parameters" else "all parameters are"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more} are"


def explain_once(optimizer: PlannedStep) -> None:
    """Warns of every reason that this optimizer has not yet been warned of."""
    for reason in reasons(optimizer):
        if reason not in optimizer._explained:
            optimizer._explained.add(reason)
            warnings.warn(reason, RuntimeWarning, stacklevel=2)
