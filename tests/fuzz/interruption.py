"""KeyboardInterrupt in the middle of a call: at a bytecode of the library's own, or by a timer."""

from __future__ import annotations

import signal
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import subgrad_fast
from tests.fuzz.life import Life

_PACKAGE = str(Path(subgrad_fast.__file__).parent)


def _is_ours(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_code.co_filename.startswith(_PACKAGE)


class Interrupter:
    """Runs functions and interrupts most of them.

    The bytecode is drawn among as many as the last run of that name has had.
    """

    def __init__(self, life: Life) -> None:
        self._life = life
        self._lengths: dict[str, int] = defaultdict(lambda: 60)

    def run(self, name: str, function: Callable[[], Any]) -> tuple[bool, Any]:
        """Calls a function. Returns whether it was interrupted, and its value."""
        life = self._life
        life.note(name)
        life.counts["calls"] += 1
        by_timer = life.chance(0.3)
        try:
            value = self._timed(function) if by_timer else self._traced(name, function)
        except KeyboardInterrupt:
            life.counts["interrupts"] += 1
            life.note(f"  interrupted at {self._where}")
            return True, None
        return False, value

    def _traced(self, name: str, function: Callable[[], Any]) -> Any:
        at = self._life.number(1, self._lengths[name] + 5)
        count = 0

        def local(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal count
            if event == "opcode":
                count += 1
                if count == at:
                    self._where = _place(frame)
                    raise KeyboardInterrupt
            return local

        def trace(frame: FrameType, _event: str, _: Any) -> Any:
            if not _is_ours(frame):
                return None
            frame.f_trace_opcodes = True
            return local

        sys.settrace(trace)
        try:
            return function()
        finally:
            sys.settrace(None)
            self._lengths[name] = max(count, 5) if count < at else self._lengths[name]

    def _timed(self, function: Callable[[], Any]) -> Any:
        over = False

        def ring(_: int, frame: FrameType | None) -> None:
            inner = frame
            if over:
                return
            while frame is not None and not _is_ours(frame):
                frame = frame.f_back
            if frame is None:  # not within the library: a little later, then
                signal.setitimer(signal.ITIMER_REAL, 2e-5)
                return
            self._where = _place(inner)
            raise KeyboardInterrupt

        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 1e-6 * 10 ** (3.5 * self._life.rng.random()))
        try:
            return function()
        finally:
            over = True  # a signal that is on its way finds nobody
            signal.setitimer(signal.ITIMER_REAL, 0)


def _place(frame: FrameType | None) -> str:
    assert frame is not None
    code = frame.f_code
    return f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name} ({frame.f_lasti})"
