"""Statistical tests of the samplers, and the broken ones that the same tests must reject.

A test is a function from a source (of orders, of draws) to results. Every result has a two-sided
p-value: a fit that is too good is as suspicious as a bad one. Seeds are fixed, so results never
change. With some 60 results of the library and a limit of 1e-6, all of them pass with probability
0.9999 if it is sound.

``python tests/randomness.py`` writes docs/statistics.md.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sampling_reference as reference

import subgrad_fast as sf
from subgrad_fast import _core

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


def without_replacement(draw: Callable[[np.ndarray, int, int], np.ndarray], spare: int) -> Result:
    """Three of `5 + spare` rows, one after the other: exact probabilities of every sequence.

    The spare rows have no weight, but decide how the rows are drawn.
    """
    weights = np.concatenate([[4.0, 1.0, 2.0, 8.0, 1.0], np.zeros(spare)])
    found = draw(weights, 3, 60_000)
    counts = np.bincount(found @ np.array([25, 5, 1]), minlength=125)
    expected = np.zeros(125)
    for a, b, c in itertools.permutations(range(5), 3):
        left = weights[:5].sum()
        p = 1.0
        for row in (a, b, c):
            p *= weights[row] / left
            left -= weights[row]
        expected[25 * a + 5 * b + c] = p * len(found)
    if counts[expected == 0].any():
        return Result("draws without replacement: a repeat", 1, 0, 0.0)
    kept = expected > 5
    pooled = np.append(counts[kept], counts[~kept].sum())
    pooled_expected = np.append(expected[kept], expected[~kept].sum())
    if pooled_expected[-1] < 5:
        pooled, pooled_expected = (
            pooled[:-1],
            pooled_expected[:-1] * pooled[:-1].sum() / (pooled_expected[:-1].sum()),
        )
    name = (
        "draws without replacement, race"
        if spare == 0
        else "draws without replacement, by rejection"
    )
    return chi_square(name, pooled, pooled_expected)


def subsets(draw: Callable[[int, int, int], np.ndarray]) -> Result:
    """4 of 9 rows: all sets are equally likely."""
    found = draw(9, 4, 12_600)
    counts = np.unique((1 << found).sum(axis=1), return_counts=True)[1]
    counts = np.append(counts, np.zeros(126 - counts.size, np.int64))
    return chi_square("uniform draws without replacement, sets of 4 of 9", counts, len(found) / 126)


# --- sources: the library ------------------------------------------------------------------------


def library(n: int, first: int, count: int) -> np.ndarray:
    found = np.empty((count, n), np.int64)
    for i, row in enumerate(found):
        sf.Permutation(n, seed=20, epoch=first + i).slice(0, n, out=row)
    return found


def library_by_seed(n: int, seed: int, epoch: int) -> np.ndarray:
    return sf.Permutation(n, seed=seed, epoch=epoch)[:]


def library_uniform(n: int, count: int) -> np.ndarray:
    sampler = sf.BatchSampler(n, count, replacement=True, num_samples=count, seed=5)
    return next(iter(sampler))


def library_weighted(weights: np.ndarray, count: int) -> np.ndarray:
    return sf.WeightedSampler(weights, seed=6).draw(count)


def library_updated(weights: np.ndarray, count: int) -> np.ndarray:
    sampler = sf.WeightedSampler(np.ones_like(weights), seed=7)
    sampler.update(np.arange(weights.size), weights)
    return sampler.draw(count)


def library_distinct(weights: np.ndarray, k: int, count: int) -> np.ndarray:
    sampler = sf.WeightedSampler(weights, seed=8, replacement=False)
    return np.array([sampler.draw(k) for _ in range(count)])


def library_rejection(weights: np.ndarray, k: int, count: int) -> np.ndarray:
    # Rows with hardly any weight make three few enough for drawing with rejection of repeats.
    padded = np.where(np.arange(weights.size) < 5, weights, 1e-200)
    return library_distinct(padded, k, count)


def library_choose(n: int, k: int, count: int) -> np.ndarray:
    return np.array([sf.choose(n, k, seed=9, draw=i) for i in range(count)])


def library_results() -> Iterator[Callable[[], Result]]:
    for n in (2, 3, 4, 5, 6, 7):
        yield lambda n=n: lehmer(library, n)
    for n in (10, 63, 64, 65, 100, 128, 257):
        yield lambda n=n: places(library, n)
    for n in (20, 63, 64, 65, 100, 128, 257, 1000):
        yield lambda n=n: differences(library, n)
        yield lambda n=n: fixed_points(library, n)
    yield lambda: differences(library, 128, 100_000)
    for n in (64, 65, 100):
        yield lambda n=n: first_pair(library, n)
    for n in (16, 32, 63, 64, 65, 96, 127, 128, 129, 255, 256, 257, 1024):
        yield lambda n=n: parity(library, n)
    for n in (1000, 4100, 5000, 8200):
        yield lambda n=n: label_balance(library, n)
    for n in (40, 64, 1000):
        yield lambda n=n: successive(library, n)
    yield lambda: unrelated(library_by_seed)
    yield lambda: unbiased(library_uniform)
    yield lambda: independent(library_uniform)
    yield lambda: subsets(library_choose)
    generator = np.random.default_rng(3)
    many = generator.random(5000) ** 3 * (generator.random(5000) < 0.8)
    for weights in (WEIGHTS, many):
        yield lambda w=weights: frequencies(library_weighted, w)
        yield lambda w=weights: frequencies(library_updated, w)
    yield lambda: without_replacement(library_distinct, 0)
    yield lambda: without_replacement(library_rejection, 60)


# --- sources: broken on purpose ------------------------------------------------------------------


def keys(first: int, count: int) -> np.ndarray:
    return reference.epoch_key(
        np.uint64(20), np.arange(first, first + count, dtype=np.uint64), reference.PERMUTATION
    )


def few_rounds(n: int, first: int, count: int, rounds: int = 3) -> np.ndarray:
    return reference.orders(n, keys(first, count), rounds=rounds)


def six_rounds(n: int, first: int, count: int) -> np.ndarray:
    return few_rounds(n, first, count, rounds=6)


def simon(n: int, first: int, count: int) -> np.ndarray:
    return reference.simon_orders(n, keys(first, count))


def even_only(n: int, first: int, count: int) -> np.ndarray:
    return reference.orders(n, keys(first, count), exchange=False)


def walked_from_twice(n: int, first: int, count: int) -> np.ndarray:
    return reference.orders(n, keys(first, count), exchange=False, bits=n.bit_length())


def modulo_shuffle(n: int, first: int, count: int) -> np.ndarray:
    """Fisher and Yates with four random bits % (i + 1) a step."""
    words = reference.philox(keys(first, count).reshape(-1, 1), np.arange(n), np.uint64(0))[0]
    found = np.broadcast_to(np.arange(n), (count, n)).copy()
    rows = np.arange(count)
    for i in range(n - 1, 0, -1):
        j = (words[:, i] & np.uint64(15)).astype(np.int64) % (i + 1)
        found[rows, i], found[rows, j] = found[rows, j], found[rows, i]
    return found


def modulo_draws(n: int, count: int) -> np.ndarray:
    return (_core.random_words(1, 0, 0, count // 2) % np.uint64(n)).astype(np.int64)


def every_second_alike(n: int, count: int) -> np.ndarray:
    return np.repeat(library_uniform(n, count)[::2], 2)


def seed_plus_epoch(n: int, seed: int, epoch: int) -> np.ndarray:
    return sf.Permutation(n, seed=seed + epoch)[:]


def running_sums(weights: np.ndarray, count: int) -> np.ndarray:
    """A search in running sums for a number of 16 bits: zero finds a first weight of zero."""
    sums = np.cumsum(weights)
    u = np.random.default_rng(1).integers(0, 2**16, count) / 2**16 * sums[-1]
    return np.searchsorted(sums, u)


def three_percent_off(weights: np.ndarray, count: int) -> np.ndarray:
    wrong = weights.copy()
    wrong[0] *= 1.03
    return library_weighted(wrong, count)


def top_of_products(weights: np.ndarray, k: int, count: int) -> np.ndarray:
    """The k largest of u * w: a race run wrongly."""
    return np.argsort(-np.random.default_rng(1).random((count, weights.size)) * weights)[:, :k]


def control_results() -> Iterator[tuple[str, Callable[[], Result]]]:
    for n in (64, 65, 128):
        yield "3-round network", lambda n=n: differences(few_rounds, n)
        yield "3-round network", lambda n=n: fixed_points(few_rounds, n)
    yield "3-round network", lambda: places(few_rounds, 65)
    yield "3-round network", lambda: first_pair(few_rounds, 64)
    yield "6-round network", lambda: differences(six_rounds, 128, 40_000)
    yield "network for n < 64", lambda: lehmer(even_only, 7)
    for n in (1000, 5000):
        yield "4-round Simon-like cipher", lambda n=n: label_balance(simon, n)
    yield "4-round Simon-like cipher", lambda: differences(simon, 64)
    yield "4-round Simon-like cipher", lambda: fixed_points(simon, 128)
    for n in (64, 128, 256):
        yield "network without the exchange", lambda n=n: parity(even_only, n)
        yield "the same, walked from a block of 2n", lambda n=n: parity(walked_from_twice, n)
    yield "network without the exchange", lambda: parity(even_only, 100)
    yield "Fisher-Yates with 4 bits % n", lambda: lehmer(modulo_shuffle, 7)
    yield "word % n", lambda: unbiased(modulo_draws)
    yield "draws that come in pairs", lambda: independent(every_second_alike)
    yield "key = seed + epoch", lambda: unrelated(seed_plus_epoch)
    yield "running sums of weights", lambda: frequencies(running_sums, np.append(0.0, np.ones(9)))
    yield "a weight off by 3 %", lambda: frequencies(three_percent_off, WEIGHTS)
    yield "largest u * w", lambda: without_replacement(top_of_products, 0)


# --- the page ------------------------------------------------------------------------------------

PAGE = """# Statistics of the samplers

The tests of `tests/randomness.py`, run on the library and on samplers that are broken on
purpose. Made by `python tests/randomness.py`; `tests/test_sampling_statistics.py` asserts the
same results. Seeds are fixed. A p-value is two-sided (a fit that is too good counts too), and
below {limit:g} means rejected: with {passed} results of a sound library all pass with
probability {all_pass:.5f}.

## The library

{library}

## Negative controls: the same tests must reject these

{controls}

Why 12 rounds, an exchange and a table: 6 rounds are rejected at n = 128, and 8 were not told
from random by these tests. A Feistel network is an even permutation of its block. Walking down
from a block of N to n leaves a parity bias of n(n-1) / N(N-1), which is still 1/4 for N = 2n;
exchanging the first two positions by one more key bit removes it at every n. Below 64 rows
orders are drawn exactly.
"""


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def columns(result: Result) -> list[str]:
    return [
        result.test,
        f"{result.statistic:.6g}",
        f"{result.expected:.6g}",
        "< 1e-100" if result.p < 1e-100 else f"{result.p:.3g}",
        "**rejected**" if result.rejected else "passed",
    ]


def main() -> int:
    begin = time.perf_counter()
    good = [run() for run in library_results()]
    bad = [(name, run()) for name, run in control_results()]
    header = ["test", "statistic", "expected", "p", ""]
    page = PAGE.format(
        limit=LIMIT,
        passed=len(good),
        all_pass=(1 - LIMIT) ** len(good),
        library=table(header, [columns(result) for result in good]),
        controls=table(["control", *header], [[name, *columns(result)] for name, result in bad]),
    )
    target = Path(__file__).resolve().parent.parent / "docs" / "statistics.md"
    target.write_text(page, encoding="utf-8")
    wrong = sum(result.rejected for result in good) + sum(not result.rejected for _, result in bad)
    seconds = time.perf_counter() - begin
    print(f"{len(good)} results, {len(bad)} controls, {wrong} are wrong, {seconds:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
