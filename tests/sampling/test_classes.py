"""Samplers by class: shares, quotas, groups, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from tests.oracles import strata as oracle

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


def test_classes_with_too_few_rows() -> None:
    text = np.array(["cat", "cat", "dog", "cat", "owl", "owl"])
    message = (
        r"^rows_per_class: 3, but 2 classes have fewer rows: 'dog' \(1\), 'owl' \(2\); "
        "short='repeat'"
    )
    with pytest.raises(ValueError, match=message):
        sf.GroupSampler(text, 1, 3)
    with pytest.raises(ValueError, match=r"but 9 classes .*: 0 \(1\), .*, 4 \(1\), \.\.\.; "):
        sf.GroupSampler(np.arange(9), 1, 3)
    # 100 rows: only classes that have them; a class without rows is never drawn.
    skipping = sf.GroupSampler(LABELS, 3, 100, short="skip")
    assert all(class_counts(b)[4] == 0 for b in skipping)
    for go_round in (False, True):
        sampler = sf.GroupSampler(
            LABELS, 4, 200, short="repeat", num_batches=9, go_round=go_round, seed=1
        )
        for batch in sampler:
            assert class_counts(batch) == [200, 200, 200, 0, 200]
            times = np.bincount(batch, minlength=LABELS.size)
            assert times[LABELS <= 1].max() == 1
            assert set(times[LABELS == 2]) == {1, 2}  # 200 of 150 rows
            assert set(times[LABELS == 4]) == {2, 3}  # 200 of 80


@pytest.mark.parametrize(("classes", "per_batch"), [(5, 2), (5, 3), (5, 4), (5, 5), (7, 1), (4, 2)])
def test_classes_go_round(classes: int, per_batch: int) -> None:
    labels = np.repeat(np.arange(classes), 6)
    sampler = sf.GroupSampler(labels, per_batch, 2, go_round=True, num_batches=50, seed=1)
    found = labels[sampler.rows(0, 0, sampler.length)].reshape(50, per_batch, 2)
    assert (found[:, :, 0] == found[:, :, 1]).all()
    groups = found[:, :, 0]
    assert all(np.unique(batch).size == per_batch for batch in groups)
    rounds = groups.ravel()[: groups.size // classes * classes].reshape(-1, classes)
    assert (np.sort(rounds) == np.arange(classes)).all()
    assert groups.ravel().tolist() == oracle.rounds(classes, per_batch, groups.size, 1, 0)
    plain = sf.GroupSampler(labels, per_batch, 2, num_batches=50, seed=1)  # the control
    line = labels[plain.rows(0, 0, plain.length)][::2][: rounds.size].reshape(-1, classes)
    assert per_batch == classes or not (np.sort(line) == np.arange(classes)).all()


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
            "rows_per_class: 2, but 1 classes have fewer rows: 1 \\(1\\)",
        ),
        (
            lambda: sf.GroupSampler([0, 0, 1], 2, 2, short="skip"),
            "classes_per_batch: 2, but only 1 classes have 2",
        ),
        (
            lambda: sf.GroupSampler([0, 0, 2], 3, 2, short="repeat"),
            "classes_per_batch: 3, but only 2 classes have rows",
        ),
        (lambda: sf.GroupSampler([0, 0], 1, 1, short="no"), "short: expected 'error', 'rep"),  # type: ignore[arg-type]
        (lambda: sf.StratifiedSampler(["a"], 1, num_classes=2), "num_classes: text has as many"),
        (lambda: sf.GroupSampler([0, 0, 1], 0, 2), "classes_per_batch: "),
        (lambda: sf.GroupSampler([0, 0, 1], 1, 0), "rows_per_class: "),
    ],
)
def test_bad_classes(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.0, 1.0], "labels: expected class numbers, bools or text, got float64"),
        ([0, np.nan], "labels: expected class numbers, bools or text, got float64"),
        (np.array(["a", None], object), r"labels\[1\]: expected .* got None in an array"),
        (np.array([2**70, 1], object), r"labels\[0\]: expected .* got 1"),
        (np.array(["2020-01-01"], "M8[D]"), "labels: expected .*, got datetime64"),
        ({0: 1}, r"labels: expected one label a row \(1-d\)|labels\[0\]"),
        ("text", "labels: expected one label a row"),
    ],
)
def test_what_is_no_label(labels: Any, message: str) -> None:
    for make in (sf.StratifiedSampler, sf.ClassBalancedSampler):
        with pytest.raises((TypeError, ValueError), match=f"^{message}"):
            make(labels, 1)


TEXT = ["dog", "cat", "owl", "cat", "owl", "owl"]


@pytest.mark.parametrize(
    "labels",
    [
        TEXT,
        np.array(TEXT),
        np.array(TEXT, object),
        np.array([name.encode() for name in TEXT]),
    ],
)
def test_text_is_numbered_in_sorted_order(labels: Any) -> None:
    numbers = np.array([1, 0, 2, 0, 2, 2])
    shares = [1, 0, 3]
    named = sf.ClassBalancedSampler(labels, 2, shares=shares, seed=1)
    numbered = sf.ClassBalancedSampler(numbers, 2, shares=shares, seed=1)
    assert named.rows(0, 0, 6).tolist() == numbered.rows(0, 0, 6).tolist()
    assert [np.asarray(name).astype(str) for name in named.classes] == ["cat", "dog", "owl"]
    assert numbered.classes.tolist() == [0, 1, 2]
    assert sf.StratifiedSampler(numbers, 2, num_classes=5).classes.tolist() == [0, 1, 2, 3, 4]


def test_bools_are_labels() -> None:
    flags = np.arange(40) % 4 == 0
    sampler = sf.StratifiedSampler(flags, 8, seed=1)
    assert sampler.classes.tolist() == [False, True]
    assert [int(flags[batch].sum()) for batch in sampler] == [2] * 5
    numbered = sf.StratifiedSampler(flags.astype(int), 8, seed=1)
    assert sampler.rows(3, 0, 40).tolist() == numbered.rows(3, 0, 40).tolist()
    assert sf.ClassBalancedSampler([True, True]).classes.tolist() == [False, True]
    with pytest.raises(ValueError, match=r"^classes_per_batch: 2, but only 1 classes"):
        sf.GroupSampler([True, True], 2, 1)


# --- states --------------------------------------------------------------------------------------

STATES: dict[str, tuple[Any, Any, str]] = {
    "labels": (
        sf.StratifiedSampler([0, 0, 1, 1], 2),
        sf.StratifiedSampler([0, 1, 0, 1], 2),
        "labels",
    ),
    "batch size": (
        sf.StratifiedSampler([0, 0, 1, 1], 2),
        sf.StratifiedSampler([0, 0, 1, 1], 3),
        "batch_size",
    ),
    "quotas": (
        sf.StratifiedSampler([0, 0, 1, 1], 2, quotas=[1, 1]),
        sf.StratifiedSampler([0, 0, 1, 1], 2, quotas=[2, 0]),
        "quotas",
    ),
    "no quotas": (
        sf.StratifiedSampler([0, 0, 1, 1], 2, quotas=[1, 1]),
        sf.StratifiedSampler([0, 0, 1, 1], 2),
        "quotas",
    ),
    "shares": (
        sf.ClassBalancedSampler([0, 0, 1, 1], 2),
        sf.ClassBalancedSampler([0, 0, 1, 1], 2, shares=[1, 2]),
        "shares",
    ),
    "balanced labels": (
        sf.ClassBalancedSampler([0, 0, 1, 1], 2),
        sf.ClassBalancedSampler([0, 0, 2, 2], 2),
        "labels",
    ),
    "p": (
        sf.GroupSampler([0, 0, 1, 1], 2, 1),
        sf.GroupSampler([0, 0, 1, 1], 1, 1),
        "classes_per_batch",
    ),
    "k": (
        sf.GroupSampler([0, 0, 1, 1], 2, 2),
        sf.GroupSampler([0, 0, 1, 1], 2, 1),
        "rows_per_class",
    ),
    "round": (
        sf.GroupSampler([0, 0, 1, 1], 1, 2),
        sf.GroupSampler([0, 0, 1, 1], 1, 2, go_round=True),
        "go_round",
    ),
    "short": (
        sf.GroupSampler([0, 0, 1, 2], 1, 2, short="skip"),
        sf.GroupSampler([0, 0, 1, 2], 1, 2, short="repeat"),
        "repeats",
    ),
    "rows": (
        sf.GroupSampler([0, 0, 1, 1], 1, 2),
        sf.GroupSampler([0, 0, 1, 1, 1], 1, 2),
        "n",
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_states_of_others_are_refused(name: str) -> None:
    one, two, key = STATES[name]
    for a, b in ((one, two), (two, one)):
        a.load_state_dict(a.state_dict())  # the control
        before = b.state_dict()
        with pytest.raises(ValueError, match=rf"^state\['{key}'\]: taken with "):
            b.load_state_dict(a.state_dict())
        assert b.state_dict() == before
    numbers = {type(value) for value in one.state_dict().values()}
    assert numbers == {int}


def test_states_go_on_where_nothing_but_the_names_differ() -> None:
    a = sf.StratifiedSampler(["x", "y", "y", "x"] * 5, 4, seed=3, quotas=[1, 3])
    numbers = np.array([0, 1, 1, 0] * 5, np.uint8)
    b = sf.StratifiedSampler(numbers, 4, num_classes=3, quotas=[1, 3, 0])
    batches = iter(a)
    next(batches)
    b.load_state_dict(a.state_dict())
    assert [x.tolist() for x in b] == [x.tolist() for x in batches]
