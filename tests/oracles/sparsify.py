"""Sparse weights written from their formulas in NumPy: the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.oracles.dense import as_threshold, fma, soft_threshold

Array = np.ndarray[Any, Any]


def wide(dtype: np.dtype) -> Any:
    """What an element type is computed in."""
    return np.float64 if dtype == np.float64 else np.float32


def want_soft(x: Array, lam: float, l2: float = 0.0) -> Array:
    c = wide(x.dtype)
    with np.errstate(all="ignore"):
        shrunk = soft_threshold(x.astype(c), as_threshold(lam, c))
        return (shrunk * c(1.0 / (1.0 + l2))).astype(x.dtype)


def sum_squares(rows: Array) -> Array:
    """As documented: 16 sums of every 16th element a block of 512, halves folded."""
    total = np.zeros(len(rows))
    for start in range(0, rows.shape[1], 512):
        block = rows[:, start : start + 512].astype(np.float64)
        block = np.pad(block, ((0, 0), (0, -block.shape[1] % 16)))
        sums = np.zeros((len(rows), 16))
        for step in np.split(block, block.shape[1] // 16, axis=1):
            # The square of anything narrower than float64 is exact.
            exact = rows.dtype != np.float64
            sums = sums + step * step if exact else fma(step, step, sums)
        for half in (8, 4, 2, 1):
            sums = sums[:, :half] + sums[:, half : 2 * half]
        total += sums[:, 0]
    return total


def want_group(x: Array, lam: float) -> Array:
    rows = x.reshape(len(x), x.size // max(len(x), 1))
    c = wide(x.dtype)
    with np.errstate(all="ignore"):
        total, factor = sum_squares(rows), np.ones(len(rows))
        if x.dtype == np.float64:  # squares that leave it are summed at another scale
            factor = np.where(total < 2.0**-900, 2.0**600, factor)
            factor = np.where(total == np.inf, 2.0**-600, factor)
            scaled = sum_squares(rows * factor[:, None])
            total = np.where(factor == 1.0, total, scaled)
        scale = (1.0 - lam * factor / np.sqrt(total))[:, None]
        out = (rows.astype(c) * scale.astype(c)).astype(x.dtype)
    return np.where(scale <= 0, np.zeros_like(out), out).reshape(x.shape)


def want_largest(rows: Array, k: int) -> Array:
    """The k largest magnitudes of every row; NaN before all others, else the first of equals."""
    values = rows.astype(np.float64)
    kept = np.lexsort((-np.abs(values), ~np.isnan(values)), axis=-1)[:, :k]
    out = np.zeros_like(rows)
    np.put_along_axis(out, kept, np.take_along_axis(rows, kept, -1), -1)
    return out


def want_n_m(x: Array, n: int, m: int) -> Array:
    return want_largest(x.reshape(-1, m), n).reshape(x.shape)


def want_hard(x: Array, density: float) -> Array:
    k = max(int(np.floor(density * x.size + 0.5)), min(x.size, 1))
    return want_largest(x.reshape(1, -1), k).reshape(x.shape)
