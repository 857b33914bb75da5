"""Timing on a GPU: events in the stream, captured graphs, and arrays that are not in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

import torch

from subgrad_fast import _core
from subgrad_fast.bench.harness import Contender

Step = Callable[[], object]
COLD = 2
"""Before an array is used again, so many times the size of the L2 cache has been moved."""


def no_gpu() -> str | None:
    """Why there is nothing to measure on; None if there is a GPU for torch and for our kernels."""
    problem = _core.cuda.problem(0)
    if problem is None and not torch.cuda.is_available():
        return f"torch {torch.__version__} finds none"
    return problem


@dataclass(frozen=True)
class Device:
    """What the rows need to know of where they run. Tests put the processor in a GPU's place."""

    torch_name: str
    name: str
    cache_bytes: int
    run_block: Callable[[Contender, int], list[int]]
    captured: Callable[[Step], Step]
    """A step -> its replay as a graph."""

    def sets(self, bytes_of_one: int) -> int:
        """How many sets of arrays to take turns with, so that none is found in the cache."""
        return max(1, math.ceil(COLD * self.cache_bytes / bytes_of_one))


def gpu() -> Device:
    """The current CUDA device."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return Device(
        "cuda", f"GPU {properties.name}", properties.L2_cache_size, run_block_by_events, captured
    )


def run_block_by_events(contender: Contender, steps: int) -> list[int]:
    """Run `steps` steps and return the nanoseconds between an event before and one after each.

    The device waits for nothing between two steps but the processor, which queues them. If that is
    the slower of the two, the time includes its work: that is what a step costs then.
    """
    pairs = []
    for _ in range(steps):
        contender.prepare()
        start = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        start.record()
        contender.step()
        end.record()
        pairs.append((start, end))
    torch.cuda.synchronize()
    return [round(start.elapsed_time(end) * 1e6) for start, end in pairs]


def captured(step: Step) -> Step:
    """Capture a step in a graph, after the steps that make its state, and return the replay."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def in_turns(steps: Sequence[Step]) -> Step:
    """One step after the other, over and over."""
    turns = cycle(steps)

    def step() -> object:
        return next(turns)()

    return step
