"""What a thresholded step reports, and which tensors share a threshold in it."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from subgrad_fast import _core
from subgrad_fast._arrays import Array, is_torch
from subgrad_fast.select.magnitudes import Selection

# Equal ones are made once, as in selectors.core_selector.
core_placement = lru_cache(1 << 14)(_core.Placement)

INDEX_BYTES = {None: 0, "int32": 4, "int64": 8}


@dataclass(frozen=True)
class ThresholdResult:
    """What a thresholded step did.

    Attributes:
        kept: how many elements were applied, one number for each tensor.
        sizes: how many elements there are, likewise.
        thresholds: the least magnitude that was applied (of exact selection: the k-th largest), one
            for each tensor; infinity where nothing was to be kept.
        energies: sums of squares (of what was kept, of what was not), a pair for each tensor; None
            unless measured. The same bits on every instruction set and number of threads.
        selections: what was applied, one `Selection` for each tensor; None unless asked for.
    """

    kept: list[int]
    sizes: list[int]
    thresholds: list[float]
    energies: list[tuple[float, float]] | None = None
    selections: list[Selection] | None = None

    @property
    def density(self) -> float:
        """The share of elements that were applied; 0 of no elements."""
        return sum(self.kept) / max(1, sum(self.sizes))

    @property
    def energy_kept(self) -> float | None:
        """The applied share of the sum of squares; 1 where there is none. None unless measured."""
        if self.energies is None:
            return None
        kept, rest = (math.fsum(e) for e in zip((0.0, 0.0), *self.energies, strict=True))
        return kept / (kept + rest) if kept + rest != 0.0 else 1.0

    @property
    def residual_norm(self) -> float | None:
        """The Euclidean norm of what was not applied. None unless measured."""
        if self.energies is None:
            return None
        return math.sqrt(math.fsum(rest for _, rest in self.energies))


class Scopes:
    """Which tensors share a threshold, and how it was chosen."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.of_tensor: list[int] = []
        self.tensor_sizes: list[int] = []

    def add(self, sizes: list[int], *, together: bool) -> None:
        """More tensors, of those sizes: in one scope, or each in one of its own."""
        first, n = len(self.sizes), len(sizes)
        self.of_tensor += [first] * n if together else range(first, first + n)
        if n > 0:
            self.sizes += [sum(sizes)] if together else sizes
        self.tensor_sizes += sizes

    def kept(self, by_tensor: list[int]) -> list[int]:
        """Sums over the tensors of each scope."""
        sums = [0] * len(self.sizes)
        for scope, kept in zip(self.of_tensor, by_tensor, strict=True):
            sums[scope] += kept
        return sums


def size_of(array: Array) -> int:
    """The number of elements; 0 of what is no array, which the kernels refuse by name."""
    shape: Sequence[int] = getattr(array, "shape", (0,))
    return math.prod(shape)


def result_of(
    params: list[Array], scopes: Scopes, report: tuple[Any, ...], emit: str | None
) -> ThresholdResult:
    """The kernels' report as a `ThresholdResult`."""
    kept, thresholds, energies, selections = report
    by_tensor = [thresholds[scope] for scope in scopes.of_tensor]
    chosen = None
    if emit is not None:
        chosen = []
        for param, arrays, threshold in zip(params, selections, by_tensor, strict=True):
            kind = sys.modules["torch"].from_numpy if is_torch(param) else np.asarray
            indices, values = map(kind, arrays)
            chosen.append(Selection(indices, values, threshold))
    return ThresholdResult(kept, scopes.tensor_sizes, by_tensor, energies or None, chosen)
