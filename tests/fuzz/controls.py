"""Families with one fault each: what the frame must see."""

from __future__ import annotations

import ctypes
import os
import sys
import time

import numpy as np

from tests.fuzz.life import Life
from tests.fuzz.memory import Layout, guarded


def _later(life: Life) -> bool:
    """A few calls, and whether the time for the fault has come: in the third life."""
    for i in range(3):
        life.call(f"call {i}", lambda: None)
    return life.seed % 10 == 3


def control_crash(life: Life) -> None:
    """Reads where nothing is."""
    if _later(life):
        life.call("read at 8", lambda: ctypes.string_at(8))


def control_abort(life: Life) -> None:
    if _later(life):
        life.call("abort", os.abort)


def control_exit(life: Life) -> None:
    """Ends the process without a word."""
    if _later(life):
        life.call("exit", lambda: os._exit(0))


def control_hang(life: Life) -> None:
    if _later(life):
        life.call("sleep", lambda: time.sleep(1000))


def control_wrong(life: Life) -> None:
    """Gives a result that the check refuses."""
    if _later(life):
        life.check(float(np.float32(0.1)) == 0.1, "a tenth is no tenth")


def control_half(life: Life) -> None:
    """Writes one of two arrays and raises."""
    first, second = (guarded(life, np.zeros(5, np.float32)) for _ in range(2))

    def step() -> None:
        first.view[...] = 1
        raise ValueError("second: wrong")

    if _later(life):
        life.call("step", step, written=[first, second], spoiled=True)


def control_outside(life: Life) -> None:
    """Writes behind the last element."""
    array = guarded(life, np.zeros((4, 4), np.float32), Layout(library="numpy"))
    inner = array.view[:, :1]
    array.view = inner
    if _later(life):
        whole = array.array
        life.call("step", lambda: whole.__setitem__((0, 2), 7), written=[array])


def control_raises(life: Life) -> None:
    """Raises though no argument is wrong."""
    if _later(life):
        life.call("step", lambda: np.zeros(3).reshape(2))


def control_state(life: Life) -> None:
    """Changes an object and raises."""
    items = [1]

    def step() -> None:
        items.append(2)
        raise KeyError("missing")

    if _later(life):
        life.call("load", step, state=lambda: list(items), spoiled=True)


def control_memory(life: Life) -> None:
    """Raises an error that no call may raise."""
    if _later(life):
        life.call("step", lambda: sys.getrefcount(1) // 0, spoiled=True)
