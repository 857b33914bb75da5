"""Payloads of any bytes, merged: what is refused writes nothing, what is taken adds up."""

from __future__ import annotations

import numpy as np

from subgrad_fast import _core
from tests.bits import assert_same_bits
from tests.fuzz_bytes.layouts import FLOATS, Memory
from tests.fuzz_bytes.left_out import LEFT_OUT
from tests.fuzz_bytes.source import Source
from tests.oracles.exchange import narrowed


def _merged(
    payloads: np.ndarray, counts: list[int], index: np.dtype, scale: float, out: np.ndarray
) -> np.ndarray | None:
    """The sum that the payloads stand for; None where one cannot be read as entries."""
    t = out.dtype
    c = np.dtype(np.float64) if t == np.float64 else np.dtype(np.float32)
    total = np.full(out.size, -0.0, c)
    capacity = payloads.shape[1] // (index.itemsize + t.itemsize)
    for row, count in zip(payloads, counts, strict=True):
        if not 0 <= count <= capacity:
            return None
        indices = row[: count * index.itemsize].view(index).astype(np.int64)
        start = capacity * index.itemsize
        values = row[start : start + count * t.itemsize].view(t)
        inside = (indices >= 0) & (indices < out.size)
        if not inside.all() or (np.diff(indices) <= 0).any():
            return None
        with np.errstate(all="ignore"):
            share = (values.astype(c) * c.type(scale)).astype(t).astype(c)
            total[indices] = total[indices] + share
    return narrowed(total, t)


def merge(data: bytes) -> None:
    source = Source(data)
    memory = Memory(source)
    dtype = memory.dtype()
    n = source.pick([17, 0, 1, 100, 5])
    out = memory.array((n,), dtype) if source.flag() else np.full(n, 7, FLOATS[0]).astype(dtype)
    wide = source.flag()
    index = np.dtype(np.int64 if wide else np.int32)
    ranks, columns = source.below(4), source.pick([0, 16, 32]) * (index.itemsize + dtype.itemsize)
    if source.rarely() and "unaligned" not in LEFT_OUT:
        columns += source.byte()
    if "unaligned" in LEFT_OUT and not out.flags.aligned:
        out = out.copy()
    payloads = np.zeros((ranks, columns), np.uint8)
    counts = [source.below(8) for _ in range(ranks)]
    for row, count in zip(payloads, counts, strict=True):
        rng = np.random.default_rng(source.byte())
        row[:] = rng.integers(0, 256, columns)
        if source.byte() % 8:  # entries that are right, or nearly so
            entries = np.sort(rng.choice(max(n, 8), count, replace=False)).astype(index)
            if source.rarely() and count:
                entries[source.below(count)] = source.edge() % 2**31
            room = row[: count * index.itemsize]
            room[:] = entries.view(np.uint8)[: room.size]
    if source.rarely() and ranks:
        counts[0] = source.edge() % 2**63
    if source.rarely():
        counts.append(0)
    scale = source.pick([0.5, 1.0, 0.0, float("nan"), float("inf"), 1 / 3])
    fits = dtype in FLOATS and len(counts) == ranks and out.flags.c_contiguous
    want = _merged(payloads, counts, index, scale, out) if fits else None
    if "read-only out" in LEFT_OUT:
        out.flags.writeable = True
    old, block = out.copy(), memory.block.copy()
    hits = memory.places(out) if out.base is not None else None
    try:
        _core.exchange.merge(out, payloads, counts, wide, scale)
    except (TypeError, ValueError):
        assert out.tobytes() == old.tobytes()
        assert np.array_equal(memory.block, block)
        return
    assert out.flags.writeable or out.size == 0, "a read-only array was written"
    assert want is not None, "entries that do not fit were taken"
    assert_same_bits(out, want)
    if hits is not None:
        assert np.array_equal(memory.block[hits == 0], block[hits == 0])
