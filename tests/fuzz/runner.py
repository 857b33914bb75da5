"""Lives in child processes: what ends one is seen from outside, and named with its seed."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests import ROOT
from tests.fuzz import ring_log
from tests.fuzz.patience import Patience

FAMILIES = (
    "dense",
    "clip",
    "threshold",
    "rows",
    "select",
    "sparsify",
    "sampling",
    "loading",
    "data",
    "optimizer",
    "states",
    "threads",
    "interrupts",
    "fork",
    "kill",
)
LIFE_SECONDS = 60.0  # a life that takes longer hangs
_ASK_SECONDS = 0.25  # how often a child is asked whether it had its time
_START_SECONDS = 600.0  # what imports may take where the machine is busy


@dataclass
class Found:
    """A fault: which life it ended, how, and what that life did last."""

    family: str
    seed: int
    how: str
    text: str

    def __str__(self) -> str:
        return f"FAULT {self.family} {self.seed}: {self.how}\n{self.text}"


@dataclass
class Tally:
    """What a family's lives came to."""

    family: str
    next_seed: int
    lives: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[Found] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.next_seed = other.next_seed
        self.lives += other.lives
        self.seconds += other.seconds
        self.counts += other.counts
        self.faults += other.faults


def run_batch(
    family: str,
    first: int,
    seconds: float,
    *,
    most: int = 10**9,
    life_seconds: float = LIFE_SECONDS,
    log_lines: int = 25,
    echo: bool = False,
) -> Tally:
    """Lives from seed `first` on in one child, until the time is up or one of them ends badly.

    Args:
        seconds: no life begins later.
        most: no more lives than that.
        life_seconds: one that takes longer hangs, which is a fault.
        log_lines: how much of its log a fault tells.
        echo: print the calls as they are made.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        log, errors = Path(folder) / "log", Path(folder) / "errors"
        command = [sys.executable, "-m", "tests.fuzz.child", family, str(first), str(seconds)]
        command += [str(most), str(log), "echo" if echo else "quiet"]
        begin = time.monotonic()
        with errors.open("wb") as stderr:
            child = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=None if echo else stderr,
                cwd=ROOT,
                start_new_session=True,
            )
            try:
                tally, ending = _listen(child, Tally(family, first), life_seconds)
            finally:
                _end(child)
        tally.seconds = time.monotonic() - begin
        if not tally.faults and ending != "ended":
            how = ending or _exit_of(child.returncode)
            seed = tally.next_seed
            if log.exists():
                seed = max(seed, ring_log.read(log)[0])
            tally.faults.append(Found(family, seed, how, _words_of(errors)))
            tally.next_seed = seed + 1
        for fault in tally.faults:
            lines = ring_log.read(log)[1][-log_lines:] if log.exists() else []
            fault.text = "\n".join([*lines, fault.text.rstrip()])
        return tally


def _listen(child: subprocess.Popen[bytes], tally: Tally, life_seconds: float) -> tuple[Tally, str]:
    """Takes in a child's answers until it has "ended", or "hangs", or without a word."""
    assert child.stdout is not None
    patience = Patience(child.pid, _START_SECONDS)
    ending, rest = "", b""
    while True:
        ready, _, _ = select.select([child.stdout], [], [], _ASK_SECONDS)
        read = os.read(child.stdout.fileno(), 1 << 16) if ready else None
        if read == b"" and _wait(child, _ASK_SECONDS):
            return tally, ending if child.returncode == 0 else ""
        if not read:
            if not patience.over():
                continue
            child.send_signal(signal.SIGABRT)  # has it say where all its threads are
            _wait(child, 10)
            return tally, "hangs"
        patience = Patience(child.pid, life_seconds)
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            if "begin" in answer:
                continue
            if "end" in answer:
                ending = "ended"
                continue
            tally.lives += 1
            tally.next_seed = answer["seed"] + 1
            tally.counts += Counter(answer["counts"])
            if answer["fault"] is not None:
                how = answer["fault"].strip().splitlines()[-1][:300]
                tally.faults.append(Found(tally.family, answer["seed"], how, answer["fault"]))


def _wait(child: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends a child and whatever it has left behind: they share a process group."""
    _wait(child, 0.5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert child.stdout is not None
    child.stdout.close()


def _words_of(errors: Path) -> str:
    """What a child wrote before it ended, its stacks among it."""
    lines = errors.read_text(errors="replace").splitlines()
    return "\n".join(line for line in lines if not line.startswith("Extension modules"))[-3000:]


def _exit_of(code: int) -> str:
    name = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
    return f"{name} in the middle of a life"


def table(tallies: list[Tally]) -> str:
    """One line a family."""
    head = ("family", "lives", "calls", "raises", "events", "calls/s", "faults")
    rows = [head]
    for tally in tallies:
        events = {k: v for k, v in tally.counts.items() if k not in ("calls", "raises")}
        rows.append(
            (
                tally.family,
                str(tally.lives),
                str(tally.counts["calls"]),
                str(tally.counts["raises"]),
                ", ".join(f"{v} {k}" for k, v in sorted(events.items())),
                f"{tally.counts['calls'] / max(tally.seconds, 1e-9):.0f}",
                str(len(tally.faults)),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
