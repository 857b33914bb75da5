"""Stratified batches: the counts of every class in every batch, for any labels."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import subgrad_fast as sf
from tests.oracles import strata as oracle
from tests.sampling.class_statistics import interleaved

LABELS = {
    "a big class": np.repeat(np.arange(501), [500] + [1] * 500),
    "50 of three": np.repeat(np.arange(51), [300] + [3] * 50),
    "Zipf": np.unique(np.random.default_rng(0).zipf(1.3, 5000), return_inverse=True)[1],
    "8 alike": np.arange(64) % 8,
    "sizes that all differ": np.repeat(np.arange(40), np.arange(280, 320)),
    "one class": np.zeros(100, int),
    "all differ": np.arange(1000),
    "a class without rows": np.array([0, 2] * 50 + [0]),
}


def worst(classes: np.ndarray, size: int) -> float:
    """How many rows the counts are off at most. (In integers: a share that is whole is met.)"""
    n = classes.size
    total = np.bincount(classes)
    off = 0
    for begin in range(0, n, size):
        batch = classes[begin : begin + size]
        found = np.bincount(batch, minlength=total.size)
        off = max(off, int(abs(found * n - total * batch.size).max()))
    return off / n


@pytest.mark.parametrize("size", [1, 7, 8, 30, 32, 100, 128, 99999])
@pytest.mark.parametrize("name", LABELS)
def test_every_batch_has_its_shares(name: str, size: int) -> None:
    labels = np.random.default_rng(1).permutation(LABELS[name])
    sampler = sf.StratifiedSampler(labels, size, seed=1)
    for epoch in range(3):
        rows = sampler.rows(epoch, 0, labels.size)
        assert np.array_equal(np.sort(rows), np.arange(labels.size))
        assert worst(labels[rows], size) < 1


def test_who_meets_changes_with_seed_and_epoch() -> None:
    labels = LABELS["sizes that all differ"]  # no two classes are alike: nothing is a tie

    def companies(rows: np.ndarray) -> list[frozenset[int]]:
        return [frozenset(labels[rows[i : i + 30]]) for i in range(0, labels.size, 30)]

    orders = [
        sf.StratifiedSampler(labels, 30, seed=seed).rows(epoch, 0, labels.size)
        for seed in (1, 2)
        for epoch in (0, 1)
    ]
    for i, a in enumerate(orders):
        for b in orders[:i]:
            same = sum(x == y for x, y in zip(companies(a), companies(b), strict=True))
            assert same <= 2
    for a in orders:  # and nearly every pair of classes does, about as often as any other
        together = np.zeros((40, 40))
        for company in companies(a):
            there = np.array(sorted(company))
            together[np.ix_(there, there)] += 1
        pairs = together[np.triu_indices(40, 1)] / len(companies(a))
        assert abs(pairs - 30 * 29 / (40 * 39)).max() < 0.15


def test_orders_before_did_not() -> None:
    """The controls: the bound tells them from what is asked."""
    for name, size in (("a big class", 100), ("50 of three", 30), ("Zipf", 100)):
        assert worst(interleaved(tuple(LABELS[name]), size, 1)[0], size) > 2
        shuffled = sf.Permutation(LABELS[name].size, seed=1)[:]
        assert worst(LABELS[name][shuffled], size) > 2


@settings(max_examples=300, deadline=None)
@given(
    counts=st.lists(st.integers(0, 40) | st.integers(0, 3), min_size=1, max_size=40),
    size=st.integers(1, 60),
    seed=st.integers(0, 2**64 - 1),
)
def test_any_counts(counts: list[int], size: int, seed: int) -> None:
    counts[-1] = max(counts[-1], 1)
    labels = np.repeat(np.arange(len(counts)), counts)
    sampler = sf.StratifiedSampler(labels, size, seed=seed)
    rows = sampler.rows(seed % 1000, 0, labels.size)
    assert np.array_equal(np.sort(rows), np.arange(labels.size))
    assert worst(labels[rows], size) < 1


@pytest.mark.parametrize("counts", [[5, 3, 9, 1], [1] * 30, [30, 1, 1, 1, 0, 2, 7], [63]])
@pytest.mark.parametrize("size", [1, 2, 5, 8, 63])
def test_the_order_is_the_oracles(isa: str, counts: list[int], size: int) -> None:
    labels = np.random.default_rng(2).permutation(np.repeat(np.arange(len(counts)), counts))
    for seed, epoch in ((0, 0), (1, 2), (2**64 - 1, 2**63)):
        sampler = sf.StratifiedSampler(labels, size, seed=seed)
        want = oracle.stratified(labels.tolist(), size, seed, epoch)
        assert sampler.rows(epoch, 0, labels.size).tolist() == want


def test_rows_anywhere_in_an_epoch() -> None:
    sampler = sf.StratifiedSampler(LABELS["50 of three"], 32, seed=1)
    quotas = sf.StratifiedSampler(LABELS["8 alike"], 16, quotas=[2] * 8, seed=1, num_batches=9)
    for one in (sampler, quotas):
        whole = one.rows(4, 0, one.length)
        for start in (0, 1, 31, 32, 33, 90):
            for count in (0, 1, 20, 54):
                assert np.array_equal(one.rows(4, start, count), whole[start : start + count])


def test_a_batch_is_the_callers() -> None:
    sampler = sf.StratifiedSampler(LABELS["50 of three"], 30, seed=1)
    batch = sampler.batch(3)
    kept = batch.copy()
    batch[:] = 0
    assert np.array_equal(sampler.batch(3), kept)


def test_plans_are_kept_apart() -> None:
    labels = LABELS["50 of three"]
    sampler = sf.StratifiedSampler(labels, 30, seed=1)
    before = len(pickle.dumps(sampler))
    first = sampler.rows(0, 0, 450)
    for epoch in range(5):
        sampler.rows(epoch, 0, 450)
    assert len(sampler._plans) == 2
    assert len(pickle.dumps(sampler)) == before
    for other in (copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))):
        assert np.array_equal(other.rows(0, 0, 450), first)
    # Other seeds have other plans.
    sampler.load_state_dict({**sampler.state_dict(), "seed": 2})
    assert not np.array_equal(sampler.rows(0, 0, 450), first)


def test_threads_that_look_at_different_epochs() -> None:
    sampler = sf.StratifiedSampler(LABELS["Zipf"], 100, seed=1)
    want = [sampler.rows(epoch, 0, 5000) for epoch in range(6)]
    wrong: list[int] = []

    def look(first: int) -> None:
        for i in range(60):
            epoch = (first + i) % 6
            if not np.array_equal(sampler.rows(epoch, 0, 5000), want[epoch]):
                wrong.append(epoch)

    threads = [threading.Thread(target=look, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
