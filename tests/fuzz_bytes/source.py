"""Choices read from bytes: the same bytes, the same choices, and a changed byte changes one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")

# Where counts, positions and sizes go wrong.
EDGES = [0, 1, 2, 7, 8, 63, 64, 255]
EDGES += [2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64]


class Source:
    """Bytes that are read from their beginning; behind their end all are 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def flag(self) -> bool:
        return self.byte() % 2 == 1

    def rarely(self) -> bool:
        return self.byte() % 16 == 15

    def below(self, n: int) -> int:
        return self.byte() % n

    def pick(self, among: Sequence[T]) -> T:
        return among[self.byte() % len(among)]

    def edge(self) -> int:
        """An integer: one of the edges or their negatives, or a small one."""
        kind = self.byte()
        value = EDGES[kind % 16] if kind & 32 else self.byte()
        return -value if kind & 64 else value

    def anything(self) -> Any:
        """What a field of a state may hold that was not made by us."""
        others = [None, 1.5, float("nan"), "text", True, b"", [], 2**70, -1, {}]
        return self.pick([self.edge(), self.edge(), *others])
