"""Several ways of doing the same work are timed side by side: a noisy machine is noisy for all.

The contenders of a row run in one process in alternating blocks of steps: AAA BBB CCC AAA BBB CCC.
One pass over all of them is a round. Ours is held against a peer by three ratios, ours over peer:

- of medians, over all steps of all rounds: what a user waits for, and what targets are judged by
- of minima: what the machine can do when nobody disturbs it
- paired: the median over rounds of (our median in the round / the peer's median in that round),
  which is blind to anything that slows a whole round down; its quartiles tell how far to trust it

Nothing here knows torch or the library, so that anything that can be called can be timed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

OURS = "ours"
QUICK = 0.05
"""The share of its time that a row gets in a quick run."""
Samples = dict[str, list[list[int]]]
"""Nanoseconds per step: contender -> rounds -> steps of the block."""


def nothing() -> None:
    """Prepare nothing: the step works on the same arrays every time."""


@dataclass(frozen=True)
class Contender:
    """One way of doing the work. `prepare` runs before every step, and only `step` is timed."""

    name: str
    step: Callable[[], object]
    prepare: Callable[[], object] = nothing
    results: Callable[[], Sequence[npt.NDArray[Any]]] = tuple
    """What the steps have written so far, to check that ours did the reference's work."""


@dataclass(frozen=True)
class Target:
    """Ours is held against `peer`, and must take at most `limit` times what that takes.

    Without a limit nothing is asked, and the comparison is made all the same.
    """

    peer: str
    limit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row is one workload: how to build its contenders, and what is asked of ours."""

    name: str
    title: str
    threads: int
    build: Callable[[], list[Contender]]
    targets: Sequence[Target]
    block: int = 10
    """Steps of one contender before it is the next one's turn."""
    budget_s: float = 10.0
    moved_bytes: Mapping[str, int] = field(default_factory=dict)
    """Bytes a step must read and write, by contender; where given, GB/s are reported."""
    read_bytes: int = 0
    """Bytes that ours must read; where given, they are held against the speed of reading."""

    @property
    def label(self) -> str:
        """The name that a person chooses the row by: no two rows of a subject share it."""
        return f"{self.name}@{self.threads}"

    def budget_seconds(self, *, quick: bool) -> float:
        """How long the row is measured."""
        return self.budget_s * (QUICK if quick else 1)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A subject is a list of rows, and how they are run on this machine."""

    rows: Sequence[Row]
    reference: str = ""
    """The contender whose bits ours must end on."""
    run_block: Callable[[Contender, int], list[int]] | None = None
    """How a block is run and timed, if not by the processor's clock."""
    warmup: int = 3
    """Steps of each contender before the first that counts."""
    device: str | None = None
    """What the rows run on, if not the processor."""
    missing: str | None = None
    """Why this machine cannot run them."""


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect now, then not until the end: a collection would hit one contender at random."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def run_block(contender: Contender, steps: int, clock: Callable[[], int]) -> list[int]:
    """Run `steps` steps and return the nanoseconds of each, without the preparation before it."""
    elapsed_ns = []
    for _ in range(steps):
        contender.prepare()
        start = clock()
        contender.step()
        elapsed_ns.append(clock() - start)
    return elapsed_ns


def measure(
    contenders: Sequence[Contender],
    *,
    block: int,
    budget_s: float,
    min_rounds: int = 3,
    warmup: int = 3,
    clock: Callable[[], int] = time.perf_counter_ns,
    run: Callable[[Contender, int], list[int]] | None = None,
    at: Callable[[float], object] = lambda _: None,
) -> Samples:
    """Run whole rounds until `budget_s` is spent, and at least `min_rounds` of them.

    `run` is how a block is run and timed, if not by `clock` on the processor. After each round,
    `at` is called with the share of the budget that is spent.
    """
    run = run or partial(run_block, clock=clock)
    samples: Samples = {contender.name: [] for contender in contenders}
    with no_garbage_collection():
        for contender in contenders:
            run(contender, warmup)
        deadline = time.monotonic() + budget_s
        while time.monotonic() < deadline or len(samples[OURS]) < min_rounds:
            for contender in contenders:
                samples[contender.name].append(run(contender, block))
            at(1 - max(deadline - time.monotonic(), 0.0) / budget_s if budget_s else 1.0)
    return samples


def paired_ratios(ours: Sequence[Sequence[int]], peer: Sequence[Sequence[int]]) -> list[float]:
    """Ours over peer, once per round."""
    return [statistics.median(a) / statistics.median(b) for a, b in zip(ours, peer, strict=True)]


def quartiles(values: Sequence[float]) -> list[float] | None:
    """Return the first and the third quartile; None of fewer than four values."""
    if len(values) < 4:
        return None
    return statistics.quantiles(values, n=4, method="inclusive")[::2]


def compare(samples: Samples, target: Target) -> dict[str, Any]:
    """Judge ours against one peer. The target is met if the ratio of medians is within it."""
    ours, peer = list(chain(*samples[OURS])), list(chain(*samples[target.peer]))
    ratio_of_medians = statistics.median(ours) / statistics.median(peer)
    paired = paired_ratios(samples[OURS], samples[target.peer])
    return {
        "peer": target.peer,
        "ratio_of_medians": ratio_of_medians,
        "ratio_of_minima": min(ours) / min(peer),
        "ratio_paired": statistics.median(paired),
        "quartiles_paired": quartiles(paired),
        "target": target.limit,
        "met": None if target.limit is None else ratio_of_medians <= target.limit,
    }


def same_bits(contenders: Sequence[Contender], reference: str) -> bool | None:
    """Whether ours wrote the reference's bits; None if one of the two has nothing to show."""
    results = {contender.name: contender.results() for contender in contenders}
    ours, theirs = results.get(OURS), results.get(reference)
    if not ours or not theirs:
        return None
    pairs = zip(ours, theirs, strict=True)
    return all(np.array_equal(a.view(np.uint32), b.view(np.uint32)) for a, b in pairs)


def summarize(
    row: Row, contenders: Sequence[Contender], samples: Samples, *, reference: str
) -> dict[str, Any]:
    """Turn the samples of one row into its entry in the JSON. The thread count goes with it."""
    times = {}
    for name, rounds in samples.items():
        steps = list(chain(*rounds))
        times[name] = {
            "median_ns": statistics.median(steps),
            "min_ns": min(steps),
            "steps": len(steps),
        }
        if name in row.moved_bytes:
            times[name]["moved_bytes"] = row.moved_bytes[name]
            times[name]["gb_per_s"] = row.moved_bytes[name] / statistics.median(steps)
    if row.read_bytes:
        times[OURS]["read_bytes"] = row.read_bytes
    return {
        "name": row.name,
        "title": row.title,
        "threads": row.threads,
        "rounds": len(samples[OURS]),
        "block": row.block,
        "times": times,
        "comparisons": [compare(samples, target) for target in row.targets],
        "same_bits_as": reference,
        "same_bits": same_bits(contenders, reference),
    }


def run_row(
    row: Row, subject: Subject, *, quick: bool, at: Callable[[float], object] = lambda _: None
) -> dict[str, Any]:
    """Measure one row and return its entry in the JSON."""
    contenders = row.build()
    samples = measure(
        contenders,
        block=row.block,
        budget_s=row.budget_seconds(quick=quick),
        at=at,
        min_rounds=1 if quick else 3,
        warmup=1 if quick else subject.warmup,
        run=subject.run_block,
    )
    return summarize(row, contenders, samples, reference=subject.reference)


def cpu_model() -> str:
    """Return the processor's name as the operating system gives it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """Return what the figures depend on and the library does not."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "load_at_start": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
    }
