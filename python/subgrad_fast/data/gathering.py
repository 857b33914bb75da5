"""Batches of in-memory data sets as torch's default_collate makes them, gathered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.data._utils.collate import (
    collate_numpy_array_fn,
    collate_numpy_scalar_fn,
    collate_tensor_fn,
    default_collate,
    default_collate_fn_map,
)

from subgrad_fast.data.datasets import InMemory
from subgrad_fast.data.rows import Rows, as_rows
from subgrad_fast.loading.fields import Fields
from subgrad_fast.loading.gathering import Collate, Gatherer
from subgrad_fast.loading.sources import Counted
from subgrad_fast.sampling.passes import Pass

_SCALARS = (np.bool_, np.number, np.object_)


def stacks_rows(collate_fn: Any) -> bool:
    """Whether it is torch's default, and has been told nothing new of tensors and arrays."""
    known = default_collate_fn_map
    return (
        collate_fn is default_collate
        and known.get(torch.Tensor) is collate_tensor_fn
        and known.get(np.ndarray) is collate_numpy_array_fn
        and known.get(_SCALARS) is collate_numpy_scalar_fn
        and not {tuple, dict} & set(known)
    )


class LookedUp(Counted):
    """A pass over one of our samplers, of the items of a Subset."""

    def __init__(self, batches: Pass, rows: Rows) -> None:
        super().__init__(batches)
        self.draw = self.draw_ahead = lambda: rows[batches.draw()]


class Gathering(Gatherer[Any]):
    """Gathers rows of a data set's arrays."""

    def __init__(self, found: InMemory, prefetch: int, pin: bool) -> None:
        # Fields hold memory, and are made anew where that of an array has become another.
        self._made_for = (found.memory(), found.structure, prefetch, pin)
        fields = Fields(found.arrays, pin=pin, pack=found.pack(), like=found.like)
        super().__init__(fields, prefetch)

    def serves(self, found: InMemory, prefetch: int, pin: bool) -> bool:
        """Whether this is what another would be that is made now."""
        return self._made_for == (found.memory(), found.structure, prefetch, pin)


def collating(found: InMemory, as_torch: Callable[[Any], Any]) -> Collate:
    """What makes a batch of anything that a sampler may give, of which `as_torch` makes one too."""
    rows, n = found.rows, found.n

    def collate(gather: Callable[[Any], Any], given: Any) -> Any:
        indices = as_rows(given, n)
        if indices is None:
            return as_torch(given)
        return gather(indices if rows is None else rows[indices])

    return collate
