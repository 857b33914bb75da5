"""Which entries of a bucket's tensors are sent."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from subgrad_fast._arguments import integer, one_of
from subgrad_fast._arrays import raw_view
from subgrad_fast._core.select import select
from subgrad_fast.select.selectors import check_density, check_threshold


def check_choice(threshold: Any, density: Any, k: Any, scope: Any) -> None:
    """Raises unless exactly one of the first three is given and all make sense.

    Raises:
        TypeError, ValueError: they do not.
    """
    if threshold is not None:
        check_threshold(threshold)
    if density is not None:
        check_density(density)
    if k is not None:
        integer("k", k)
    choices = {"threshold": threshold, "density": density, "k": k}
    given = [name for name, choice in choices.items() if choice is not None]
    if len(given) != 1:
        raise ValueError(
            "threshold, density, k: expected exactly one of them, "
            f"got {' and '.join(given) or 'none'}"
        )
    one_of("scope", scope, "tensor", "bucket")


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
