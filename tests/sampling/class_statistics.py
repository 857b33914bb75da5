"""Statistical tests of batches by class, the samplers before them, and broken ones (controls).

`randomness.py` runs them with the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

import subgrad_fast as sf
from tests.sampling.statistical_tests import Result, chi_square, normal

# (labels, rows in a batch, epochs) -> the labels of every epoch, int64[epochs, rows]
Epochs = Callable[[tuple[int, ...], int, int], np.ndarray]
# (classes, P, batches, epochs) -> the classes of every batch, int64[epochs, batches, P]
Groups = Callable[[int, int, int, int], np.ndarray]

# --- tests ---------------------------------------------------------------------------------------


def _pairs(counts: np.ndarray) -> np.ndarray:
    return counts[np.triu_indices(len(counts), 1)]


def meetings(epochs: Epochs, batch: int) -> Result:
    """Batches of two rows, 9 classes of two rows: all 36 pairs of classes are equally likely."""
    labels = tuple(range(9)) * 2
    pairs = epochs(labels, 2, 7200)[:, 2 * batch : 2 * batch + 2]
    low, high = pairs.min(axis=1), pairs.max(axis=1)
    counts = np.bincount(low * 9 + high, minlength=81).reshape(9, 9)
    return chi_square(f"pairs of classes in batch {batch}", _pairs(counts), 200)


def partitions(epochs: Epochs) -> Result:
    """Six single rows beside a class of six: the 90 ways to lie in three batches of four."""
    found = epochs((0,) * 6 + (1, 2, 3, 4, 5, 6), 4, 9000)
    where = np.zeros((len(found), 7), np.int64)
    np.put_along_axis(where, found, np.broadcast_to(np.arange(12) // 4, found.shape), axis=1)
    counts = np.bincount(where[:, 1:] @ 3 ** np.arange(6), minlength=3**6)
    possible = [
        np.dot(way, 3 ** np.arange(6))
        for way in itertools.product(range(3), repeat=6)
        if all(way.count(b) == 2 for b in range(3))
    ]
    if counts.sum() != counts[possible].sum():
        return Result("single rows over batches: a batch with others than two", 1, 0, 0.0)
    return chi_square("single rows over batches, 90 ways", counts[possible], 100)


def shares(epochs: Epochs, sizes: tuple[int, ...], size: int, batch: int) -> Result:
    """One class, at random, has a row more than the whole part of its share: with the probability
    that makes its share of it. (Sizes are such that it is one.)"""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = min(size, labels.size - batch * size)
    share = rows * np.array(sizes) / labels.size
    found = epochs(tuple(labels.tolist()), size, 6000)[:, batch * size : batch * size + rows]
    have = (found[:, :, None] == np.arange(len(sizes))).sum(axis=1)
    more = (have - np.floor(share)).sum(axis=0).astype(np.int64)
    rest = share - np.floor(share)
    return chi_square(
        f"shares of classes of {', '.join(map(str, sizes))} in batch {batch}",
        more[rest > 0],
        rest[rest > 0] * len(found),
    )


def class_places(epochs: Epochs, batch: int) -> Result:
    """Eight classes, one row of each in a batch: each is equally likely at every position, and so
    on each of eight ranks."""
    labels = tuple(range(8)) * 3
    found = epochs(labels, 8, 4000)[:, 8 * batch : 8 * batch + 8]
    counts = np.array([np.bincount(found[:, p], minlength=8) for p in range(8)])
    statistic = ((counts - 500.0) ** 2 / 500).sum() * 7 / 8  # every column has each class once
    return normal(f"position x class, batch {batch}", statistic, 49, 98)


def rank_changes(epochs: Epochs) -> Result:
    """Of the class at a position, one in eight times the next batch has it there again."""
    found = epochs(tuple(range(8)) * 3, 8, 4000).reshape(4000, 3, 8)
    again = int((found[:, 0] == found[:, 1]).sum())
    return normal("the same class at the same position of the next batch", again, 4000, 4000)


def round_pairs(groups: Groups, batch: int) -> Result:
    """Five classes, two in a batch: all ten pairs are equally likely, also between two rounds."""
    found = groups(5, 2, 5, 5000)[:, batch]
    low, high = found.min(axis=1), found.max(axis=1)
    counts = np.bincount(low * 5 + high, minlength=25).reshape(5, 5)
    return chi_square(f"pairs of classes that go round, batch {batch}", _pairs(counts), 500)


def rounds(groups: Groups) -> Result:
    """Three classes, two in a batch: two rounds have 24 orders with no class twice in a batch."""
    found = groups(3, 2, 3, 6000).reshape(-1, 6)
    counts = np.bincount(found @ 3 ** np.arange(6), minlength=3**6)
    possible = [
        np.dot(first + second, 3 ** np.arange(6))
        for first, second in itertools.product(itertools.permutations(range(3)), repeat=2)
        if first[2] != second[0]
    ]
    if counts.sum() != counts[possible].sum():
        return Result("two rounds of three classes: a class twice", 1, 0, 0.0)
    return chi_square("two rounds of three classes", counts[possible], 250)


# --- the library ---------------------------------------------------------------------------------


@cache
def stratified(labels: tuple[int, ...], size: int, count: int) -> np.ndarray:
    sampler = sf.StratifiedSampler(np.array(labels), size, seed=11)
    return np.array(labels)[np.array([sampler.rows(e, 0, len(labels)) for e in range(count)])]


@cache
def by_seed(labels: tuple[int, ...], size: int, count: int) -> np.ndarray:
    made = (sf.StratifiedSampler(np.array(labels), size, seed=s) for s in range(count))
    return np.array(labels)[np.array([sampler.rows(0, 0, len(labels)) for sampler in made])]


@cache
def quotas(labels: tuple[int, ...], size: int, count: int) -> np.ndarray:
    """One row of each of as many classes as there are rows in a batch."""
    sampler = sf.StratifiedSampler(np.array(labels), size, quotas=[1] * size, seed=12)
    return np.array(labels)[np.array([sampler.rows(e, 0, len(labels)) for e in range(count)])]


@cache
def going_round(classes: int, per_batch: int, batches: int, count: int) -> np.ndarray:
    sampler = sf.GroupSampler(
        np.arange(classes), per_batch, 1, go_round=True, num_batches=batches, seed=13
    )
    found = np.array([sampler.rows(e, 0, sampler.length) for e in range(count)])
    return found.reshape(count, batches, per_batch)


UNEQUAL = [((11, 8, 1), 4, 0), ((11, 8, 1), 4, 3), ((11, 8, 3), 4, 2), ((11, 8, 3), 4, 5)]


def class_results() -> Iterator[Callable[[], Result]]:
    for batch in (0, 4, 8):
        yield lambda b=batch: meetings(stratified, b)
    yield lambda: meetings(by_seed, 3)
    yield lambda: partitions(stratified)
    for sizes, size, batch in UNEQUAL:
        yield lambda s=sizes, n=size, b=batch: shares(stratified, s, n, b)
    for batch in (0, 2):
        yield lambda b=batch: class_places(stratified, b)
        yield lambda b=batch: class_places(quotas, b)
    yield lambda: rank_changes(stratified)
    yield lambda: rank_changes(quotas)
    for batch in (0, 2, 3):
        yield lambda b=batch: round_pairs(going_round, b)
    yield lambda: rounds(going_round)


# --- broken on purpose ---------------------------------------------------------------------------


def interleaved(labels: tuple[int, ...], size: int, count: int) -> np.ndarray:
    """Entry j of a class with m rows at (j + 1/2) / m: the same order of classes every epoch."""
    counts = np.bincount(labels)
    classes = np.repeat(np.arange(counts.size), counts)
    turns = np.arange(classes.size) - (np.cumsum(counts) - counts)[classes]
    found = classes[np.argsort((turns + 0.5) / counts[classes], kind="stable")]
    return np.broadcast_to(found, (count, found.size))


def shuffled_interleaved(labels: tuple[int, ...], size: int, count: int) -> np.ndarray:
    """The same with shuffled batches: which classes meet is still always the same."""
    generator = np.random.default_rng(1)
    found = interleaved(labels, size, count).copy()
    for begin in range(0, found.shape[1], size):
        batch = found[:, begin : begin + size]
        found[:, begin : begin + size] = generator.permuted(batch, axis=1)
    return found


def renumbered_interleaved(labels: tuple[int, ...], size: int, count: int) -> np.ndarray:
    """The same with classes of the same size exchanged: which of them meet is random, but not
    which rank gets a class again, nor who gets the row more."""
    generator = np.random.default_rng(1)
    counts = np.bincount(labels)
    found = interleaved(labels, size, count)
    names = np.tile(np.arange(counts.size), (count, 1))
    for m in np.unique(counts):
        alike = counts == m
        names[:, alike] = generator.permuted(names[:, alike], axis=1)
    return np.take_along_axis(names, found, axis=1)


def in_fixed_rounds(classes: int, per_batch: int, batches: int, count: int) -> np.ndarray:
    """One order of the classes, and the same again: who meets is the same in every round."""
    generator = np.random.default_rng(1)
    order = generator.permuted(np.tile(np.arange(classes), (count, 1)), axis=1)
    return order[:, np.arange(batches * per_batch) % classes].reshape(count, batches, per_batch)


def swapped_rounds(classes: int, per_batch: int, batches: int, count: int) -> np.ndarray:
    """Rounds whose first class is the lowest that is not yet in the batch."""
    generator = np.random.default_rng(1)
    length = batches * per_batch
    found = np.empty((count, length + classes), np.int64)
    for begin in range(0, length, classes):
        now = generator.permuted(np.tile(np.arange(classes), (count, 1)), axis=1)
        if begin % per_batch:
            least = (found[:, begin - 1] == 0).astype(np.int64)
            at = (now == least[:, None]).argmax(axis=1)
            rows = np.arange(count)
            now[rows, at], now[rows, 0] = now[rows, 0], least
        found[:, begin : begin + classes] = now
    return found[:, :length].reshape(count, batches, per_batch)


def class_controls() -> Iterator[tuple[str, Callable[[], Result]]]:
    yield "classes interleaved", lambda: meetings(interleaved, 4)
    yield "classes interleaved", lambda: partitions(interleaved)
    yield "classes interleaved", lambda: shares(interleaved, (11, 8, 1), 4, 3)
    yield "classes interleaved", lambda: class_places(interleaved, 2)
    yield "classes interleaved", lambda: rank_changes(interleaved)
    yield "the same, batches shuffled", lambda: meetings(shuffled_interleaved, 4)
    yield "the same, batches shuffled", lambda: partitions(shuffled_interleaved)
    yield "the same, classes exchanged", lambda: shares(renumbered_interleaved, (11, 8, 3), 4, 2)
    yield "the same, classes exchanged", lambda: rank_changes(renumbered_interleaved)
    yield "the same round again", lambda: rounds(in_fixed_rounds)
    yield "rounds with the lowest class first", lambda: round_pairs(swapped_rounds, 2)
    yield "rounds with the lowest class first", lambda: rounds(swapped_rounds)
