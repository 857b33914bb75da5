"""Jobs that are done at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.fuzz.life import Fault, Life

Job = Callable[[], Any]


def together(
    life: Life, jobs: list[Job], *, allowed: tuple[type[Exception], ...] = (), seconds: float = 0.4
) -> None:
    """Does each job again and again in a thread of its own, until the time is up.

    Args:
        allowed: what a job may raise, and goes on after.
    """
    wrong: list[BaseException] = []
    calls = [0] * len(jobs)
    end = time.monotonic() + seconds

    def work(number: int) -> None:
        while time.monotonic() < end and not wrong:
            calls[number] += 1
            try:
                jobs[number]()
            except allowed:
                life.counts["raises"] += 1
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    life.counts["calls"] += sum(calls)
    life.note(f"  calls {calls}")
    if wrong:
        raise Fault(f"in a thread: {type(wrong[0]).__name__}: {wrong[0]}") from wrong[0]


def in_range(life: Life, rows: Any, n: int) -> None:
    array = np.atleast_1d(np.asarray(rows))
    life.check(((array >= 0) & (array < n)).all(), f"rows {array[:9]} of {n}")
