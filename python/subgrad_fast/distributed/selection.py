"""Which entries of a bucket's tensors are sent."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from subgrad_fast._arrays import raw_view
from subgrad_fast._core.select import select


def choose(
    tensors: list[Tensor],
    threshold: float | None,
    density: float | None,
    k: int | None,
    *,
    together: bool,
    wide: bool,
) -> list[Any]:
    """Indices, values and threshold of every tensor, as NumPy arrays of their bytes.

    together: whether all tensors are ranked as one; wide: whether indices have 64 bits.
    """
    if k is None:
        parts = select(tensors, threshold, density, None, together, not wide)
    else:
        parts = []
        for scope in [tensors] if together else [[tensor] for tensor in tensors]:
            most = min(k, sum(tensor.numel() for tensor in scope))
            parts += select(scope, None, None, most, True, not wide)
    return [
        (raw_view(indices, "indices"), raw_view(values, "values"), limit)
        for indices, values, limit in parts
    ]
