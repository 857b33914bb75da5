"""States of samplers and loaders with other numbers in them: refused, or rows within the data."""

from __future__ import annotations

import contextlib
import copy
import itertools
from typing import Any

import numpy as np

import subgrad_fast as sf
from subgrad_fast import _core
from tests.fuzz_bytes.left_out import LEFT_OUT
from tests.fuzz_bytes.source import Source

N = 100
LABELS = np.arange(N) % 4
REFUSALS = (TypeError, ValueError)


def _samplers(source: Source) -> Any:
    return source.pick(
        [
            lambda: sf.BatchSampler(N, 7, seed=1),
            lambda: sf.BatchSampler(N, None, seed=1),
            lambda: sf.BatchSampler(N, 7, replacement=True, num_samples=50),
            lambda: sf.BatchSampler(N, 8, block_size=9, blocks_together=2, rank=1, world_size=3),
            lambda: sf.BatchSampler(N, 9, reverse_pairs=True, tail="pad"),
            lambda: sf.WeightedSampler(np.arange(N), 8),
            lambda: sf.WeightedSampler(np.arange(N), 8, replacement=False),
            lambda: sf.ClassBalancedSampler(LABELS, 8),
            lambda: sf.StratifiedSampler(LABELS, 8),
            lambda: sf.StratifiedSampler(LABELS, 8, quotas=[2, 2, 2, 2], num_batches=5),
            lambda: sf.GroupSampler(LABELS, 2, 3),
        ]
    )()


def _changed(state: dict[str, Any], source: Source) -> dict[str, Any]:
    changed = copy.copy(state)
    fields = [*changed, "exponent", "drawn", "surplus"]
    for _ in range(source.below(4)):
        field = source.pick(fields)
        if source.rarely():
            changed.pop(field, None)
        elif field in LEFT_OUT:
            changed[field] = source.byte()
        else:
            changed[field] = source.anything()
    return changed


def _use(sampler: Any) -> None:
    """The next batches name rows of the data."""
    for batch in itertools.islice(sampler, 3):
        rows = np.atleast_1d(batch)
        assert rows.size == 0 or (rows.min() >= 0 and rows.max() < N)


def samplers(data: bytes) -> None:
    source = Source(data)
    sampler = _samplers(source)
    if isinstance(sampler, sf.WeightedSampler) and source.flag():
        sampler.update([3], [source.pick([1.0, 1e300, 5e-324])])
    if source.flag():
        next(iter(sampler))
    target = iter(sampler) if source.flag() else sampler
    state = target.state_dict()
    try:
        target.load_state_dict(_changed(state, source))
    except REFUSALS:
        assert target.state_dict() == state, "refused, and yet something was taken over"
    _use(target)
    _use(sampler)
    if isinstance(sampler, sf.WeightedSampler):
        assert 0 <= sampler.draw(1)[0] < N


def loaders(data: bytes) -> None:
    source = Source(data)
    x = np.arange(N)
    sampler = _samplers(source)
    if source.flag() or sampler.batch_size is None:
        sampler = [[1, 2], [3]]
    loader = sf.BatchLoader(x, sampler, prefetch=2)
    if source.flag():
        next(iter(loader))
    state = loader.state_dict()
    changed = {key: value for key, value in state.items() if not source.rarely()}
    if source.flag() and isinstance(state["sampler"], dict):
        changed["sampler"] = _changed(state["sampler"], source)
    field = source.pick(["version", "sampler", "batches"])
    if source.rarely() and field not in LEFT_OUT:
        changed[field] = source.anything()
    with contextlib.suppress(*REFUSALS):
        loader.load_state_dict(changed)
    for batch in itertools.islice(loader, 3):
        rows = np.atleast_1d(batch)
        assert rows.size == 0 or (rows.min() >= 0 and rows.max() < N)


def _numbers(source: Source, dtype: str) -> np.ndarray:
    values: list[Any] = [source.edge() for _ in range(source.below(6))]
    if dtype == "f8":
        values = [source.pick([v, 1.0, 0.0, 1e308, 5e-324, -1.0, np.nan, np.inf]) for v in values]
        return np.array(values, np.float64)
    return np.array([v % 2**64 for v in values], np.uint64)


def pickled_weights(data: bytes) -> None:
    """What a pickle of weights holds: the weights, and the exponent of their scale."""
    source = Source(data)
    weights = _numbers(source, "f8")
    exponent = source.pick([None, source.edge(), source.byte() - 128])
    made = _core.sampling.Weights.__new__(_core.sampling.Weights)
    try:
        made.__setstate__((weights, exponent))
    except (*REFUSALS, RuntimeError):  # the last for an exponent that is no int of C++
        return
    out = np.full(4, -1)
    made.draw(1, 2, source.edge() % 2**64, True, out)
    assert out.min() >= 0 and out.max() < weights.size
    assert (weights[out] > 0).all(), "a row of weight zero was drawn"
    assert np.array_equal(made.values(), weights)
    distinct = np.full(min(made.positive, 3), -1)
    made.draw_distinct(1, 2, True, distinct)
    assert len(set(distinct.tolist())) == len(distinct)
    made.update(np.array([0]), np.array([source.pick([1.0, 1e300, 5e-324])]))
    made.draw(1, 2, 3, True, out)
    assert out.min() >= 0 and out.max() < weights.size


def pickled_strata(data: bytes) -> None:
    """What a pickle of classes holds: where each begins."""
    source = Source(data)
    starts = _numbers(source, "u8")
    if source.byte() % 8:
        starts = np.sort(starts)
    made = _core.sampling.Strata.__new__(_core.sampling.Strata)
    try:
        made.__setstate__((starts,))
    except REFUSALS:
        return
    begins, ends = starts[:-1].astype(object), starts[1:].astype(object)
    classes = np.flatnonzero(begins < ends)  # the others have no rows
    out = np.full(classes.size, -1)
    made.members(1, 2, 3, classes, out)
    for row, c in zip(out.astype(np.uint64).tolist(), classes, strict=True):
        assert begins[c] <= row < ends[c]
