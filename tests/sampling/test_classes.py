"""Samplers by class: shares, quotas, groups, errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import subgrad_fast as sf

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 4], [500, 300, 150, 80]))


def class_counts(batch: np.ndarray, labels: np.ndarray = LABELS) -> list[int]:
    return np.bincount(labels[batch], minlength=5).tolist()


def test_balanced_shares() -> None:
    sampler = sf.ClassBalancedSampler(LABELS, 100, num_samples=100_000, seed=1)
    found = np.concatenate(list(sampler))
    counts = np.array(class_counts(found))
    assert counts[3] == 0
    assert abs(counts[[0, 1, 2, 4]] - 25_000).max() < 6 * np.sqrt(25_000)
    rows = np.bincount(found, minlength=LABELS.size)[LABELS == 4]
    assert abs(rows - 25_000 / 80).max() < 6 * np.sqrt(25_000 / 80)
    plain = sf.BatchSampler(LABELS.size, 100, replacement=True, num_samples=100_000, seed=1)
    assert class_counts(np.concatenate(list(plain)))[4] < 10_000  # the control


def test_given_shares() -> None:
    sampler = sf.ClassBalancedSampler(LABELS, 100, shares=[0, 3, 1, 0, 0], num_samples=40_000)
    counts = class_counts(np.concatenate(list(sampler)))
    assert counts[0] == counts[4] == 0
    assert abs(counts[1] - 30_000) < 6 * np.sqrt(30_000)


@pytest.mark.parametrize("quotas", [[4, 3, 2, 0, 1], [0, 0, 0, 0, 10], [1, 1, 4, 0, 4]])
def test_quotas_are_exact(quotas: list[int]) -> None:
    sampler = sf.StratifiedSampler(LABELS, 10, quotas=quotas, num_batches=200)
    for batch in sampler:
        assert class_counts(batch) == quotas
        assert np.unique(batch).size == 10
    # Within an order of a class, no row comes twice before the next order begins.
    rows = np.concatenate(
        [b[LABELS[b] == 4] for b in map(sampler.batch, range(80 // max(quotas[4], 1)))]
    )
    assert np.unique(rows).size == rows.size


def test_stratified_without_quotas() -> None:
    labels = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [600, 300, 100]))
    for batch in sf.StratifiedSampler(labels, 20, seed=1):  # shares that are whole numbers
        assert class_counts(batch, labels)[:3] == [12, 6, 2]
    for size in (7, 32, 128):
        ideal = size * np.bincount(LABELS, minlength=5) / LABELS.size
        batches = list(sf.StratifiedSampler(LABELS, size, seed=1))
        worst = max(abs(class_counts(b) - ideal).max() for b in batches if b.size == size)
        assert worst < 2
        assert np.unique(np.concatenate(batches)).size == LABELS.size
    plain = sf.BatchSampler(LABELS.size, 128, tail="drop")
    ideal = 128 * np.bincount(LABELS, minlength=5) / LABELS.size
    assert max(abs(class_counts(b) - ideal).max() for b in plain) > 4  # the control


def test_groups() -> None:
    sampler = sf.GroupSampler(LABELS, 3, 5, num_batches=300, seed=1)
    classes_seen = np.zeros(5, int)
    for batch in sampler:
        counts = class_counts(batch)
        assert sorted(counts) == [0, 0, 5, 5, 5]
        assert np.unique(batch).size == 15
        assert (LABELS[batch].reshape(3, 5) == LABELS[batch][::5, None]).all()
        classes_seen += np.array(counts) > 0
    assert classes_seen[3] == 0
    assert abs(classes_seen[[0, 1, 2, 4]] - 225).max() < 50
    # 100 rows: only classes that have them.
    assert all(class_counts(b)[4] == 0 for b in sf.GroupSampler(LABELS, 3, 100))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sf.StratifiedSampler([], 1), "labels: expected at least one row"),
        (lambda: sf.StratifiedSampler([[0]], 1), "labels: expected one label a row"),
        (
            lambda: sf.StratifiedSampler([0, 1, -2], 1),
            r"labels\[2\]: expected a class number >= 0, got -2",
        ),
        (
            lambda: sf.StratifiedSampler([0, 9], 1, num_classes=3),
            r"labels\[1\]: expected a class number from 0 to 2, got 9",
        ),
        (lambda: sf.StratifiedSampler([0, 2**40], 1), "labels: the largest is 1099511627776"),
        (lambda: sf.StratifiedSampler([0, 1], 3, tail="drop"), "batch_size: 3 is larger"),
        (lambda: sf.StratifiedSampler([0, 1], 0), "batch_size: "),
        (lambda: sf.StratifiedSampler([0, 1], 2, quotas=[1, 2]), r"quotas\[1\]: expected 0 to 1"),
        (lambda: sf.StratifiedSampler([0, 1], 2, quotas=[1, 0]), "quotas: add up to 1"),
        (
            lambda: sf.StratifiedSampler([0, 1], 2, quotas=[1]),
            "quotas: expected an integer for each",
        ),
        (lambda: sf.StratifiedSampler([0, 1], 2, quotas=[0.5, 1.5]), "quotas: expected an integer"),
        (lambda: sf.StratifiedSampler([0, 1], 2, num_batches=1), "num_batches: needs quotas"),
        (
            lambda: sf.ClassBalancedSampler([0, 2], shares=[1, 1, 1]),
            r"shares\[1\]: class 1 has no rows",
        ),
        (
            lambda: sf.ClassBalancedSampler([0, 1], shares=[1, -1]),
            r"shares\[1\]: expected a finite",
        ),
        (lambda: sf.ClassBalancedSampler([0, 1], shares=[0, 0]), "shares: all are zero"),
        (lambda: sf.ClassBalancedSampler([0, 1], shares=[1]), "shares: expected one for each of 2"),
        (
            lambda: sf.GroupSampler([0, 0, 1], 2, 2),
            "classes_per_batch: 2, but only 1 classes have 2",
        ),
        (lambda: sf.GroupSampler([0, 0, 1], 0, 2), "classes_per_batch: "),
        (lambda: sf.GroupSampler([0, 0, 1], 1, 0), "rows_per_class: "),
    ],
)
def test_bad_classes(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_labels_that_are_no_integers() -> None:
    with pytest.raises(TypeError, match="labels: expected integers, got float64"):
        sf.StratifiedSampler([0.0, 1.0], 1)
