"""Bytes that reach new code are kept, and changed further: a search by coverage.

Counts are put into eight classes, as AFL and libFuzzer do, so that a loop that runs more often
counts as new as well.
"""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable, Iterable

import numpy as np

from subgrad_fast import _core
from tests.fuzz_bytes.source import EDGES

Target = Callable[[bytes], None]

COUNTERS = 1 << 16
CLASSES = np.zeros(256, np.uint8)  # of counts: 1, 2, 3, 4-7, 8-15, 16-31, 32-127, more
for _count, _class in ((1, 0), (2, 1), (3, 2), (4, 3), (8, 4), (16, 5), (32, 6), (128, 7)):
    CLASSES[_count:] = _class

LONGEST = 96


def counters() -> np.ndarray | None:
    """The module's counters; None if it is not instrumented."""
    try:
        array = (ctypes.c_uint8 * COUNTERS).in_dll(ctypes.CDLL(_core.__file__), "sgf_coverage")
    except (OSError, ValueError):
        return None
    return np.ctypeslib.as_array(array)


class Search:
    """Keeps what reached new code, and makes new bytes of it."""

    def __init__(self, target: Target, seed: int, counts: np.ndarray | None) -> None:
        self._target = target
        self._rng = random.Random(seed)
        self._counts = counts
        self._seen = np.zeros(COUNTERS * 8, bool)
        self.kept: list[bytes] = []

    @property
    def features(self) -> int:
        """How many different places, in different classes of counts, have been reached."""
        return int(self._seen.sum())

    def run(self, data: bytes) -> None:
        """Runs the target on bytes, and keeps them if they reached new code and raised nothing."""
        if self._counts is None:
            return self._target(data)
        self._counts[:] = 0
        self._target(data)
        places = np.flatnonzero(self._counts)
        features = places * 8 + CLASSES[self._counts[places]]
        if not self._seen[features].all():
            self._seen[features] = True
            self.kept.append(data)
        return None

    def next(self) -> bytes:
        """Bytes at random, or some that were kept, with a few changes."""
        rng = self._rng
        if not self.kept or rng.random() < 0.05:
            return rng.randbytes(rng.randrange(1, LONGEST))
        data = bytearray(rng.choice(self.kept[-50:] if rng.random() < 0.5 else self.kept))
        for _ in range(rng.choice((1, 1, 2, 4, 8))):
            at = rng.randrange(len(data) + 1)
            change = rng.randrange(6)
            if change == 0:
                data[at:at] = rng.randbytes(1 + rng.randrange(4))
            elif change == 1:
                del data[at : at + 1 + rng.randrange(4)]
            elif change == 2:
                other = rng.choice(self.kept)
                data[at:] = other[at:]
            elif change == 3 and at < len(data):
                data[at] = EDGES[rng.randrange(8)] % 256
            elif at < len(data):
                data[at] = rng.randrange(256) if change == 4 else data[at] ^ (1 << rng.randrange(8))
        return bytes(data[:LONGEST]) or b"\0"


def shortest(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """Bytes that fail too, with as few of them as can be, and as many zeros."""
    for candidates in (_shorter, _simpler):
        progress = True
        while progress:
            progress = False
            for shorter in candidates(data):
                if shorter != data and fails(shorter):
                    data, progress = shorter, True
                    break
    return data


def _shorter(data: bytes) -> Iterable[bytes]:
    for size in (32, 8, 2, 1):
        for at in range(0, len(data), size):
            yield data[:at] + data[at + size :]


def _simpler(data: bytes) -> Iterable[bytes]:
    for at in range(len(data)):
        if data[at]:
            yield data[:at] + b"\0" + data[at + 1 :]
