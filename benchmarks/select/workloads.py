"""Arrays that are hard to select from: a sample of them says little about the whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from subgrad_fast.bench.workloads import Values, heavy_tailed


def two_values(n: int) -> Values:
    """1 and -3 at random."""
    return np.where(np.random.default_rng(0).random(n) < 0.5, 1, -3).astype(np.float32)


def one_huge(n: int) -> Values:
    """Zeros but one."""
    x = np.zeros(n, np.float32)
    x[n // 3] = 1e30
    return x


def period(n: int) -> Values:
    """Every 16th element, one a cache line, is large; half of them are alike."""
    x = heavy_tailed(n)
    x[::16] *= 1000
    x[::32] = 1000
    return x


def a_run(n: int) -> Values:
    """All that is large lies together."""
    x = heavy_tailed(n)
    x[n // 2 : n // 2 + n // 200] *= 1e6
    return x


ADVERSARIES: dict[str, Callable[[int], Values]] = {
    "equal": lambda n: np.full(n, 0.1, np.float32),
    "zero": lambda n: np.zeros(n, np.float32),
    "two values": two_values,
    "ascending": lambda n: np.sort(np.abs(heavy_tailed(n))),
    "one huge": one_huge,
    "period": period,
    "a run": a_run,
}
