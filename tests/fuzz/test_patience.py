"""A process that does nothing uses its time up; one that waits for a core does not."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.fuzz.patience import Patience

_SPIN = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nwhile True: pass"


def _counted(process: int, seconds: float) -> float:
    """What Patience counts of a process's next `seconds`."""
    patience = Patience(process, 1e9)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        patience.over()
        time.sleep(0.02)
    patience.over()
    return 1e9 - patience._left


@pytest.mark.skipif(sys.platform != "linux", reason="what was waited for a core is in /proc")
def test_what_is_waited_for_a_core_does_not_count() -> None:
    command = [sys.executable, "-c", _SPIN]
    spinning = [subprocess.Popen(command) for _ in range(4)]
    try:
        time.sleep(1.0)
        assert _counted(spinning[0].pid, 2.0) < 1.2  # a quarter of the core is its own
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def test_sleep_counts() -> None:
    sleeping = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    try:
        time.sleep(1.0)
        assert _counted(sleeping.pid, 1.0) > 0.5
        patience = Patience(sleeping.pid, 0.2)
        assert not patience.over()
        time.sleep(1.0)
        assert patience.over()
        patience = Patience(sleeping.pid, 1.5)
        time.sleep(2.0)  # as if this process had been stopped
        assert not patience.over()
    finally:
        sleeping.kill()
        sleeping.wait()
