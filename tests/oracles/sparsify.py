"""Sparse weights written from their formulas in NumPy: the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.oracles.dense import fma, soft_threshold

Array = np.ndarray[Any, Any]


def wide(dtype: np.dtype) -> Any:
    """What an element type is computed in."""
    return np.float64 if dtype == np.float64 else np.float32


def want_soft(x: Array, lam: float, l2: float = 0.0) -> Array:
    c = wide(x.dtype)
    with np.errstate(all="ignore"):
        return (soft_threshold(x.astype(c), c(lam)) * c(1.0 / (1.0 + l2))).astype(x.dtype)


def want_group(x: Array, lam: float) -> Array:
    """Row sums as documented: 16 sums of every 16th element a block of 512, halves folded."""
    rows = x.reshape(len(x), x.size // max(len(x), 1))
    c = wide(x.dtype)
    total = np.zeros(len(rows))
    with np.errstate(all="ignore"):
        for start in range(0, rows.shape[1], 512):
            block = rows[:, start : start + 512].astype(np.float64)
            block = np.pad(block, ((0, 0), (0, -block.shape[1] % 16)))
            sums = np.zeros((len(rows), 16))
            for step in np.split(block, block.shape[1] // 16, axis=1):
                # The square of anything narrower than float64 is exact.
                exact = x.dtype != np.float64
                sums = sums + step * step if exact else fma(step, step, sums)
            for half in (8, 4, 2, 1):
                sums = sums[:, :half] + sums[:, half : 2 * half]
            total += sums[:, 0]
        scale = (1.0 - lam / np.sqrt(total))[:, None]
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
