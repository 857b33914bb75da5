"""Forked children: what they find wrong is in the log, how they end is seen from outside."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable

from tests.fuzz import first_step
from tests.fuzz.life import Fault, Life
from tests.fuzz.patience import Patience

first_step.take()


def fork(life: Life, work: Callable[[], None]) -> int:
    """A child that does `work` and exits, with 0 if it raised nothing. Returns its number."""
    life.counts["forks"] += 1
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        life.note(f"  in the child: {error!r} at {where.filename}:{where.lineno}")
    finally:
        os._exit(code)


def join(child: int, seconds: float = 20.0) -> None:
    """Waits for a child. Raises a Fault if it takes too long, or has not exited with 0."""
    patience = Patience(child, seconds)
    while not patience.over():
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status != 0:
                raise Fault(f"a forked child ends with {os.waitstatus_to_exitcode(status)}")
            return
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise Fault("a forked child hangs")


def kill(child: int) -> bool:
    """Kills a child. Returns whether that came before its end."""
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)
