"""Steps, selections, sparse weights and batches on arrays of any layout, against NumPy."""

from __future__ import annotations

import math

import numpy as np

import subgrad_fast as sf
from tests.bits import assert_same_bits, assert_same_bytes
from tests.cases import L1_RULES, RULES, THRESHOLD_RULES
from tests.fuzz_bytes.layouts import FLOATS, REFUSALS, Memory
from tests.fuzz_bytes.left_out import LEFT_OUT
from tests.fuzz_bytes.source import Source
from tests.oracles.dense import sgd, sgd_rows
from tests.oracles.select import computed, keys, ranked
from tests.oracles.sparsify import want_group, want_largest, want_n_m, want_soft
from tests.oracles.threshold import at_least, largest
from tests.oracles.threshold import threshold_step as stepped


def _operands(memory: Memory, count: int) -> list[np.ndarray]:
    """A parameter and what goes with it: most often of its shape and of types that fit."""
    source = memory.source
    shape, dtype = memory.shape(), memory.dtype()
    arrays = [memory.array(shape, dtype)]
    for _ in range(count - 1):
        own = memory.shape() if source.rarely() else shape
        kind = source.below(4)
        fitting = {0: dtype, 1: dtype, 2: np.dtype(np.float32), 3: memory.dtype()}[kind]
        arrays.append(memory.array(own, fitting))
    if count > 1 and source.rarely():
        arrays[1] = arrays[0]
    return arrays


def _copies(arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [array.copy() for array in arrays]


def sgd_step(data: bytes) -> None:
    source = Source(data)
    memory = Memory(source)
    rule = source.pick([*RULES, *({**r, "lr": 0.1, "l1": 0.5} for r in L1_RULES)])
    w, g, m = _operands(memory, 3)
    holds = rule["momentum"] != 0.0
    written, want = [w, m] if holds else [w], [w, m] if holds else [w]
    if w.dtype in FLOATS and g.shape == m.shape == w.shape and {g.dtype, m.dtype} <= set(FLOATS):
        want = [x for x in sgd(*_copies([w, g, m]), **rule) if x is not None][: len(written)]
    memory.check(lambda: sf.sgd_step(w, g, m, **rule), written, want)


def threshold_step(data: bytes) -> None:
    source = Source(data)
    memory = Memory(source)
    rule = source.pick(THRESHOLD_RULES)
    w, g, v, m = _operands(memory, 4)
    by_count = source.flag()
    k = source.below(9) if source.flag() else min(w.size, 3)
    keep = largest(k) if by_count else at_least(0.5)
    amount = {"k": k} if by_count else {"threshold": 0.5}
    holds = rule["momentum"] != 0.0
    written = [w, v, m] if holds else [w, v]
    want = written
    wide = np.dtype(np.float64) if w.dtype == np.float64 else np.dtype(np.float32)
    types = {w.dtype, g.dtype} <= set(FLOATS) and {v.dtype, m.dtype if holds else wide} == {wide}
    if types and k <= w.size and g.shape == w.shape == v.shape == m.shape:
        new = stepped(w.copy(), g.copy(), m.copy() if holds else None, v.copy(), keep, **rule)
        want = [x.reshape(w.shape) for x in (new.w, new.v, new.m) if x is not None][: len(written)]
    memory.check(
        lambda: sf.threshold_step(w, g, v, m if holds else None, **amount, **rule), written, want
    )


def select(data: bytes) -> None:
    source = Source(data)
    memory = Memory(source)
    (x,) = _operands(memory, 1)
    k = source.edge() if source.flag() else source.below(x.size + 1)
    before = memory.block.copy()
    try:
        found = sf.select(x, k=k, index_dtype=source.pick(["int64", "int32"]))
    except REFUSALS:
        assert x.dtype not in FLOATS or not 0 <= k <= x.size
        return
    assert np.array_equal(memory.block, before)
    flat = x.reshape(-1)
    order = ranked([x])[:k]
    kept = np.sort(order)
    assert np.array_equal(found.indices, kept)
    assert_same_bits(found.values, flat[kept])
    if k > 0:
        key = keys(computed(x))[order[-1]]
        assert keys(computed(np.array([found.threshold], computed(x).dtype)))[0] == key
    else:
        assert found.threshold == math.inf


def row_step(data: bytes) -> None:
    source = Source(data)
    memory = Memory(source)
    rule = {k: v for k, v in source.pick(RULES).items() if k != "first_step"}
    shape, dtype = memory.shape() or (4,), memory.dtype()
    w, m = memory.array(shape, dtype), memory.array(shape, dtype)
    count = source.below(6)
    rows = np.array([source.below(max(w.shape[0], 1)) for _ in range(count)], np.int64)
    if source.rarely() and count:
        rows[0] = source.pick([-1, w.shape[0], 2**62])
    values = memory.array((count, *w.shape[1:]), source.pick([dtype, np.dtype(np.float32)]))
    holds = rule["momentum"] != 0.0
    written = [w, m] if holds else [w]
    want = written
    inside = count == 0 or (rows.min() >= 0 and rows.max() < w.shape[0])
    shapes = m.shape == w.shape and values.shape == (count, *w.shape[1:])
    if {w.dtype, values.dtype} <= set(FLOATS) and inside and shapes:
        copies = _copies([values, m])
        new = sgd_rows(w, rows, copies[0], copies[1] if holds else None, **rule)
        want = [x for x in new if x is not None][: len(written)]
    memory.check(lambda: sf.row_step(w, (rows, values), m, **rule), written, want)


def sparsify(data: bytes) -> None:
    source = Source(data)
    memory = Memory(source)
    (x,) = _operands(memory, 1)
    old = x.copy()
    known = x.dtype in FLOATS
    kind = source.below(5)
    n, m = source.below(5), source.pick([4, 2, 1, 3, 33])
    k = source.below(x.size + 2)
    mask = memory.array(x.shape, np.dtype(bool))
    if "mask" in LEFT_OUT and np.may_share_memory(x, mask):
        mask = mask.copy()
    true = mask.view(np.uint8).copy() != 0  # any byte that is not 0
    want = [x]
    if kind == 0:
        want = [want_soft(old, 0.5)] if known else want
        memory.check(lambda: sf.soft_threshold_(x, 0.5), [x], want)
    elif kind == 1:
        want = [want_group(old, 0.5)] if known and x.ndim else want
        memory.check(lambda: sf.group_soft_threshold_(x, 0.5), [x], want)
    elif kind == 2:
        want = [want_largest(old.reshape(1, -1), k).reshape(x.shape)] if known else want
        memory.check(lambda: sf.hard_threshold_(x, k=k), [x], want)
    elif kind == 3:
        fits = known and x.ndim and x.shape[-1] % m == 0 and n <= m
        want = [want_n_m(old, n, m)] if fits else want
        memory.check(lambda: sf.n_m_(x, n, m), [x], want)
    else:
        want = [np.where(true, old, old.dtype.type(0))] if known else want
        memory.check(lambda: sf.apply_mask_(x, mask), [x], want)


def gather(data: bytes) -> None:
    source = Source(data)
    memory = Memory(source)
    x = memory.array(memory.shape(), memory.dtype())
    rows = len(x) if x.ndim else 0
    wanted = [source.below(rows + 1) if source.flag() else source.edge() for _ in range(3)]
    indices = [i for i in wanted if 0 <= i < rows] if source.flag() else wanted
    before = memory.block.copy()
    try:
        (batch,) = list(sf.BatchLoader(x, [np.array(indices, np.int64)]))
    except (IndexError, OverflowError, *REFUSALS):
        assert rows == 0 or not indices or not all(0 <= i < rows for i in indices)
    else:
        assert_same_bytes(batch, x[np.array(indices, np.int64)])
    assert np.array_equal(memory.block, before)
