"""Comparisons bit for bit."""

from __future__ import annotations

import numpy as np


def assert_same_bits(got: np.ndarray, want: np.ndarray, what: str = "") -> None:
    """Equal bit for bit, zeros' signs too; a NaN equals any NaN. Names the distance in ULPs."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype and got.shape == want.shape
    integers = np.dtype(f"i{got.dtype.itemsize}")
    a, b = np.ascontiguousarray(got).view(integers), np.ascontiguousarray(want).view(integers)
    nan = np.isnan(got.astype(np.float64)) & np.isnan(want.astype(np.float64))
    differ = (a != b) & ~nan
    if differ.any():
        i = tuple(np.argwhere(differ)[0])
        ulps = int(np.abs(a.astype(object) - b.astype(object))[differ].max())
        raise AssertionError(
            f"{what}: {differ.sum()} of {got.size} elements differ, by up to {ulps} ULPs; "
            f"first at {i}: got {got[i]!r}, want {want[i]!r}"
        )


def assert_same_bytes(got: np.ndarray, want: np.ndarray) -> None:
    """The same dtype, shape and bytes: of any dtype, NaN's payloads too."""
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert got.tobytes() == want.tobytes()
