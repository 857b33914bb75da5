"""What a group of `optim.ThresholdSGD` stores: hyper-parameters and the choice of elements."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from subgrad_fast import _core
from subgrad_fast._arguments import flag, integer
from subgrad_fast._core import SgdParams
from subgrad_fast.select.magnitudes import is_together
from subgrad_fast.select.selectors import Absolute, Selector, check_density, make_selector
from subgrad_fast.threshold.step import threshold_step

Group = dict[str, Any]

# The terms of the step. Groups of another optimizer may have more, which are nothing to this one.
_TERMS = tuple(
    name for name in _core.SGD_TERMS if name in inspect.signature(threshold_step).parameters
)

# Where Deep Gradient Compression begins its warm-up.
_FIRST_DENSITY = 0.25

# What a group's choice of elements is stored as: numbers and names, so that a state_dict loads
# without classes of ours.
SELECTION = ("selector", "threshold", "density", "k")


def settings(selector: Selector) -> Group:
    """What a group stores of a selector."""
    numbers = {name: getattr(selector, name, None) for name in ("threshold", "density", "k")}
    return {"selector": selector.name, **numbers}


def selector_of(group: Group) -> Selector:
    return make_selector(*(group[name] for name in SELECTION))


def warm(selector: Selector, group: Group) -> Selector:
    """The selector with the density of this step of the warm-up."""
    warmup, steps = group["warmup"], group["steps"]
    if isinstance(selector, Absolute) or selector.density is None:
        return selector
    if isinstance(warmup, int):
        if steps >= warmup or selector.density >= _FIRST_DENSITY or selector.density == 0.0:
            return selector
        done = steps / warmup
        density = _FIRST_DENSITY ** (1.0 - done) * selector.density**done
    else:
        phase = steps // group["warmup_steps"]
        if phase >= len(warmup):
            return selector
        density = warmup[phase]
    return type(selector)(density)


def hyper_of(group: Group) -> tuple[SgdParams, Tensor | None]:
    """The terms of a group's step, and its learning rate if that is to be read on a device."""
    lr = group["lr"]
    on_device = (
        isinstance(lr, Tensor)
        and lr.dtype == torch.float32
        and lr.numel() == 1
        and _core.cuda.device_of(lr) is not None
    )
    terms = {name: group[name] for name in _TERMS if name in group}
    return SgdParams(**{**terms, "lr": 0.0 if on_device else lr}), lr if on_device else None


def check_group(group: Group) -> None:
    """Raises TypeError or ValueError for a hyper-parameter that is out of range."""
    hyper_of(group)
    check_choice(group)
    selector_of(group)


def check_choice(group: Group) -> None:
    """Raises TypeError or ValueError for a scope, a warm-up or a number of steps that is none."""
    is_together(group["scope"])
    for name in ("error_feedback", "momentum_correction", "momentum_masking"):
        flag(name, group[name])
    integer("steps", group["steps"])
    warmup = group["warmup"]
    if isinstance(warmup, Sequence) and not isinstance(warmup, str | bytes):
        for i, density in enumerate(warmup):
            check_density(density, f"warmup[{i}]")
    else:
        integer("warmup", warmup)
    integer("warmup_steps", group["warmup_steps"], 1)
    if warmup and group["density"] is None:
        raise ValueError("warmup: needs a density to end at")
