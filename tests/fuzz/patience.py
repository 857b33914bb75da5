"""How long a process is waited for: the time in which it had to wait for a core does not count.

On a busy machine a process that is only starved would else be taken for one that hangs.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

_MOST_SECONDS = 1.0  # that count from one question to the next


class Patience:
    """Ends when a process had `seconds` for its work, by its own count.

    Ask `over` again and again, several times a second: what was waited for a core is known from one
    question to the next, and who asks later was stopped himself.
    """

    def __init__(self, process: int, seconds: float) -> None:
        self._process = process
        self._left = seconds
        self._asked = time.monotonic()
        self._waited = self._look()

    def over(self) -> bool:
        now, waited = time.monotonic(), self._look()
        # Of threads that take turns on a core all others wait: the longest wait is what was lost.
        lost = max((ns - self._waited.get(entry, 0) for entry, ns in waited.items()), default=0)
        self._left -= min(max(0.0, now - self._asked - lost / 1e9), _MOST_SECONDS)
        self._asked, self._waited = now, waited
        return self._left <= 0

    def _look(self) -> dict[Path, int]:
        """What each thread has waited so far."""
        waited = {thread: _waited(thread) for thread in _threads_of(self._process)}
        return {thread: ns for thread, ns in waited.items() if ns >= 0}


def _threads_of(process: int) -> list[Path]:
    """The threads of a process and of its descendants; none where there is no /proc."""
    found = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            found.append(thread)
            with contextlib.suppress(OSError):
                for child in (thread / "children").read_text().split():
                    found += _threads_of(int(child))
    return found


def _waited(thread: Path) -> int:
    """Nanoseconds in which a thread could have run and had no core, or -1 if it has ended."""
    try:
        return int((thread / "schedstat").read_text().split()[1])
    except (OSError, IndexError):
        return -1
