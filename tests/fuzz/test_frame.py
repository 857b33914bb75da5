"""The frame of the fuzzers, by families that have one fault each: all must be found and named."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("torch")  # what needs it is imported below

from tests import ROOT
from tests.fuzz.runner import Tally, run_batch, table

pytestmark = pytest.mark.torch

# What each control does wrong in its fourth life, and how that is told.
CONTROLS = {
    "crash": "killed by SIGSEGV",
    "abort": "killed by SIGABRT",
    "exit": "exited with 0 in the middle of a life",
    "hang": "hangs",
    "wrong": "a tenth is no tenth",
    "half": "an array that was not to be written has changed",
    "outside": "memory around an array has changed",
    "raises": "a valid call raised ValueError",
    "state": "a call that raised has changed an object",
    "memory": "ZeroDivisionError",
}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_fault_is_found(name: str) -> None:
    tally = run_batch(f"control-{name}", 0, 20.0, life_seconds=3.0)
    [fault] = tally.faults
    assert (fault.seed, tally.next_seed) == (3, 4)
    assert CONTROLS[name] in fault.how
    assert "call 2" in fault.text  # the log's tail
    assert tally.counts["calls"] >= 9


def test_a_family_without_a_fault() -> None:
    tally = run_batch("control-wrong", 0, 20.0, most=3)
    assert (tally.lives, tally.next_seed, tally.faults) == (3, 3, [])


def test_replay_prints_the_calls_and_fails() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "control-half", "3"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "call 2" in ran.stdout + ran.stderr
    assert "FAULT control-half 3" in ran.stdout


def test_the_table() -> None:
    tally = Tally("dense", 7, lives=3, seconds=2.0)
    tally.counts.update(calls=40, raises=5, forks=2)
    head, row = table([tally]).splitlines()
    assert head.split() == ["family", "lives", "calls", "raises", "events", "calls/s", "faults"]
    assert row.split() == ["dense", "3", "40", "5", "2", "forks", "20", "0"]
