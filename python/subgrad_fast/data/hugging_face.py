"""Hugging Face data sets whose formatted columns are arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from subgrad_fast.data.rows import Refused

# Columns are read into memory at the first pass. A table of more bytes stays where it is.
_MOST_BYTES = 1 << 30


def columns_of(dataset: Any) -> dict[str, Any]:
    """The columns of a ``datasets.Dataset`` in numpy or torch format, as that format gives them.

    Raises:
        Refused: it has another format, or columns that are not arrays.
    """
    kind = dataset.format["type"]
    if kind not in ("numpy", "torch"):
        raise Refused(
            f"dataset: of format {kind}; with_format('torch') makes arrays of its columns"
        )
    if dataset.data.nbytes > _MOST_BYTES:
        raise Refused(f"dataset: has {dataset.data.nbytes} bytes, too many to be kept in memory")
    columns = dataset[:]
    for name, item in dataset[0].items():
        column = columns[name]
        whole = isinstance(column, np.ndarray | torch.Tensor) and len(column) == len(dataset)
        same = whole and (column[0].shape, column.dtype) == (
            getattr(item, "shape", None),
            getattr(item, "dtype", None),
        )
        if not same:
            raise Refused(f"dataset: its column {name!r} is no array of equal rows")
    return dict(columns)
