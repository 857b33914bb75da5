"""Row numbers, as data sets and samplers of torch's world give them."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Rows: TypeAlias = "npt.NDArray[np.int64]"


class Refused(Exception):  # noqa: N818  nobody is to see it
    """Says why items are not rows of arrays that a loader could gather."""


def as_rows(indices: Any, n: int) -> Rows | None:
    """Row numbers of `n` rows as an int64 array, negative ones from the end, as torch takes them.
    None if they are anything else, or out of range."""
    try:
        rows = np.asarray(indices)
    except (TypeError, ValueError, RuntimeError):
        return None
    if rows.ndim != 1 or (rows.dtype.kind not in "iu" and rows.size > 0):
        return None
    if rows.size == 0:
        return rows.astype(np.int64)
    least, most = int(rows.min()), int(rows.max())
    if least < -n or most >= n:
        return None
    rows = rows.astype(np.int64, copy=False)
    return rows if least >= 0 else np.where(rows < 0, rows + n, rows)
