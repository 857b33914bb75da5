"""The order of magnitudes and the largest of them by a stable sort in NumPy: the oracle."""

from __future__ import annotations

import numpy as np


def computed(x: np.ndarray) -> np.ndarray:
    """Flat, in the type that magnitudes are compared in."""
    with np.errstate(all="ignore"):
        return x.astype(np.float64 if x.dtype == np.float64 else np.float32).ravel()


def keys(x: np.ndarray) -> np.ndarray:
    """Integers that order as the magnitudes do; every NaN alike, one above infinity."""
    unsigned = np.dtype(f"u{x.itemsize}")
    bits = np.ascontiguousarray(np.abs(x)).view(unsigned).astype(np.int64)
    infinity = int(np.array(np.inf, x.dtype).view(unsigned))
    return np.minimum(bits, infinity + 1)


def ranked(arrays: list[np.ndarray]) -> np.ndarray:
    """Positions by descending magnitude: a stable sort leaves ties in their order."""
    return np.argsort(-np.concatenate([keys(computed(x)) for x in arrays]), kind="stable")


def top(arrays: list[np.ndarray], k: int) -> list[np.ndarray]:
    """The indices of the k largest of all arrays, ascending."""
    kept = np.sort(ranked(arrays)[:k])
    ends = np.cumsum([x.size for x in arrays])
    return [
        kept[(kept >= end - x.size) & (kept < end)] - (end - x.size)
        for x, end in zip(arrays, ends, strict=True)
    ]
