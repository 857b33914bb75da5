"""How fast this machine reads memory: the floor under everything that has to read."""

from __future__ import annotations

import time

import numpy as np

from subgrad_fast.clip import total_norm

LENGTH = 1 << 26
"""Of the float32 array that is read: 256 MiB, more than any cache."""


def read_gb_per_s(length: int = LENGTH, times: int = 7) -> float:
    """Read an array some times, on all threads, and return the speed of the fastest.

    What reads is the library's norm, which takes 4 bytes an element and writes nothing.
    """
    array = np.ones(length, np.float32)
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter_ns()
        total_norm(array)
        best = min(best, time.perf_counter_ns() - start)
    return array.nbytes / best
