"""The samplers before the statistical tests, and the broken ones that the same tests must reject.

Seeds are fixed, so results never change. With some 90 results of the library and a limit of 1e-6,
all of them pass with probability 0.9999 if it is sound.

``python tests/sampling/randomness.py`` writes docs/statistics.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

if not __package__:  # run as a program, which has only its own folder on the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import subgrad_fast as sf
from subgrad_fast import _core
from tests import ROOT
from tests.oracles import sampling as reference
from tests.sampling.class_statistics import class_controls, class_results
from tests.sampling.statistical_tests import (
    DENORMAL,
    LIMIT,
    WEIGHTS,
    Result,
    differences,
    first_pair,
    fixed_points,
    frequencies,
    independent,
    label_balance,
    lehmer,
    light_rows,
    parity,
    places,
    subsets,
    successive,
    unbiased,
    unrelated,
    without_replacement,
)

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


def library_lightened(weights: np.ndarray, count: int) -> np.ndarray:
    """Updated from a heavier first row, at whose scale the others had few bits."""
    sampler = sf.WeightedSampler(weights, seed=10)
    sampler.update(0, weights[0] * 2**14)
    sampler.update(0, weights[0])
    return sampler.draw(count)


def library_distinct(weights: np.ndarray, k: int, count: int) -> np.ndarray:
    sampler = sf.WeightedSampler(weights, seed=8, replacement=False)
    return np.array([sampler.draw(k) for _ in range(count)])


def library_rejection(weights: np.ndarray, k: int, count: int) -> np.ndarray:
    # Rows with hardly any weight make three few enough for drawing with rejection of repeats.
    return library_distinct(np.append(weights, np.full(60, 1e-200)), k, count)


def library_denormal(weights: np.ndarray, k: int, count: int) -> np.ndarray:
    return library_distinct(weights * DENORMAL, k, count)


def library_spread(weights: np.ndarray, k: int, count: int) -> np.ndarray:
    # Behind two rows of the heaviest weights, which come first.
    found = library_distinct(np.append([1.7e308, 1e308], weights * DENORMAL), k + 2, count)
    return found[:, 2:] - 2


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
    yield lambda: light_rows(library_weighted)
    yield lambda: light_rows(library_lightened)
    yield lambda: without_replacement(library_distinct, "race")
    yield lambda: without_replacement(library_rejection, "by rejection")
    yield lambda: without_replacement(library_denormal, "race of denormals")
    yield lambda: without_replacement(library_spread, "race of denormals behind the heaviest")
    yield from class_results()


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
    return (_core.testing.random_words(1, 0, 0, count // 2) % np.uint64(n)).astype(np.int64)


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


def cut_to_30_bits(weights: np.ndarray, count: int) -> np.ndarray:
    """Weights as integers whose largest has 30 bits."""
    return library_weighted(np.floor(weights * 2.0**30), count)


def overflowing_times(weights: np.ndarray, k: int, count: int) -> np.ndarray:
    """A race in float64, where those of tiny weights arrive at infinity and in their order."""
    clocks = np.random.default_rng(1).standard_exponential((count, weights.size))
    with np.errstate(over="ignore"):
        return np.argsort(clocks / (weights * 1e-310), axis=1, kind="stable")[:, :k]


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
    yield "weights cut to 30 bits", lambda: light_rows(cut_to_30_bits)
    yield "largest u * w", lambda: without_replacement(top_of_products, "race")
    yield (
        "arrival times in float64",
        lambda: without_replacement(overflowing_times, "race of denormals"),
    )
    yield from class_controls()


# --- the page ------------------------------------------------------------------------------------

PAGE = """# Statistics of the samplers

The tests of `statistical_tests.py` and `class_statistics.py` in `tests/sampling/`, run on the
library and on samplers that are broken on purpose. Made by `python tests/sampling/randomness.py`,
and asserted by `tests/sampling/test_statistics.py`. Seeds are fixed. A p-value is two-sided (a fit
that is too good counts too), and below {limit:g} means rejected: with {passed} results of a sound
library all pass with probability {all_pass:.5f}.

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
    target = ROOT / "docs" / "statistics.md"
    target.write_text(page, encoding="utf-8")
    wrong = sum(result.rejected for result in good) + sum(not result.rejected for _, result in bad)
    seconds = time.perf_counter() - begin
    print(f"{len(good)} results, {len(bad)} controls, {wrong} are wrong, {seconds:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
