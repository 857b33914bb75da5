"""Packing and merging the entries that processes exchange, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from subgrad_fast import _core
from tests.bits import assert_same_bits
from tests.cases import DTYPES


def packed(
    indices: list[np.ndarray], values: list[np.ndarray], dtype: np.dtype, wide: bool
) -> np.ndarray:
    """Payloads of one length, one a row."""
    index = np.dtype(np.int64 if wide else np.int32)
    capacity = -(-max(map(len, indices)) // 16) * 16
    rows = np.zeros((len(indices), capacity * (index.itemsize + dtype.itemsize)), np.uint8)
    for row, i, v in zip(rows, indices, values, strict=True):
        row[: i.size * index.itemsize] = i.astype(index).view(np.uint8)
        start = capacity * index.itemsize
        row[start : start + v.size * dtype.itemsize] = v.view(np.uint8)
    return rows


@pytest.mark.parametrize("wide", [False, True], ids=["int32", "int64"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 17, 4095, 4096, 4097, 300_000])
def test_merge(threads: Any, n: int, dtype: str, wide: bool) -> None:
    rng = np.random.default_rng(n)
    t = DTYPES[dtype]
    c = np.dtype(np.float64) if dtype == "float64" else np.dtype(np.float32)
    indices = [np.flatnonzero(rng.random(n) < density) for density in (0.5, 0.01, 0.0)]
    values = [rng.standard_normal(i.size).astype(t) for i in indices]
    want = np.full(n, -0.0, c)
    for i, v in zip(indices, values, strict=True):
        want[i] = want[i] + (v.astype(c) * c.type(1 / 3)).astype(t).astype(c)
    for count in (1, 2, 4):
        threads(count)
        out = np.full(n, 7, t)
        counts = [i.size for i in indices]
        _core.exchange.merge(out, packed(indices, values, t, wide), counts, wide, 1 / 3)
        assert_same_bits(out, want.astype(t))


@pytest.mark.parametrize(
    "indices", [[0, 1, 1], [2, 1, 0], [-1, 0, 1], [5, 6, 8]], ids=["twice", "down", "-1", "8"]
)
def test_merge_refuses_what_would_write_elsewhere(indices: list[int]) -> None:
    f32 = np.dtype(np.float32)
    good, values = np.array([0, 3, 7]), np.ones(3, np.float32)
    out = np.full(10, 7, np.float32)[1:9]
    rows = packed([good, np.array(indices)], [values, values], f32, False)
    with pytest.raises(ValueError, match="what rank 1 sent is not 3 ascending indices below 8"):
        _core.exchange.merge(out, rows, [3, 3], False, 0.5)
    with pytest.raises(ValueError, match="what rank 0 sent is not 17 ascending"):
        _core.exchange.merge(out, rows, [17, 3], False, 0.5)
    with pytest.raises(ValueError, match="one row of bytes per count"):
        _core.exchange.merge(out, rows, [3], False, 0.5)
    assert (out.base == 7).all()
    _core.exchange.merge(out, packed([good], [values], f32, False), [3], False, 0.5)
    assert out.tolist() == [0.5, 0, 0, 0.5, 0, 0, 0, 0.5]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_packing_keeps_what_rounding_loses(dtype: str) -> None:
    t = DTYPES[dtype]
    v = np.float32([1.0, 1 / 3, -1e-9, 3e38, np.inf, np.nan, -0.0, 70000.0])
    with np.errstate(over="ignore", invalid="ignore"):
        sent = v.astype(t)
        rest = v - sent.astype(np.float32)
    rest[~np.isfinite(rest) | (rest == 0)] = -0.0
    assert (rest != 0).sum() >= 2
    residual = np.concatenate([v, np.float32([5])])
    indices = np.arange(8, dtype=np.int32)
    payload = np.zeros(16 * 6, np.uint8)
    _core.exchange.pack(payload, np.zeros(50, t), False, [(indices, v, 40, residual)])
    assert payload[:32].view(np.int32).tolist() == list(range(40, 48))
    assert_same_bits(payload[64:80].view(t), sent)
    assert_same_bits(residual, np.concatenate([rest, np.float32([5])]))


def test_pack_refuses_what_does_not_fit() -> None:
    like, residual = np.zeros(100, np.float32), np.zeros(100, np.float32)
    indices, values = np.arange(17, dtype=np.int32), np.ones(17, np.float32)
    payload = np.zeros(16 * 8, np.uint8)
    with pytest.raises(ValueError, match="payload: no room for 17 entries"):
        _core.exchange.pack(payload, like, False, [(indices, values, 0, residual)])
    for part in (
        (indices[:3], values[:2], 0, residual),
        (indices[:3].astype(np.int64), values[:3], 0, residual),
        (indices[:3], values[:3].astype(np.float64), 0, residual),
    ):
        with pytest.raises(ValueError, match=r"parts\[0\]: entries do not fit"):
            _core.exchange.pack(payload, like, False, [part])
    wrong = residual.astype(np.float64)
    with pytest.raises(TypeError, match=r"residual\[0\]: expected float32"):
        _core.exchange.pack(payload, like, False, [(indices[:3], values[:3], 0, wrong)])
    assert not payload.any() and not residual.any()
