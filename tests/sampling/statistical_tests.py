"""Statistical tests of orders and draws: functions from a source of them to a result.

Every result has a two-sided p-value: a fit that is too good is as suspicious as a bad one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LIMIT = 1e-6

# (rows, first epoch, number of epochs) -> int64[epochs, rows]
Orders = Callable[[int, int, int], np.ndarray]


@dataclass(frozen=True)
class Result:
    test: str
    statistic: float
    expected: float  # what the statistic is on average
    p: float

    @property
    def rejected(self) -> bool:
        return self.p < LIMIT


def normal(test: str, value: float, mean: float, variance: float) -> Result:
    z = (value - mean) / math.sqrt(variance)
    return Result(test, value, mean, math.erfc(abs(z) / math.sqrt(2)))


def chi_square(test: str, counts: np.ndarray, expected: np.ndarray | float) -> Result:
    """Counts against expectations with the same sum; the p-value is Wilson and Hilferty's."""
    expected = np.broadcast_to(np.asarray(expected, np.float64), counts.shape)
    if (expected < 5).any():
        raise ValueError("too few observations")
    df = counts.size - 1
    statistic = float(((counts - expected) ** 2 / expected).sum())
    spread = 2 / (9 * df)
    z = ((statistic / df) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return Result(test, statistic, df, math.erfc(abs(z) / math.sqrt(2)))


# --- tests of orders ----------------------------------------------------------------------------


def lehmer(orders: Orders, n: int) -> Result:
    """All n! orders are equally likely."""
    found = orders(n, 0, 60 * math.factorial(n))
    code = np.zeros(len(found), np.int64)
    for i in range(n):
        smaller_behind = (found[:, i + 1 :] < found[:, i : i + 1]).sum(axis=1)
        code = code * (n - i) + smaller_behind
    counts = np.bincount(code, minlength=math.factorial(n))
    return chi_square(f"Lehmer codes, n = {n}", counts, len(found) / counts.size)


def places(orders: Orders, n: int) -> Result:
    """Every row is equally likely at every position."""
    found = orders(n, 0, 100 * n)
    counts = np.array([np.bincount(found[:, p], minlength=n) for p in range(n)])
    # Rows and columns of the table are fixed: (n - 1)^2 degrees of freedom.
    statistic = ((counts - 100.0) ** 2 / 100).sum()
    df = (n - 1) ** 2
    return normal(f"position x row, n = {n}", statistic, df, 2 * df)


def differences(orders: Orders, n: int, count: int = 8000) -> Result:
    """The difference of neighbours, modulo n, is equally likely to be 1 .. n-1."""
    found = orders(n, 0, count)
    difference = (found[:, 1:] - found[:, :-1]) % n
    counts = np.bincount(difference.ravel(), minlength=n)[1:]
    name = f"neighbours' differences, n = {n}, {count} orders"
    return chi_square(name, counts, difference.size / (n - 1))


def first_pair(orders: Orders, n: int) -> Result:
    """All pairs of rows are equally likely at the first two positions."""
    found = orders(n, 0, 10 * n * (n - 1))
    counts = np.bincount(found[:, 0] * n + found[:, 1], minlength=n * n).reshape(n, n)
    counts = counts[~np.eye(n, dtype=bool)]
    return chi_square(f"first two rows, n = {n}", counts, len(found) / counts.size)


def fixed_points(orders: Orders, n: int) -> Result:
    """The number of rows at their own position is Poisson distributed with mean 1."""
    found = orders(n, 0, 20000)
    number = (found == np.arange(n)).sum(axis=1)
    counts = np.bincount(np.minimum(number, 6), minlength=7)
    share = np.array([math.exp(-1) / math.factorial(k) for k in range(6)])
    share = np.append(share, 1 - share.sum())
    return chi_square(f"fixed points, n = {n}", counts, share * len(found))


def parity(orders: Orders, n: int) -> Result:
    """Half of the orders are even."""
    found = orders(n, 0, 4000)
    lowest = np.broadcast_to(np.arange(n), found.shape).copy()  # row of the cycle, of those reached
    step = found
    for _ in range((n - 1).bit_length()):
        lowest = np.minimum(lowest, np.take_along_axis(lowest, step, axis=1))
        step = np.take_along_axis(step, step, axis=1)
    cycles = (lowest == np.arange(n)).sum(axis=1)
    odd = int(((n - cycles) % 2).sum())
    return normal(f"odd orders, n = {n}", odd, len(found) / 2, len(found) / 4)


def label_balance(orders: Orders, n: int, batch: int = 100, classes: int = 10) -> Result:
    """On rows sorted by label, the label counts of batches scatter as they should."""
    found = orders(n, 0, 300)
    labels = found * classes // n
    batches = n // batch
    cell = np.arange(n) // batch * classes + labels
    total = 0.0
    for row in cell:
        counts = np.bincount(row, minlength=batches * classes)
        total += float(((counts - batch / classes) ** 2 / (batch / classes)).sum())
    df = (batches - 1) * (classes - 1) * len(found)
    # Drawn without replacement: a little more than with it.
    return normal(f"label counts of batches, n = {n}", total, df * n / (n - 1), 2 * df)


def unrelated(orders: Callable[[int, int, int], np.ndarray], n: int = 1000) -> Result:
    """Seed s, epoch 1 and seed s + 1, epoch 0 agree in one position on average, as any two do."""
    pairs = 2000
    agree = sum(int((orders(n, s, 1) == orders(n, s + 1, 0)).sum()) for s in range(pairs))
    return normal(
        "seed s, epoch 1 against seed s + 1, epoch 0: equal positions", agree, pairs, pairs
    )


def successive(orders: Orders, n: int) -> Result:
    """Consecutive epochs agree in one position on average."""
    found = orders(n, 0, 5001)
    agree = int((found[1:] == found[:-1]).sum())
    return normal(f"successive epochs: equal positions, n = {n}", agree, 5000, 5000)


# --- tests of draws -----------------------------------------------------------------------------


def unbiased(draw: Callable[[int, int], np.ndarray]) -> Result:
    """Draws from [0, 3 * 2^61): all twelfths equally likely. 2^64 is no multiple of that range."""
    n = 3 * 2**61
    found = draw(n, 120_000)
    counts = np.bincount((found // (n // 12)).astype(np.int64), minlength=12)
    return chi_square("uniform draws from 3 * 2^61, twelfths", counts, found.size / 12)


def independent(draw: Callable[[int, int], np.ndarray]) -> Result:
    """Neighbouring draws from 32 values: all pairs equally likely."""
    found = draw(32, 200_000).reshape(-1, 2)
    counts = np.bincount(found[:, 0] * 32 + found[:, 1], minlength=1024)
    return chi_square("uniform draws, neighbouring pairs", counts, len(found) / 1024)


WEIGHTS = np.array([5.0, 0.0, 1.0, 1e-30, 3.0, 0.5, 0.0, 20.0, 7.0, 1.0])


def frequencies(draw: Callable[[np.ndarray, int], np.ndarray], weights: np.ndarray) -> Result:
    """Draws against exact probabilities."""
    found = draw(weights, 1_000_000)
    counts = np.bincount(found, minlength=weights.size)
    expected = weights / weights.sum() * found.size
    rare = expected < 5
    if counts[weights == 0].any():
        return Result(f"weighted draws, {weights.size} weights: a zero weight", 1, 0, 0.0)
    together = expected[rare].sum()
    if counts[rare].sum() > together + 10 * math.sqrt(together) + 1:
        return Result(f"weighted draws, {weights.size} weights: rare rows", 1, 0, 0.0)
    kept = counts[~rare]
    scaled = expected[~rare] * kept.sum() / expected[~rare].sum()
    return chi_square(f"weighted draws, {weights.size} weights", kept, scaled)


def light_rows(draw: Callable[[np.ndarray, int], np.ndarray]) -> Result:
    """65536 rows, each below 2^-30 of the sum, come together as often as their sum says."""
    weights = np.append(1.0, np.full(2**16, 0.99 * 2.0**-30))
    found = draw(weights, 4_000_000)
    p = weights[1:].sum() / weights.sum()
    light = np.count_nonzero(found)
    return normal("weighted draws, light rows", light, found.size * p, found.size * p * (1 - p))


DENORMAL = 5e-324
RACERS = np.array([4.0, 1.0, 2.0, 8.0, 1.0])


def without_replacement(draw: Callable[[np.ndarray, int, int], np.ndarray], how: str) -> Result:
    """Three of five rows, one after the other: exact probabilities of every sequence."""
    found = draw(RACERS, 3, 60_000)
    name = f"draws without replacement, {how}"
    counts = np.bincount(found @ np.array([25, 5, 1]), minlength=125)
    expected = np.zeros(125)
    for a, b, c in itertools.permutations(range(5), 3):
        left = RACERS.sum()
        p = 1.0
        for row in (a, b, c):
            p *= RACERS[row] / left
            left -= RACERS[row]
        expected[25 * a + 5 * b + c] = p * len(found)
    if counts[expected == 0].any():
        return Result(f"{name}: a repeat", 1, 0, 0.0)
    kept = expected > 5
    pooled = np.append(counts[kept], counts[~kept].sum())
    pooled_expected = np.append(expected[kept], expected[~kept].sum())
    if pooled_expected[-1] < 5:
        pooled, pooled_expected = (
            pooled[:-1],
            pooled_expected[:-1] * pooled[:-1].sum() / (pooled_expected[:-1].sum()),
        )
    return chi_square(name, pooled, pooled_expected)


def subsets(draw: Callable[[int, int, int], np.ndarray]) -> Result:
    """4 of 9 rows: all sets are equally likely."""
    found = draw(9, 4, 12_600)
    counts = np.unique((1 << found).sum(axis=1), return_counts=True)[1]
    counts = np.append(counts, np.zeros(126 - counts.size, np.int64))
    return chi_square("uniform draws without replacement, sets of 4 of 9", counts, len(found) / 126)
