"""KeyboardInterrupt: what it comes upon is as it was before, or as it is afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from tests.interrupts import at_each_bytecode, interrupted


def test_an_interrupt_comes_where_it_is_told_to() -> None:
    """The negative control: a class that changes two fields in Python is caught in between."""
    sampler = sf.BatchSampler(10, 2)
    assert interrupted(lambda: next(iter(sampler)), 3)
    assert not interrupted(lambda: next(iter(sampler)), 10_000)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_fused_step_is_taken_whole_or_not_at_all(momentum: float) -> None:
    def make() -> tuple[sf.FusedSGD, np.ndarray]:
        w = np.zeros(3, np.float32)
        return sf.FusedSGD(w, lr=1.0, momentum=momentum), w

    def call(made: tuple[sf.FusedSGD, np.ndarray]) -> None:
        made[0](np.ones(3, np.float32))

    count = 0
    for step, w in at_each_bytecode(make, call):
        count += 1
        taken = bool(w[0] != 0)
        assert step.state_dict()["first_step"] == (not taken or momentum == 0)
        step(np.ones(3, np.float32))
        want = 2.0 + momentum if taken else 1.0
        np.testing.assert_allclose(w, -want)
    assert count > 10


SAMPLERS = {
    "batches": lambda: sf.BatchSampler(300, 8, seed=3),
    "rows": lambda: sf.BatchSampler(300, None, seed=3),
    "rank": lambda: sf.BatchSampler(300, 8, seed=3, rank=1, world_size=2),
    "weighted": lambda: sf.WeightedSampler(np.arange(1.0, 301.0), 8, seed=3),
    "without": lambda: sf.WeightedSampler(np.arange(1.0, 301.0), 8, seed=3, replacement=False),
    "stratified": lambda: sf.StratifiedSampler(np.arange(300) % 3, 30, seed=3),
}


def listed(batches: Iterable[Any]) -> list[Any]:
    return [np.asarray(batch).tolist() for batch in batches]


@pytest.mark.parametrize("kind", SAMPLERS)
def test_an_iterator_goes_on_after_an_interrupt(kind: str) -> None:
    want = listed(SAMPLERS[kind]())

    def make() -> tuple[Any, list[Any]]:
        iterator = iter(SAMPLERS[kind]())
        return iterator, listed(next(iterator) for _ in range(3))

    count = 0
    for iterator, got in at_each_bytecode(make, lambda made: next(made[0])):
        count += 1
        assert got + listed(iterator) == want
    # The first call computes what the following ones hand out, without a bytecode of ours.
    assert count >= (0 if kind in ("rows", "batches", "weighted", "without", "stratified") else 1)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_first_batch_that_is_interrupted_is_asked_for_again(kind: str) -> None:
    def make() -> tuple[Any, Any]:
        sampler = SAMPLERS[kind]()
        sampler.set_epoch(3)
        return sampler, iter(sampler)

    want = listed(make()[1])

    count = 0
    for sampler, iterator in at_each_bytecode(make, lambda made: next(made[1])):
        count += 1
        assert (sampler.epoch, sampler.position) == (3, 0)
        assert listed(iterator) == want
    assert count > 10


@pytest.mark.parametrize("kind", SAMPLERS)
def test_an_epoch_ends_or_has_not_ended(kind: str) -> None:
    def make() -> tuple[Any, Any]:
        sampler = SAMPLERS[kind]()
        iterator = iter(sampler)
        for _ in range(len(sampler)):
            next(iterator)
        return sampler, iterator

    want = SAMPLERS[kind]()
    listed(want)
    second = listed(want)
    for sampler, iterator in at_each_bytecode(make, lambda made: next(made[1], None)):
        if sampler.epoch == 0:
            assert listed(iterator) == []
        assert sampler.epoch == 1
        assert listed(sampler) == second


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_state_is_loaded_whole_or_not_at_all(kind: str) -> None:
    other = SAMPLERS[kind]()
    other.set_epoch(7)
    iterator = iter(other)
    next(iterator)
    if kind == "weighted":
        other.draw(5)
    loaded = other.state_dict()
    before = SAMPLERS[kind]().state_dict()
    count = 0
    for sampler in at_each_bytecode(SAMPLERS[kind], lambda made: made.load_state_dict(loaded)):
        count += 1
        assert sampler.state_dict() in (before, loaded)
    assert count > 20


def test_rows_that_are_interrupted_are_computed_again() -> None:
    class Interrupted(sf.BatchSampler):
        boom = False

        def rows(self, *args: Any) -> Any:
            if Interrupted.boom:
                Interrupted.boom = False
                raise KeyboardInterrupt
            return super().rows(*args)

    want = listed(Interrupted(9000, 64, seed=3))
    iterator, got = iter(Interrupted(9000, 64, seed=3)), []
    for i in range(len(want)):
        Interrupted.boom = i == 64
        try:
            got.append(next(iterator))
        except KeyboardInterrupt:
            got.append(next(iterator))
    assert listed(got) == want


@pytest.mark.parametrize("rows", [64, 2000], ids=["in turn", "background"])
def test_a_loader_is_usable_after_an_interrupt(rows: int) -> None:
    x = np.arange(5000 * 40, dtype=np.float32).reshape(5000, 40)

    def make() -> tuple[sf.BatchLoader, Any]:
        loader = sf.BatchLoader(x, sf.BatchSampler(len(x), rows, seed=1))
        return loader, iter(loader)

    count = 0
    for loader, iterator in at_each_bytecode(make, lambda made: next(made[1])):
        count += 1
        del iterator
        loader.set_epoch(1)
        again = np.concatenate([batch.copy() for batch in loader])
        order = sf.Permutation(len(x), seed=1, epoch=1)[:]
        assert np.array_equal(again, x[order])
    assert count > 50


def test_a_slot_that_was_half_prepared_is_prepared_anew() -> None:
    """A batch of another size makes new views; an interrupt there may not leave old ones behind."""
    x = np.arange(40.0)
    want = [[0, 1, 2], [3, 4], [5, 6, 7]]

    def make() -> tuple[sf.BatchLoader, Any]:
        loader = sf.BatchLoader(x, want, prefetch=1)
        iterator = iter(loader)
        next(iterator)
        return loader, iterator

    for loader, _ in at_each_bytecode(make, lambda made: next(made[1])):
        assert [batch.tolist() for batch in loader] == [[float(i) for i in b] for b in want]
