"""Weighted draws, class shares, quotas and groups: exactness, updates, and bad input."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf


def draws(weights: Any, n: int = 20_000, seed: int = 1) -> np.ndarray:
    return sf.WeightedSampler(weights, seed=seed).draw(n)


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 100, 32_767, 32_768, 32_769, 100_000])
def test_a_zero_weight_is_never_drawn(isa: str, n: int) -> None:
    weights = np.random.default_rng(n).random(n)
    weights[::2] = 0.0
    weights[n // 2] = 1.0
    found = draws(weights, 200_000)
    assert (weights[found] > 0).all()


def test_one_positive_weight() -> None:
    for n, at in ((1, 0), (5, 0), (5, 4), (70_000, 12_345), (70_000, 69_999)):
        weights = np.zeros(n)
        weights[at] = 1e-300
        assert (draws(weights) == at).all()


@pytest.mark.parametrize("n", [5, 1000, 65_536, 70_001])
@pytest.mark.parametrize("kind", ["equal", "skewed", "two", "ascending", "one heavy"])
def test_the_same_table_for_any_number_of_threads(
    isa: str, threads: Callable[[int], None], kind: str, n: int
) -> None:
    """Segments of the sweep that start in its middle must meet the same columns."""
    generator = np.random.default_rng(n)
    weights = {
        "equal": np.ones(n),
        "skewed": generator.random(n) ** 20,
        "two": np.where(np.arange(n) % 3 == 0, 5.0, 0.5),
        "ascending": np.arange(1.0, n + 1),
        "one heavy": np.where(np.arange(n) == n // 3, 1e6, 1e-3),
    }[kind]
    threads(1)
    one = draws(weights, 100_000)
    threads(3)
    np.testing.assert_array_equal(draws(weights, 100_000), one)
    if kind != "equal" and n > 5:
        counts = np.bincount(one, minlength=n)
        assert counts[np.argmax(weights)] >= counts.mean()


def test_equal_weights_use_every_row() -> None:
    assert np.unique(draws(np.full(1000, 0.1), 20_000)).size == 1000


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, np.uint8, bool])
def test_weights_of_any_dtype(dtype: Any) -> None:
    weights = np.array([0, 1, 3, 0, 2]).astype(dtype)
    np.testing.assert_array_equal(draws(weights), draws(weights.astype(np.float64)))


def test_scaling_weights_by_a_power_of_two_changes_nothing() -> None:
    weights = np.random.default_rng(1).random(1000)
    for scale in (2.0**-1000, 2.0**-3, 2.0**900):
        np.testing.assert_array_equal(draws(weights * scale), draws(weights))
    tiny = np.array([5e-324, 1e-323])
    assert set(draws(tiny).tolist()) == {0, 1}
    huge = np.full(10, 1.7e308)
    assert np.unique(draws(huge)).size == 10


def test_a_draw_depends_on_its_number_only() -> None:
    weights = np.arange(1000.0)
    whole = draws(weights, 1000)
    sampler = sf.WeightedSampler(weights, seed=1)
    np.testing.assert_array_equal(
        np.concatenate([sampler.draw(k) for k in (1, 2, 3, 94, 900)]), whole
    )


def test_more_categories_than_float32_counts() -> None:
    n = 2**24 + 100
    weights = np.zeros(n, np.float32)
    weights[2**24 :] = 1.0
    found = draws(weights, 5000)
    assert found.min() >= 2**24
    assert np.unique(found).size == 100


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -0.5, -1.0], r"weights\[1\]: expected a finite number >= 0, got -0.5"),
        ([1.0, 2.0, np.nan], r"weights\[2\]: .* got nan"),
        ([np.inf, 1.0], r"weights\[0\]: .* got inf"),
        ([0.0, 0.0], "weights: all are zero"),
        ([], "weights: "),
        ([[1.0]], r"weights: .*shape \(1, 1\)"),
    ],
)
def test_bad_weights(weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sf.WeightedSampler(weights)


def test_the_first_bad_weight_of_many_is_named(threads: Callable[[int], None]) -> None:
    weights = np.ones(200_000)
    weights[[70_001, 150_000]] = np.nan
    for n in (1, 3):
        threads(n)
        with pytest.raises(ValueError, match=r"weights\[70001\]"):
            sf.WeightedSampler(weights)


def test_other_bad_arguments() -> None:
    with pytest.raises(TypeError, match="weights: expected real numbers"):
        sf.WeightedSampler(["a"])
    with pytest.raises(ValueError, match="num_samples: expected an integer from 1 to 2, got 3"):
        sf.WeightedSampler([1, 0, 1], replacement=False, num_samples=3)
    with pytest.raises(ValueError, match="batch_size: 4 is larger than an epoch of 3 rows"):
        sf.WeightedSampler([1, 1, 1], 4)
    with pytest.raises(ValueError, match="n: expected an integer from 0 to 2, got 3"):
        sf.WeightedSampler([1, 0, 1], replacement=False).draw(3)
    with pytest.raises(ValueError, match="n: "):
        sf.WeightedSampler([1, 0, 1]).draw(-1)


# --- without replacement -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "k"), [(3, 3), (10, 4), (1000, 1), (1000, 100), (1000, 999), (50_000, 128)]
)
@pytest.mark.parametrize("power", [0, 3, 40])
def test_no_repeats(isa: str, n: int, k: int, power: int) -> None:
    weights = np.random.default_rng(1).random(n) ** power
    weights[n // 2] = 0.0
    k = min(k, n - 1)
    for _ in range(3):
        found = sf.WeightedSampler(weights, replacement=False).draw(k)
        assert np.unique(found).size == k
        assert (weights[found] > 0).all()


def test_a_few_weights_that_hold_nearly_all() -> None:
    # Repeats for ever: the race must take over, and give every other row its chance.
    weights = np.full(10_000, 1e-12)
    weights[:3] = 1.0
    sampler = sf.WeightedSampler(weights, replacement=False, seed=2)
    found = np.array([sampler.draw(6) for _ in range(300)])
    assert all(set(row[:3]) == {0, 1, 2} for row in found)
    others = found[:, 3:]
    assert np.unique(others).size > 800  # of 900 draws from 9997


def test_calls_and_epochs_draw_anew() -> None:
    sampler = sf.WeightedSampler(np.ones(10_000), 10, replacement=False, num_samples=100, seed=1)
    calls = [sampler.draw(100) for _ in range(3)]
    epochs = [np.concatenate(list(sampler)) for _ in range(2)]
    for a in range(5):
        for b in range(a):
            assert np.intersect1d((calls + epochs)[a], (calls + epochs)[b]).size < 20


# --- updates -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 5, 16, 17, 256, 257, 5000])
def test_updates_are_as_good_as_a_new_sampler(n: int) -> None:
    generator = np.random.default_rng(n)
    weights = generator.random(n)
    changed = sf.WeightedSampler(weights, seed=3)
    rows = generator.integers(0, n, 3 * n)  # with repeats: the last counts
    values = generator.random(3 * n) * (generator.random(3 * n) < 0.7)
    values[-1] = 0.5
    changed.update(rows, values)
    weights[rows] = values
    np.testing.assert_array_equal(changed.weights, weights)
    fresh = sf.WeightedSampler(weights, seed=3)
    fresh.update(0, weights[0])  # so that both draw from a tree
    found = changed.draw(20_000)
    np.testing.assert_array_equal(found, fresh.draw(20_000))
    assert (weights[found] > 0).all()
    np.testing.assert_allclose(changed._weights.total, weights.sum(), rtol=1e-14)


def test_an_update_beyond_all_weights_before() -> None:
    sampler = sf.WeightedSampler([1.0, 2.0, 3.0])
    sampler.update([1], [1e300])
    assert (sampler.draw(1000) == 1).all()
    sampler.update([1], [0.0])
    found = sampler.draw(6000)  # the others had no bits left at that scale: they get them back
    assert abs(np.bincount(found, minlength=3) - [1500, 0, 4500]).max() < 200
    assert sampler.weights.tolist() == [1.0, 0.0, 3.0]


@pytest.mark.parametrize(
    ("rows", "weights", "error", "message"),
    [
        ([0, 1], [1.0, -1.0], ValueError, r"weights\[1\]"),
        ([0, 1], [1.0, np.nan], ValueError, r"weights\[1\]"),
        ([0, 3], [1.0, 1.0], IndexError, r"indices\[1\]: 3 is out of range for 3 rows"),
        ([0, 1], [1.0], ValueError, "weights: expected one"),
        ([0, 1, 2], 0.0, ValueError, "no positive weight would be left"),
        ([0, 0.5], 1.0, TypeError, "indices: "),
    ],
)
@pytest.mark.parametrize("updated", [False, True])
def test_bad_updates_change_nothing(
    rows: Any, weights: Any, error: type[Exception], message: str, updated: bool
) -> None:
    sampler, other = (sf.WeightedSampler([5.0, 0.0, 1.0], seed=1) for _ in range(2))
    if updated:
        sampler.update([1], [2.0])
        other.update([1], [2.0])
    with pytest.raises(error, match=message):
        sampler.update(rows, weights)
    np.testing.assert_array_equal(sampler.weights, other.weights)
    assert sampler.state_dict() == other.state_dict()
    np.testing.assert_array_equal(sampler.draw(100), other.draw(100))


def test_resuming_with_updated_weights() -> None:
    weights = np.random.default_rng(1).random(1000)
    sampler = sf.WeightedSampler(weights, 10, seed=1)
    sampler.update([5, 6], [100.0, 0.0])
    sampler.update([5], [0.25])  # the scale remembers the 100
    sampler.draw(7)
    iterator = iter(sampler)
    next(iterator)
    resumed = sf.WeightedSampler(sampler.weights, 10, seed=9)
    resumed.load_state_dict(sampler.state_dict())
    assert resumed.state_dict() == sampler.state_dict()
    np.testing.assert_array_equal(resumed.draw(1000), sampler.draw(1000))
    for a, b in zip(resumed, iterator, strict=True):
        np.testing.assert_array_equal(a, b)
    # And back to a state from before the updates.
    before = sf.WeightedSampler(sampler.weights, 10, seed=1)
    resumed.load_state_dict(before.state_dict())
    np.testing.assert_array_equal(resumed.draw(1000), before.draw(1000))


def test_importance_weights() -> None:
    weights = np.array([1.0, 2.0, 0.0, 5.0])
    sampler = sf.WeightedSampler(weights, seed=1)
    np.testing.assert_allclose(sampler.importance_weights([0, 1, 3]), 8 / (4 * weights[[0, 1, 3]]))
    sampler.update([0], [3.0])
    np.testing.assert_allclose(sampler.importance_weights([3]), [10 / 20])
    # The weighted mean of the draws estimates the plain mean over positive weights.
    values = np.array([1.0, 10.0, 0.0, 100.0])
    found = sampler.draw(400_000)
    estimate = (values[found] * sampler.importance_weights(found)).mean()
    assert abs(estimate - values.sum() / 4) < 0.2


@pytest.mark.torch
def test_tensors_of_weights_and_labels() -> None:
    import torch

    weights = torch.arange(10, dtype=torch.float32)
    np.testing.assert_array_equal(draws(weights), draws(np.arange(10.0)))
    labels = torch.tensor([0, 1, 1, 0])
    assert len(sf.StratifiedSampler(labels, 2)) == 2


# --- classes -------------------------------------------------------------------------------------

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
        (lambda: sf.StratifiedSampler([0, 1], 3), "batch_size: 3 is larger"),
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


# --- fixed bits ----------------------------------------------------------------------------------


def _updated() -> sf.WeightedSampler:
    sampler = sf.WeightedSampler(np.arange(1000), seed=1)
    sampler.update(3, 1e4)
    return sampler


GOLDEN: dict[str, tuple[Callable[[], np.ndarray], list[int]]] = {
    "Fisher-Yates": (
        lambda: sf.Permutation(10, seed=1, epoch=2)[:],
        [2, 3, 0, 6, 4, 1, 8, 9, 7, 5],
    ),
    "network": (
        lambda: sf.Permutation(1000, seed=1, epoch=2)[:6],
        [918, 398, 926, 595, 180, 224],
    ),
    "large": (
        lambda: sf.Permutation(2**62 + 1, seed=1, epoch=2)[-4:],
        [1703708123687668090, 1080694609416347426, 1468860665808206600, 549829464728719894],
    ),
    "blocks": (
        lambda: sf.Permutation(
            1000, seed=1, epoch=3, reverse_pairs=True, block_size=64, blocks_together=3
        )[:6],
        [977, 999, 961, 960, 989, 997],
    ),
    "choose": (
        lambda: sf.choose(10**8, 6, seed=1, draw=2),
        [19782934, 8862225, 18960446, 810811, 91849856, 69474718],
    ),
    "replacement": (
        lambda: sf.BatchSampler(10**6, 8, seed=1, replacement=True).batch(2),
        [859573, 808664, 888814, 277601, 681458, 472506, 584531, 846933],
    ),
    "weighted": (
        lambda: sf.WeightedSampler(np.arange(1000), 8, seed=1).batch(2),
        [818, 977, 594, 865, 610, 442, 807, 777],
    ),
    "weighted draws": (
        lambda: sf.WeightedSampler(np.arange(1000), seed=1).draw(6),
        [686, 284, 579, 454, 508, 680],
    ),
    "race": (
        lambda: sf.WeightedSampler(np.arange(100), 8, seed=1, replacement=False).batch(2),
        [5, 22, 99, 81, 88, 94, 35, 57],
    ),
    "rejection": (
        lambda: sf.WeightedSampler(np.arange(1000), seed=1, replacement=False).draw(6),
        [778, 758, 792, 671, 707, 771],
    ),
    "tree": (
        lambda: _updated().draw(6),
        [133, 520, 755, 666, 705, 820],
    ),
    "balanced": (
        lambda: sf.ClassBalancedSampler(np.arange(100) % 7, 8, seed=1).batch(2),
        [47, 69, 46, 13, 39, 3, 63, 21],
    ),
    "stratified": (
        lambda: sf.StratifiedSampler(np.arange(100) % 7, 8, seed=1).batch(2),
        [72, 17, 95, 89, 20, 63, 36, 51],
    ),
    "groups": (
        lambda: sf.GroupSampler(np.arange(100) % 7, 2, 3, seed=1).batch(2),
        [88, 46, 11, 50, 64, 36],
    ),
}


@pytest.mark.parametrize("threads_used", [1, 3])
@pytest.mark.parametrize("name", GOLDEN)
def test_golden(isa: str, threads: Callable[[int], None], name: str, threads_used: int) -> None:
    """Orders are a promise: a saved run must continue after an update of the library."""
    threads(threads_used)
    make, rows = GOLDEN[name]
    assert make().tolist() == rows


def test_updates_while_another_thread_draws() -> None:
    sampler = sf.WeightedSampler(np.ones(10_000), seed=1)
    done = threading.Event()
    bad: list[int] = []

    def draw() -> None:
        while not done.is_set():
            found = sampler.draw(20_000)
            bad.extend(found[(found < 0) | (found >= 10_000)].tolist())

    thread = threading.Thread(target=draw)
    thread.start()
    for i in range(200):
        sampler.update(np.arange(i, 10_000, 97), float(10 ** (i % 30)))  # scaled anew now and then
    done.set()
    thread.join()
    assert not bad
