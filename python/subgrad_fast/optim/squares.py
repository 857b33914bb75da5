"""The norm of gradients that several processes hold parts of: what each finds, brought together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.optimizer import Optimizer

from subgrad_fast._core.clip import Clipping, Measured
from subgrad_fast._core.optimizer import Plan
from subgrad_fast.optim.dtensor import any_sharded, sharded_dims

# Sums of squares as (value, exponent), in the last of the dimensions.
Squares = NDArray[np.float64]


def all_squares(params: Sequence[Tensor], own: Squares) -> Squares:
    """The sums of squares that all processes have found, in the order of their ranks.

    Asks by one ``all_gather`` along each dimension of a mesh that shards any of the parameters, and
    by none where there is no such dimension. What is replicated counts once, and so does a
    parameter that is no DTensor.

    Args:
        params: all that the optimizer has, in every process in the same order.
        own: shape (parameters, 2), of what lies here.

    Returns:
        Shape (processes, parameters, 2); zeros where a process has nothing to add.
    """
    by_mesh: dict[Any, dict[int, tuple[int, ...]]] = {}
    for i, param in enumerate(params):
        if dims := sharded_dims(param):
            mesh = param.device_mesh  # type: ignore[attr-defined]
            by_mesh.setdefault(mesh, {})[i] = dims
    found = own[np.newaxis].copy()
    for mesh, members in by_mesh.items():
        among = sorted(set().union(*members.values()))
        indices = list(members)
        gathered = _gathered(mesh, among, own[indices])
        for j, dims in enumerate(members.values()):
            # Replicas: only the first along each dimension counts.
            for axis in (k for k, d in enumerate(among) if d not in dims):
                replicas = np.moveaxis(gathered, axis, 0)[1:]
                replicas[..., j, :] = 0.0
        parts = gathered.reshape(-1, len(indices), 2)
        if len(parts) > len(found):
            found = np.concatenate([found, np.zeros((len(parts) - len(found), *own.shape))])
        found[: len(parts), indices] = parts
    return found


def _gathered(mesh: Any, dims: list[int], own: Squares) -> Squares:
    """What processes have along these dimensions of a mesh, which come first in the result."""
    import torch.distributed as dist

    block = torch.from_numpy(own).to(mesh.device_type)
    for dim in reversed(dims):
        parts = [torch.empty_like(block) for _ in range(mesh.size(dim))]
        dist.all_gather(parts, block, group=mesh.get_group(dim))
        block = torch.stack(parts)
    return block.cpu().numpy()


def measured_together(
    optimizer: Optimizer,
    torchs: Sequence[tuple[int, Tensor]],
    found: list[Measured],
    own: Squares | None = None,
) -> tuple[list[Measured], Squares]:
    """What all processes have measured of the gradients of a step.

    Args:
        optimizer: whose parameters they are of.
        torchs: parameters, with the numbers of their groups, that torch has measured here.
        found: what it has found of them.
        own: shape (parameters, 2), what the kernels have found of the others; None for nothing.

    Returns:
        `found` of whole tensors, and shape (processes, parameters, 2) of all.
    """
    params = [p for group in optimizer.param_groups for p in group["params"]]
    position = {param: i for i, param in enumerate(params)}
    own = np.zeros((len(params), 2)) if own is None else own
    for (_, param), measured in zip(torchs, found, strict=True):
        own[position[param]] = measured.squares, 0.0
    squares = all_squares(params, own)
    together = [
        Measured.together(m.group, squares[:, [position[param]]], m.wide)
        for (_, param), m in zip(torchs, found, strict=True)
    ]
    return together, squares


def squares_of_step(optimizer: Optimizer, stepped: Sequence[Tensor], own: Squares) -> Squares:
    """`all_squares` of a step's gradients.

    Args:
        stepped: the parameters that have one.
        own: shape (stepped, 2).

    Returns:
        Shape (processes, stepped, 2).
    """
    params = [p for group in optimizer.param_groups for p in group["params"]]
    position = {param: i for i, param in enumerate(params)}
    indices = [position[param] for param in stepped]
    whole = np.zeros((len(params), 2))
    whole[indices] = own
    return all_squares(params, whole)[:, indices]


def judge_with_others(
    optimizer: Optimizer,
    plan: Plan,
    torchs: Sequence[tuple[int, Tensor]],
    others: list[Measured],
    asked: bool,
) -> Clipping:
    """``plan.judge`` in all processes together, if the optimizer has DTensors and a norm is asked.

    Args:
        torchs, others: what is measured elsewhere than in the plan. Of `others` those that are
            `torchs` come first.
    """
    if not (asked and any_sharded(optimizer)):
        return plan.judge(others)
    count = len(torchs)
    together, squares = measured_together(optimizer, torchs, others[:count], plan.squares())
    return plan.judge([*together, *others[count:]], squares)
