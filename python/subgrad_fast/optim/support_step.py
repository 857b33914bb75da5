"""The step of `optim.SupportSGD`: of groups with a support; the others look at their gradients."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from subgrad_fast._core.chosen import Call, Indices
from subgrad_fast.chosen.step import as_indices
from subgrad_fast.clip import total_norm
from subgrad_fast.optim.stages import Judging
from subgrad_fast.optim.support_group import (
    ADDED_UP,
    PASSES,
    Group,
    check_params,
    find_support,
    hyper_of,
    look,
)

# By the id of a tensor of indices: its version, how many elements they are of, the indices as the
# kernels take them, and the tensor, so that no other has its id. Kept from step to step.
Checked: TypeAlias = dict[int, tuple[int, int, Indices, Tensor]]


def take_step(optimizer: Optimizer, judging: Judging, checked: Checked) -> float | None:
    """One step, or look, of all groups; the norm on the support, where somebody asked for it.

    Raises:
        TypeError, ValueError: as `support_step` does, before anything is written.
    """
    groups = optimizer.param_groups
    for group in groups:
        if not group["chosen"] and group["score"] not in ADDED_UP:
            check_params(group["params"])
            find_support(group, optimizer.state)
    call = Call(judging.options())
    new: list[tuple[Any, Any, Any]] = []
    looking = [group for group in groups if not group["chosen"]]
    stepped = [_add_to(call, optimizer, g, new, checked) for g in groups if g["chosen"]]
    norm = call.run(new) if any(stepped) else None
    for group in looking:
        _look(optimizer, group, judging)
    return norm


def _add_to(
    call: Call,
    optimizer: Optimizer,
    group: Group,
    new: list[tuple[Any, Any, Any]],
    checked: Checked,
) -> bool:
    """Hands a group to a call, with buffers that become state when the step is taken."""
    params: list[Tensor] = []
    grads, indices, momenta, first = [], [], [], []
    moves, state = group["momentum"] != 0, optimizer.state
    for place, param in enumerate(group["params"]):
        grad = param.grad
        if grad is None or (slots := state.get(param)) is None:
            continue
        if (chosen := slots.get("indices")) is None:
            continue
        params.append(param)
        grads.append(grad)
        kept = checked.get(id(chosen))
        if kept is None or kept[0] != chosen._version or kept[1] != param.numel():
            kept = checked[id(chosen)] = _check(chosen, param, f"params[{place}]")
        indices.append(kept[2])
        if moves:
            buffer = slots.get("momentum_buffer")
            first.append(buffer is None)
            if buffer is None:
                buffer = torch.empty(len(kept[2]), dtype=param.dtype)
                new.append((slots, "momentum_buffer", buffer))
            momenta.append(buffer)
    call.add(
        params,
        grads,
        indices,
        momenta if moves else None,
        hyper_of(group),
        first if moves else [False] * len(params),
    )
    return bool(params)


def _check(indices: Tensor, param: Tensor, name: str) -> tuple[int, int, Indices, Tensor]:
    where, elements = f"indices of {name}", param.numel()
    made = Indices(as_indices(indices, where), elements, where, name)
    return indices._version, elements, made, indices


def _look(optimizer: Optimizer, group: Group, judging: Judging) -> None:
    """Adds up what a backward pass says of each weight; the last one chooses the support."""
    grads = [param.grad for param in group["params"] if param.grad is not None]
    if not grads:
        return
    check_params(group["params"])
    if judging.skip_nonfinite and not math.isfinite(total_norm(grads)):
        return
    look(group, optimizer.state)
    group["seen"] += 1
    if group["seen"] >= (PASSES if group["calibrate"] is None else group["calibrate"]):
        find_support(group, optimizer.state)
