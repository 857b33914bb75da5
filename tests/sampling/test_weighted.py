"""Weighted draws, with and without replacement: exactness, updates, and bad input."""

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
        sf.WeightedSampler([1, 1, 1], 4, tail="drop")
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
    with np.errstate(divide="ignore"):
        wanted = weights.mean() / weights
    np.testing.assert_allclose(changed.importance_weights(np.arange(n)), wanted, rtol=1e-14)


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
