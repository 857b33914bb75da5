"""Machines whose cores are not always there: the process pinned to one, or a competitor on one.

All contenders of such a row run under the same circumstances, which hold for their blocks alone.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import subgrad_fast as sf
from benchmarks.dense.peers import OPTIMIZERS
from benchmarks.dense.workloads import mnist_mlp
from subgrad_fast.bench.harness import OURS, Contender, run_block
from subgrad_fast.bench.sgd import FUSED

SERIAL = "ours, all on one thread"
ALONE = "ours, the step on one thread"
Circumstances = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class Among(Contender):
    """A contender whose blocks are run under circumstances of their own."""

    circumstances: Circumstances = contextlib.nullcontext
    threads: int = 0
    """Of torch, and of ours unless it has its own number."""
    own: int | None = None


def run(contender: Contender, steps: int, clock: Callable[[], int]) -> list[int]:
    """Run a block under its circumstances."""
    if not isinstance(contender, Among):
        return run_block(contender, steps, clock)
    before = torch.get_num_threads()
    with contender.circumstances():
        torch.set_num_threads(contender.threads)
        sf.set_num_threads(contender.own)
        elapsed = run_block(contender, steps, clock)
    torch.set_num_threads(before)
    sf.set_num_threads(None)
    return elapsed


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """All threads of the process on one processor."""
    mask = os.sched_getaffinity(0)
    set_mask({min(mask)})
    try:
        yield
    finally:
        set_mask(mask)


def set_mask(mask: set[int]) -> None:
    """Set the affinity of every thread there is; new ones have that of the one that makes them."""
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), mask)


class Spinner:
    """A process that does nothing on the last processor, and is stopped between blocks."""

    def __init__(self) -> None:
        core = max(os.sched_getaffinity(0))
        code = f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
        self.process = subprocess.Popen([sys.executable, "-c", code])
        self.process.send_signal(signal.SIGSTOP)
        weakref.finalize(self, self.process.kill)

    @contextlib.contextmanager
    def spinning(self) -> Iterator[None]:
        """The process spins."""
        self.process.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGSTOP)


@contextlib.contextmanager
def beside() -> Iterator[None]:
    """A competitor on the last processor, started when it is first needed."""
    with spinner().spinning():
        yield


@functools.cache
def spinner() -> Spinner:
    """The one that all rows share."""
    return Spinner()


def training(circumstances: Circumstances) -> list[Contender]:
    """The step of a 235K MLP after a real forward and backward: torch's, and ours in three ways.

    Where torch runs on two threads, half of the gradients are with the other processor.
    """
    x = torch.randn(64, 784, generator=torch.Generator().manual_seed(0))
    y = torch.arange(64) % 10

    def contender(name: str, optimizer_name: str, threads: int, own: int | None) -> Contender:
        torch.manual_seed(0)
        model = mnist_mlp()
        optimizer: Any = OPTIMIZERS[optimizer_name](model.parameters())

        def forward_and_backward() -> None:
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(model(x), y).backward()

        return Among(
            name,
            optimizer.step,
            forward_and_backward,
            circumstances=circumstances,
            threads=threads,
            own=own,
        )

    return [
        contender(FUSED, FUSED, 2, None),
        contender(SERIAL, OURS, 1, None),
        contender(ALONE, OURS, 2, 1),
        contender(OURS, OURS, 2, None),
    ]
