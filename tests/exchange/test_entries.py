"""Packing and merging the entries that processes exchange, against NumPy."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import numpy as np
import pytest

from subgrad_fast import _core
from tests.bits import assert_same_bits
from tests.cases import DTYPES
from tests.oracles.exchange import narrowed
from tests.threads import run_threads


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


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_beyond_the_range_are_the_largest_number(dtype: str) -> None:
    """A third of 65504 is rounded up, and three of these are beyond what float16 can hold."""
    t = DTYPES[dtype]
    most = narrowed(np.float32([3.4e38]), t)[0]
    values = [np.array([most, -most, np.inf, np.nan], t)] * 3
    rows = packed([np.arange(4)] * 3, values, t, False)
    out = np.zeros(4, t)
    _core.exchange.merge(out, rows, [4, 4, 4], False, 1 / 3)
    assert_same_bits(out, np.array([most, -most, np.inf, np.nan], t))


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
    v = np.float32([1.0, 1 / 3, -1e-9, -3.4e38, np.inf, np.nan, -0.0, 70000.0])
    sent = narrowed(v, t)
    assert np.isfinite(sent[[3, 7]].astype(np.float32)).all()
    with np.errstate(invalid="ignore"):
        rest = v - sent.astype(np.float32)
    rest[~np.isfinite(rest) | (rest == 0)] = -0.0
    assert rest[3] < 0 != rest[7]
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


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "behind the residual": ({"indices": np.int32([0, 8])}, r"parts\[0\]: .* indices below 8"),
    "behind the vector": (
        {"indices": np.int32([0, 9]), "offset": 41, "residual": None},
        r"parts\[0\]: .* indices below 9",
    ),
    "the vector's end": (
        {"indices": np.int32([1, 5]), "offset": 45},
        r"parts\[0\]: .* indices below 5",
    ),
    "in front": ({"indices": np.int32([-1, 3])}, r"parts\[0\]: .* indices below 8"),
    "descending": ({"indices": np.int32([3, 1])}, r"parts\[0\]: expected ascending"),
    "every other": ({"indices": np.arange(4, dtype=np.int32)[::2]}, r"parts\[0\]: entries do not"),
    "values apart": ({"values": np.ones(4, np.float32)[::2]}, r"parts\[0\]: entries do not fit"),
    "offset": ({"offset": -1}, r"parts\[0\]: expected an offset of \[0, 50\], got -1"),
    "far": ({"offset": 51}, r"parts\[0\]: expected an offset of \[0, 50\], got 51"),
    "residual": ({"residual": np.broadcast_to(np.float32(1), 8)}, r"residual\[0\]: "),
    "payload apart": (
        {"payload": np.zeros(256, np.uint8)[::2]},
        "payload: expected a writable run",
    ),
    "odd payload": ({"payload": np.zeros(129, np.uint8)[1:]}, "payload: expected .* aligned"),
    "objects": ({"payload": np.zeros(16, object)}, "payload: expected a writable run of bytes"),
    "read-only": ({"payload": np.frombuffer(bytes(128), np.uint8)}, "payload: expected a writable"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_pack_refuses_what_would_read_or_write_elsewhere(case: str) -> None:
    changed, message = REFUSED[case]
    room = np.full(10, 7, np.float32)
    given = {
        "payload": np.zeros(128, np.uint8),
        "indices": np.int32([1, 3]),
        "values": np.ones(2, np.float32),
        "offset": 40,
        "residual": room[1:9],
    }
    part = ("indices", "values", "offset", "residual")
    like = np.zeros(50, np.float32)

    def pack(given: dict[str, Any]) -> None:
        _core.exchange.pack(given["payload"], like, False, [tuple(given[name] for name in part)])

    before = changed.get("payload", given["payload"]).copy()
    with pytest.raises(ValueError, match=message):
        pack(given | changed)
    assert (room == 7).all()
    assert np.array_equal(changed.get("payload", given["payload"]), before)
    pack(given)
    assert given["payload"].view(np.int32)[:2].tolist() == [41, 43]
    assert room.tolist() == [7, 7, -0.0, 7, -0.0, 7, 7, 7, 7, 7]


def test_indices_that_another_thread_rewrites_are_looked_at_again() -> None:
    n = 100_000
    right = np.arange(n, dtype=np.int32)
    indices, values = right.copy(), np.ones(n, np.float32)
    guarded = np.full(3 * n, 7, np.float32)
    residual, like = guarded[n : 2 * n], np.zeros(n, np.float32)
    payload = np.zeros(-(-n // 16) * 16 * 8, np.uint8)
    packed = threading.Event()

    def write() -> None:
        while not packed.is_set():
            indices[:] = right + n // 2
            indices[:] = right - n // 2
            indices[:] = right

    def pack() -> None:
        for _ in range(300):
            with contextlib.suppress(ValueError):
                _core.exchange.pack(payload, like, False, [(indices, values, 0, residual)])
        packed.set()

    assert run_threads(write, pack) == []
    assert (guarded[:n] == 7).all() and (guarded[2 * n :] == 7).all()
