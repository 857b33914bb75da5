"""Parameters that the kernels do not cover, stepped by torch's own code."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

# torch's default implementation.
from torch.optim.sgd import sgd as torch_sgd

from subgrad_fast._core.clip import Measured, Stage
from subgrad_fast.optim.averages import average_with_torch
from subgrad_fast.optim.dtensor import align_gradients
from subgrad_fast.optim.stages import measured, staged
from subgrad_fast.optim.tensors import Group, l1_of, shrink

# A parameter with the number of its group.
Numbered = tuple[int, Tensor]


def slot_of(optimizer: Optimizer, param: Tensor, name: str) -> Tensor | None:
    """What the optimizer's state holds for a parameter; looked up without making an entry."""
    slot: Tensor | None = optimizer.state[param].get(name) if param in optimizer.state else None
    return slot


def measured_of(params: list[Numbered], asked: bool) -> list[Measured]:
    """The gradients of these, measured by torch if that is asked for; of DTensors the shards."""
    align_gradients(p for _, p in params)
    if not asked:
        return [Measured(index, 0.0, False) for index, _ in params]
    return measured([(index, _grad(p)) for index, p in params])


def average_params(optimizer: Optimizer, group: Group, params: list[Tensor]) -> None:
    """Moves the averages of parameters that have been stepped, if the group keeps any."""
    if (decay := group.get("ema_decay")) is not None:
        for param in params:
            average = average_with_torch(slot_of(optimizer, param, "ema"), param, decay)
            optimizer.state.setdefault(param, {})["ema"] = average


def step_with_torch(
    optimizer: Optimizer, params: list[Numbered], stages: list[Stage], *, by_group: bool = False
) -> None:
    """Steps parameters with a gradient.

    Args:
        optimizer: whose groups and state they belong to.
        params: what is stepped.
        stages: of their gradients; none for gradients as they are.
        by_group: in the implementation that each group names, else in torch's default: a loop on
            the CPU, ``foreach`` on CUDA devices.
    """
    for index, group in enumerate(optimizer.param_groups):
        mine = [i for i, (number, _) in enumerate(params) if number == index]
        if mine:
            grads = [staged(_grad(params[i][1]), stages[i] if stages else None) for i in mine]
            how = (group["foreach"], group["fused"]) if by_group else (None, None)
            _step_group(optimizer, group, [params[i][1] for i in mine], grads, *how)


def _grad(param: Tensor) -> Tensor:
    assert param.grad is not None  # callers leave out those without
    return param.grad


def _step_group(
    optimizer: Optimizer,
    group: Group,
    params: list[Tensor],
    grads: list[Tensor],
    foreach: bool | None,
    fused: bool | None,
) -> None:
    buffers: list[Tensor | None] = []
    if group["momentum"] != 0:
        buffers = [slot_of(optimizer, p, "momentum_buffer") for p in params]
    differentiable = optimizer.defaults["differentiable"]
    with torch.set_grad_enabled(differentiable):
        torch_sgd(
            params,
            grads,
            buffers,
            has_sparse_grad=any(g.is_sparse for g in grads),
            foreach=foreach,
            fused=fused,
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=group["dampening"],
            nesterov=group["nesterov"],
            maximize=group["maximize"],
        )
        if l1_of(group):
            for param in params:
                shrink(param, group, differentiable=differentiable)
    if buffers:
        for param, buffer in zip(params, buffers, strict=True):
            optimizer.state.setdefault(param, {})["momentum_buffer"] = buffer
    average_params(optimizer, group, params)
