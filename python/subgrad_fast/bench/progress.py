"""How far a run is: a bar with the time left on a terminal, a line for each row elsewhere.

The bar is drawn between two rounds only, never by a thread of its own, which would be timed too.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any


def minutes(seconds: float) -> str:
    """Write the time left for a person."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


class Lines:
    """One line a row, on standard error."""

    def __init__(self, total: float, *, seconds: bool) -> None:
        self._total, self._seconds, self._done = total, seconds, 0.0

    def begin(self, label: str) -> None:
        """Say which row is measured now."""
        left = f" (about {minutes(self._total - self._done)} left)" if self._seconds else ""
        print(f"{label}{left} ...", end=" ", file=sys.stderr, flush=True)

    def at(self, done: float) -> None:
        """Note that so much of all is done."""
        self._done = done

    def end(self, text: str) -> None:
        """Say how the row went."""
        print(text, file=sys.stderr)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Be out of the way of what is printed meanwhile."""
        yield


class Bar(Lines):
    """A bar of rich's, and the lines above it."""

    def __init__(self, total: float, *, seconds: bool, progress: Any) -> None:
        super().__init__(total, seconds=seconds)
        self._progress, self._label = progress, ""
        self._task = progress.add_task("", total=total)

    def begin(self, label: str) -> None:
        self._label = label
        self._progress.update(self._task, description=label)
        self._progress.refresh()

    def at(self, done: float) -> None:
        self._progress.update(self._task, completed=done)
        self._progress.refresh()

    def end(self, text: str) -> None:
        if text:
            self._progress.console.print(f"{self._label}: {text}", highlight=False, markup=False)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()


@contextlib.contextmanager
def shown(total: float, *, seconds: bool = True) -> Iterator[Lines]:
    """Yield what shows the progress of work that comes to `total`, in seconds or else in steps."""
    rich = console = None
    if sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            rich = importlib.import_module("rich.progress")
            console = importlib.import_module("rich.console").Console(stderr=True)
    if rich is None:
        yield Lines(total, seconds=seconds)
        return
    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.TaskProgressColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        yield Bar(total, seconds=seconds, progress=progress)
