"""A log of the last calls that survives the process that wrote it."""

from __future__ import annotations

import itertools
import mmap
from pathlib import Path

_LINES, _WIDTH, _HEAD = 200, 400, 16


class RingLog:
    """Lines in a mapped file: the system keeps what was written, however the process ends.

    Args:
        path: the file, which is made anew.
        echo: also prints every line.
    """

    def __init__(self, path: Path, *, echo: bool = False) -> None:
        self._echo = echo
        with path.open("w+b") as file:
            file.truncate(_HEAD + _LINES * _WIDTH)
            self._map = mmap.mmap(file.fileno(), 0)
        self._numbers = itertools.count()

    def begin(self, seed: int) -> None:
        """Empties the log for another life."""
        self._numbers = itertools.count()
        self._map[:_HEAD] = bytes(8) + seed.to_bytes(8, "little")

    def write(self, line: str) -> None:
        """Adds a line. Several threads may: each takes a number of its own."""
        number = next(self._numbers)
        at = _HEAD + number % _LINES * _WIDTH
        text = " ".join(line.split()).encode()[: _WIDTH - 1]
        self._map[at : at + _WIDTH] = text.ljust(_WIDTH, b"\0")
        self._map[:8] = (number + 1).to_bytes(8, "little")
        if self._echo:
            print(line, flush=True)


def read(path: Path) -> tuple[int, list[str]]:
    """The seed of the life that wrote last, and its last lines."""
    data = path.read_bytes()
    count, seed = (int.from_bytes(data[i : i + 8], "little") for i in (0, 8))
    lines = []
    for number in range(max(0, count - _LINES), count):
        at = _HEAD + number % _LINES * _WIDTH
        text = data[at : at + _WIDTH].rstrip(b"\0").decode(errors="replace")
        lines.append(f"{number:5} {text}")
    return seed, lines
