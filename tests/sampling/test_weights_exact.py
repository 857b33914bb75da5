"""What weights of any size give, compared with exact numbers: probabilities, races, ratios."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast import _core
from tests.oracles import sampling as reference

DENORMAL, LARGEST = 5e-324, 1.7976931348623157e308
DISTINCT = 4  # purpose of keys
U64 = np.uint64


def light_and_heavy(n: int) -> np.ndarray:
    """Light rows that together matter, and alone are below what n rows of the heavy one leave."""
    weights = np.full(n, 0.99 * 2.0 ** -(62 - (n - 1).bit_length()))
    weights[n // 2] = 1.0
    return weights


def spread(n: int) -> np.ndarray:
    """From the least to the largest number, in random order."""
    weights = np.ldexp(1.0, np.linspace(-1074, 1023, n).astype(int))
    return np.random.default_rng(n).permutation(weights)


KINDS = {
    "equal": lambda n: np.full(n, 0.1),
    "random": lambda n: np.random.default_rng(n).random(n),
    "skewed": lambda n: np.random.default_rng(n).random(n) ** 30,
    "light and heavy": light_and_heavy,
    "denormals": lambda n: DENORMAL * np.random.default_rng(n).integers(0, 9, n) + DENORMAL,
    "largest": lambda n: np.full(n, LARGEST),
    "from the least to the largest": spread,
}


# --- probabilities -------------------------------------------------------------------------------


def integers(weights: np.ndarray) -> list[int]:
    """The weights in units of the least number."""
    return [int(Fraction(w) * 2**1074) for w in weights.tolist()]


def excess(weights: np.ndarray, masses: list[int]) -> float:
    """How far from the weights' the probabilities of these masses are, at most: in units of what is
    promised, max(1, n * p) * 2^-56."""
    n, total = len(masses), sum(masses)
    values, counts = np.unique(weights, return_counts=True)
    exact = dict(zip(values.tolist(), integers(values), strict=True))
    all_exact = sum(x * c for x, c in zip(exact.values(), counts.tolist(), strict=True))
    worst = Fraction(0)
    for w, mass in set(zip(weights.tolist(), masses, strict=True)):
        error = abs(mass * all_exact - exact[w] * total) * 2**56
        worst = max(worst, Fraction(error, max(all_exact, n * exact[w]) * total))
    return float(worst)


def masses_of(sampler: sf.WeightedSampler) -> list[int]:
    held = sampler._weights
    return _core.testing.weight_masses(
        sampler.weights.tolist(), held.exponent if held.changed else None
    )


@pytest.mark.parametrize("n", [1, 2, 3, 5, 1000, 4096, 4097, 40_000])
@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_as_exact_as_promised(kind: str, n: int) -> None:
    weights = KINDS[kind](n)
    sampler = sf.WeightedSampler(weights)
    assert excess(weights, masses_of(sampler)) < 0.5  # of the table: half of what updates leave
    sampler.update(0, weights[0])
    assert excess(weights, masses_of(sampler)) < 1.0


def test_a_million_light_rows() -> None:
    weights = light_and_heavy(2**20)
    sampler = sf.WeightedSampler(weights)
    assert excess(weights, masses_of(sampler)) < 0.5
    sampler.update(0, weights[0])
    assert excess(weights, masses_of(sampler)) < 1.0
    # A control: integers that leave room for a million heavy rows, as they once did.
    cut = np.floor(weights * 2.0**41).astype(np.int64)
    assert excess(weights, cut.tolist()) > 100.0


@pytest.mark.parametrize("n", [1, 3, 300])
def test_probabilities_after_many_updates(n: int) -> None:
    """The scale follows the sum, up and down, and never costs other rows their bits."""
    generator = np.random.default_rng(n)
    weights = generator.random(n)
    sampler = sf.WeightedSampler(weights, seed=2)
    for step in range(60):
        rows = generator.integers(0, n, 4)
        size = int(generator.integers(-1074, 1024)) if step % 3 == 0 else int(step) - 30
        values = np.ldexp(generator.random(4), size)
        values[: step % 4] = 0.0
        left = weights.copy()
        left[rows] = values
        if not left.any():
            continue
        sampler.update(rows, values)
        weights = left
        masses = masses_of(sampler)
        assert excess(weights, masses) < 1.0
        assert all(mass == 0 for mass, w in zip(masses, weights, strict=True) if w == 0.0)
        restored = sf.WeightedSampler(weights, seed=2)
        restored.load_state_dict(sampler.state_dict())
        np.testing.assert_array_equal(restored.draw(50), sampler.draw(50))


def test_an_update_with_zero_costs_no_other_row_its_bits() -> None:
    weights = np.full(4096, 2.0**-900) * (1 + np.arange(4096) / 2**40)
    sampler = sf.WeightedSampler(weights)
    for row in (0, 1):
        sampler.update(row, 0.0)
        weights[row] = 0.0
        assert excess(weights, masses_of(sampler)) < 1.0


@pytest.mark.parametrize("exponent", [-(2**31), -1200, -40, 0, 40, 1200, 2**31 - 1])
def test_any_exponent_gives_good_probabilities(exponent: int) -> None:
    """One that is none of these weights', as a pickle may hold, is not taken."""
    for kind in ("random", "denormals", "largest"):
        weights = KINDS[kind](100)
        assert excess(weights, _core.testing.weight_masses(weights.tolist(), exponent)) < 1.0


# --- without replacement -------------------------------------------------------------------------


def exact_race(weights: np.ndarray, seed: int) -> list[int]:
    """The rows by exact quotients of exponential times and weights; rows of the same time in their
    order."""
    key = reference.epoch_key(U64(seed), U64(0), DISTINCT, 2)
    rows = np.arange(weights.size, dtype=U64)
    first, second = reference.philox(key, rows >> U64(1), U64(1 << 32))
    words = np.where(rows & U64(1), second, first)
    times = -np.log(((words >> U64(12)).astype(np.float64) + 0.5) * 2.0**-52)
    arrivals = [
        (Fraction(time) / Fraction(w), row)
        for row, (time, w) in enumerate(zip(times.tolist(), weights.tolist(), strict=True))
        if w > 0
    ]
    arrivals.sort()
    # The library's logarithm may differ in its last bits.
    assert all(b > a * (1 + Fraction(1, 2**45)) for (a, _), (b, _) in pairwise(arrivals))
    return [row for _, row in arrivals]


@pytest.mark.parametrize("n", [1, 2, 77, 500])
@pytest.mark.parametrize("kind", [*KINDS, "denormals and the largest", "zeros between"])
def test_the_race_is_run_for_every_spread(isa: str, kind: str, n: int) -> None:
    if kind == "denormals and the largest":
        weights = np.where(np.arange(n) % 3 > 0, DENORMAL * (1 + np.arange(n) % 5), LARGEST)
    elif kind == "zeros between":
        weights = np.where(np.arange(n) % 2 == 0, DENORMAL, 0.0)
    else:
        weights = KINDS[kind](n)
    for seed in (1, 2):
        sampler = sf.WeightedSampler(weights, replacement=False, seed=seed)
        assert sampler.draw(int((weights > 0).sum())).tolist() == exact_race(weights, seed)


def test_a_power_of_two_changes_no_order() -> None:
    """Down to where float64 has the same numbers."""
    weights = np.random.default_rng(1).integers(1, 100, 200).astype(np.float64)

    def order(scale: float) -> list[int]:
        return sf.WeightedSampler(weights * scale, replacement=False, seed=3).draw(200).tolist()

    for scale in (DENORMAL, 2.0**-1030, 2.0**-1000, 2.0**1000):
        assert order(scale) == order(1.0)


def test_few_of_many_for_every_spread() -> None:
    """Through the table and then the race: the heavy rows first, each of the others as likely."""
    n = 2000
    weights = np.full(n, DENORMAL)
    weights[:3] = LARGEST
    sampler = sf.WeightedSampler(weights, replacement=False, seed=4)
    found = np.array([sampler.draw(10) for _ in range(300)])
    assert all(set(row[:3]) == {0, 1, 2} for row in found)
    assert np.unique(found[:, 3:]).size > 1250  # of 2100 draws from 1997: 1299 on average


# --- importance weights --------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("updated", [False, True])
@pytest.mark.parametrize("n", [1, 3, 100, 4097])
@pytest.mark.parametrize("kind", KINDS)
def test_importance_weights_of_any_size(kind: str, n: int, updated: bool) -> None:
    weights = KINDS[kind](n)
    if n > 1:
        weights[n // 3] = 0.0
    sampler = sf.WeightedSampler(weights)
    if updated:
        sampler.update(0, weights[0])
    exact = integers(weights)
    total, found = sum(exact), sampler.importance_weights(np.arange(n))
    for w, value in zip(exact, found.tolist(), strict=True):
        if w == 0 or Fraction(total, n * w) > LARGEST:
            assert value == np.inf
        else:
            assert abs(Fraction(value) / Fraction(total, n * w) - 1) < Fraction(1, 2**43)
