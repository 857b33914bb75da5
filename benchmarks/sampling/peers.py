"""The contenders: our samplers, and what one uses in NumPy and torch for the same."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import subgrad_fast as sf
from subgrad_fast.bench.harness import OURS, Contender

RANDPERM = "`torch.randperm`"
MULTINOMIAL = "`torch.multinomial`"
CHOICE = "`numpy.random.Generator.choice`"
MILLISECOND = "1 ms on the clock"

Array = npt.NDArray[Any]
CHUNK = 1 << 16
"""Indices of `Permutation` that are asked for at a time."""


def permutation(n: int) -> list[Contender]:
    """A whole epoch of indices; ours in chunks, since it can."""
    numbers, out = itertools.count(), np.empty(CHUNK, np.int64)

    def ours() -> None:
        order = sf.Permutation(n, epoch=next(numbers))
        for first in range(0, n, CHUNK):
            order.slice(first, min(first + CHUNK, n), out=out[: min(CHUNK, n - first)])

    return [Contender(RANDPERM, partial(torch.randperm, n)), Contender(OURS, ours)]


def weights_of(n: int) -> npt.NDArray[np.float64]:
    """Weights between 0 and 1."""
    return np.random.default_rng(0).random(n)


def weighted(n: int, draws: int, *, build: bool) -> list[Contender]:
    """Draws with replacement; torch builds its table every time, ours only if asked to."""
    weights = weights_of(n)
    tensor, held = torch.from_numpy(weights), sf.WeightedSampler(weights)

    def ours() -> Array:
        return (sf.WeightedSampler(weights) if build else held).draw(draws)

    theirs = partial(torch.multinomial, tensor, draws, replacement=True)
    return [Contender(MULTINOMIAL, theirs), Contender(OURS, ours)]


def weighted_distinct(n: int, k: int) -> list[Contender]:
    """Weighted draws without replacement."""
    weights = weights_of(n)
    shares, rng = weights / weights.sum(), np.random.default_rng(1)
    held = sf.WeightedSampler(weights, replacement=False)
    theirs = partial(rng.choice, n, k, replace=False, p=shares)
    return [Contender(CHOICE, theirs), Contender(OURS, partial(held.draw, k))]


def uniform_distinct(n: int, k: int) -> list[Contender]:
    """Uniform draws without replacement."""
    rng, draws = np.random.default_rng(1), itertools.count()

    def ours() -> Array:
        return sf.choose(n, k, draw=next(draws))

    return [Contender(CHOICE, partial(rng.choice, n, k, replace=False)), Contender(OURS, ours)]


def first_batch(n: int, size: int) -> list[Contender]:
    """The first batch of a new epoch, against the time that it is allowed."""
    loader = sf.BatchLoader(np.ones(n, np.uint8), sf.BatchSampler(n, size))

    def wait() -> None:
        end = time.perf_counter_ns() + 1_000_000
        while time.perf_counter_ns() < end:
            pass

    first: Callable[[], Any] = lambda: next(iter(loader))  # noqa: E731
    return [Contender(MILLISECOND, wait), Contender(OURS, first)]
