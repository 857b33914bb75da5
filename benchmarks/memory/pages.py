"""The same step and the same loop on pages of 4 KiB and of 2 MiB, and in memory that stays."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable, Iterator
from functools import partial

import torch

import subgrad_fast as sf
from benchmarks.memory.busy import Among, Circumstances
from subgrad_fast.bench.harness import OURS, Contender
from subgrad_fast.bench.sgd import FUSED, HYPERPARAMETERS
from subgrad_fast.optim import SGD, keep_memory

SMALL = "ours, 4 KiB pages"
NO_HUGE_PAGE = 15
AS_IT_IS, KEPT = "ours, as glibc does", OURS
Make = Callable[..., torch.optim.Optimizer]


def small_pages(length: int) -> torch.Tensor:
    """Float32 zeros that are to have no huge pages, whoever asks for them."""
    memory = mmap.mmap(-1, 4 * length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(NO_HUGE_PAGE)
    return torch.frombuffer(memory, dtype=torch.float32).zero_()


def steps(length: int) -> list[Contender]:
    """A step with momentum on one tensor: torch's as torch leaves its memory, ours on both."""

    def ours(name: str, *, huge: bool) -> Contender:
        p, g, m = (small_pages(length) if not huge else torch.zeros(length) for _ in range(3))
        if huge:
            sf.use_huge_pages([p, g, m])
        return Contender(name, partial(sf.sgd_step, p, g, m, **HYPERPARAMETERS))

    parameter = torch.nn.Parameter(torch.zeros(length))
    parameter.grad = torch.zeros(length)
    theirs = torch.optim.SGD([parameter], **HYPERPARAMETERS, fused=True)
    return [Contender(FUSED, theirs.step), ours(SMALL, huge=False), ours(OURS, huge=True)]


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """What is freed stays with the process."""
    memory = keep_memory()
    try:
        yield
    finally:
        memory.release()


def loops(threads: int) -> list[Contender]:
    """Backward, step and zero_grad of 2 x Linear(4096) on 8 rows; forward is not timed."""
    x = torch.randn(8, 4096, generator=torch.Generator().manual_seed(0))

    def contender(name: str, make: Make, circumstances: Circumstances) -> Contender:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4096, 4096), torch.nn.Linear(4096, 4096))
        optimizer = make(model.parameters(), **HYPERPARAMETERS)
        loss = torch.zeros(())

        def forward() -> None:
            nonlocal loss
            loss = model(x).square().mean()

        def work() -> None:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        return Among(name, work, forward, circumstances=circumstances, threads=threads)

    nothing = contextlib.nullcontext
    fused = partial(torch.optim.SGD, fused=True)
    return [
        contender(FUSED, fused, nothing),
        contender(AS_IT_IS, SGD, nothing),
        contender(KEPT, SGD, kept),
    ]
