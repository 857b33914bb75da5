"""One threshold for parameters of which other processes have the rest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from subgrad_fast._core.threshold import Peers
from subgrad_fast.optim.dtensor import held_indices, shard_of, sharded_dims


def peers_of(params: list[Tensor]) -> Peers | None:
    """The processes that hold a scope together; None where every process has all of it.

    Elements are counted through whole tensors, row by row, so that the processes choose the same
    ones as a single process would. Of replicas the first process counts.

    Raises:
        ValueError: the parameters are sharded over several meshes, or a shard is not row-major.
    """
    dims_of = [sharded_dims(param) for param in params]
    meshes = {p.device_mesh for p, dims in zip(params, dims_of, strict=True) if dims}  # type: ignore[attr-defined]
    if not meshes:
        return None
    if len(meshes) > 1:
        raise ValueError(
            f"scope: one threshold needs one mesh, got parameters sharded over {len(meshes)}"
        )
    mesh: Any = meshes.pop()
    among = sorted(set().union(*dims_of))
    coordinate = mesh.get_coordinate()
    parts, elements = [], 0
    for i, (param, dims) in enumerate(zip(params, dims_of, strict=True)):
        shard = shard_of(param)
        if not (param if shard is None else shard).is_contiguous():
            raise ValueError(
                f"params[{i}]: expected a row-major shard, as one threshold is for all processes"
            )
        counted = all(coordinate[d] == 0 for d in among if d not in dims)
        parts.append((counted, elements, _steps(param)))
        elements += param.numel()
    return Peers(parts, elements, _Sum(mesh, among))


def _steps(param: Tensor) -> list[list[int]]:
    """By dimension, what each index along it that lies here adds to an element's position."""
    steps = []
    for dim, size in enumerate(param.shape):
        stride = math.prod(param.shape[dim + 1 :])
        held = torch.arange(size) if shard_of(param) is None else held_indices(param, dim)
        steps.append((held * stride).tolist())
    return steps


class _Sum:
    """Adds counts up over the processes along some dimensions of a mesh, in place."""

    def __init__(self, mesh: Any, dims: list[int]) -> None:
        self.mesh = mesh
        self.dims = dims

    def __call__(self, counts: NDArray[np.int64]) -> None:
        import torch.distributed as dist

        mine = torch.from_numpy(counts)
        sums = mine.to(self.mesh.device_type)
        for dim in self.dims:
            dist.all_reduce(sums, group=self.mesh.get_group(dim))
        if sums is not mine:
            mine.copy_(sums)


class PeersOfGroups:
    """The peers of an optimizer's groups, kept from step to step."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[list[Any], Peers | None]] = {}

    def of(self, group: int, params: list[Tensor]) -> Peers | None:
        """`peers_of` a group's parameters; made anew when one of them is distributed anew."""
        if all(shard_of(param) is None for param in params):
            return None
        seen = [x for p in params for x in (p, getattr(p, "_spec", None), shard_of(p))]
        kept = self._kept.get(group)
        same = kept is not None and len(kept[0]) == len(seen)
        if kept is None or not (same and all(map(_is, kept[0], seen))):
            kept = self._kept[group] = seen, peers_of(params)
        return kept[1]


def _is(a: Any, b: Any) -> bool:
    return a is b
