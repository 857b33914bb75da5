"""Parameters that several processes hold together: torch's DTensors, each stepped by its shard.

A *shard* is the plain tensor behind a DTensor that lies in this process. An elementwise step on
every shard, sharded or replicated, is the step on the whole. Only a norm asks the other processes.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from subgrad_fast.optim.tensors import is_dense, new_buffer, why_not_covered

# A DTensor. The name is not imported: to load torch.distributed.tensor takes as long as torch.
DTensor = Any


def shard_of(tensor: Tensor) -> Tensor | None:
    """What of a DTensor lies in this process; None for any other tensor, subclasses too."""
    module = sys.modules.get("torch.distributed.tensor")
    if module is None or type(tensor) is not module.DTensor:
        return None
    shard: Tensor = tensor._local_tensor  # type: ignore[attr-defined]
    return shard


def shards_of(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The tensors, of DTensors the shards."""
    return [tensor if (shard := shard_of(tensor)) is None else shard for tensor in tensors]


def refuse_pending(params: Iterable[Tensor]) -> None:
    """Raises ValueError for a DTensor that waits to be summed: its shards are no weights yet."""
    for i, param in enumerate(params):
        if shard_of(param) is not None and any(p.is_partial() for p in _placements(param)):
            raise ValueError(
                f"params[{i}]: expected a DTensor that is sharded or replicated, "
                f"got the placements {_placements(param)}"
            )


def refuse_pending_group(optimizer: Optimizer) -> None:
    """`refuse_pending` for the group that was added last, which is then gone again."""
    try:
        refuse_pending(optimizer.param_groups[-1]["params"])
    except ValueError:
        optimizer.param_groups.pop()
        raise


def _placements(tensor: DTensor) -> tuple[Any, ...]:
    placements: tuple[Any, ...] = tensor.placements
    return placements


def _lies_like(tensor: DTensor, param: DTensor) -> bool:
    """Whether processes hold the same parts of both."""
    same: bool = tensor.device_mesh == param.device_mesh and _placements(tensor) == _placements(
        param
    )
    return same


def as_param(shard: Tensor, param: DTensor) -> Tensor:
    """A DTensor around a shard of the shape of the parameter's, distributed as the parameter is.

    Made of the parameter's own spec: the sizes of uneven shards follow from nothing else, and the
    order in which several mesh dimensions shard one dimension is kept.
    """
    spec = copy.copy(param._spec)
    spec.tensor_meta = spec.tensor_meta._replace(dtype=shard.dtype)
    made: Tensor = type(param)(shard, spec, requires_grad=False)
    return made


def made_for(param: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
    """What `make` makes of a parameter; of a DTensor's shard, as a DTensor."""
    shard = shard_of(param)
    return make(param) if shard is None else as_param(make(shard), param)


def distributed_like(tensor: Tensor, param: Tensor) -> Tensor:
    """A DTensor of state as its parameter is distributed; any other tensor as it is.

    Of torch's making a momentum buffer is as its first gradient was, which may wait to be summed.
    """
    if shard_of(tensor) is None or shard_of(param) is None or _lies_like(tensor, param):
        return tensor
    with torch.no_grad():
        moved: Tensor = tensor.redistribute(  # type: ignore[attr-defined]
            param.device_mesh,  # type: ignore[attr-defined]
            _placements(param),
        )
    return moved


def whole_as(tensor: Tensor, param: Tensor) -> Tensor:
    """A whole tensor as a DTensor like `param`, where that is one; any other as it is.

    Every process has the whole and takes its part of it.
    """
    if shard_of(param) is None or shard_of(tensor) is not None:
        return tensor
    part = tensor.detach()
    for dim in range(part.dim()):
        part = part.index_select(dim, held_indices(param, dim).to(part.device))
    return as_param(part, param)


def held_indices(param: Tensor, dim: int) -> Tensor:
    """Which indices along a dimension of a DTensor lie in this process, ascending.

    Raises:
        ValueError: torch distributes the tensor in a way that is unknown here.
    """
    shard = shard_of(param)
    assert shard is not None  # callers have looked
    mesh: Any = param.device_mesh  # type: ignore[attr-defined]
    coordinate = mesh.get_coordinate()
    indices = torch.arange(param.shape[dim])
    for d, placement in enumerate(_placements(param)):
        if placement.is_replicate() or placement.dim != dim:
            continue
        if hasattr(placement, "split_factor"):  # other dimensions of the mesh have split it before
            parts = placement._split_tensor(indices, mesh.size(d), with_padding=False)[0]
        else:
            parts = indices.chunk(mesh.size(d))
        here = coordinate[d]
        indices = parts[here] if here < len(parts) else indices[:0]
    if len(indices) != shard.shape[dim]:
        raise ValueError(
            f"params: a DTensor of shape {tuple(param.shape)} and placements {_placements(param)} "
            f"has a shard of shape {tuple(shard.shape)}, which is none of torch's chunks"
        )
    return indices


def own_shards(state: dict[Any, Any], names: Sequence[str]) -> None:
    """Makes DTensors of an optimizer's state like their parameters, in memory of ours.

    Args:
        state: by parameter.
        names: of the slots.
    """
    for param, slots in state.items():
        if not isinstance(slots, dict) or shard_of(param) is None:
            continue
        for name in names:
            if not isinstance(slots.get(name), Tensor) or shard_of(slots[name]) is None:
                continue
            slots[name] = distributed_like(slots[name], param)
            shard = shard_of(slots[name])
            if shard is not None and is_dense(shard) and shard.device.type == "cpu":
                slots[name] = as_param(new_buffer(shard).copy_(shard), param)


def why_shard_not_covered(
    param: Tensor, buffer: Tensor | None, average: Tensor | None = None
) -> str | None:
    """`why_not_covered`, of a DTensor and its state for the shards; on a device it is torch's."""
    own = shard_of(param)
    if own is None:
        return why_not_covered(param, buffer, average)
    if own.device.type != "cpu":
        return f"the parameter is a DTensor on {own.device}"
    others = []
    for name, tensor in (("momentum buffer", buffer), ("average", average)):
        shard = None if tensor is None else shard_of(tensor)
        if tensor is not None and (shard is None or not _lies_like(tensor, param)):
            return f"the {name} is not distributed as its parameter, a DTensor, is"
        others.append(shard)
    return why_not_covered(own, *others)


def is_shard_covered(param: Tensor, buffer: Tensor | None, average: Tensor | None = None) -> bool:
    """Whether the kernels can step a parameter, a DTensor by its shard."""
    return why_shard_not_covered(param, buffer, average) is None


def align_gradients(params: Iterable[Tensor]) -> None:
    """Makes gradients that are distributed otherwise than their parameters like them."""
    for param in params:
        if param.grad is not None and shard_of(param) is not None:
            aligned = distributed_like(param.grad, param)
            if aligned is not param.grad:
                param.grad = aligned


def sharded_dims(param: Tensor) -> tuple[int, ...]:
    """The dimensions of a DTensor's mesh along which processes hold different parts of it."""
    if shard_of(param) is None:
        return ()
    mesh: Any = param.device_mesh  # type: ignore[attr-defined]
    return tuple(
        d for d, p in enumerate(_placements(param)) if not p.is_replicate() and mesh.size(d) > 1
    )


def any_sharded(optimizer: Optimizer) -> bool:
    """Whether a parameter is a DTensor."""
    if "torch.distributed.tensor" not in sys.modules:
        return False
    return any(shard_of(p) is not None for g in optimizer.param_groups for p in g["params"])
