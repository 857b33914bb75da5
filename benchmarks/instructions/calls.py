"""The calls that are counted. Run by callgrind, with the library made of `marks.c` as argument.

Only the call itself is collected. What switches the collection on and off is collected with it, and
taken off again with the count of a call that does nothing.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

import subgrad_fast as sf
from subgrad_fast.optim import SGD

FEW, MANY = 1, 3
"""Rounds. The count of one call is the difference of two totals, divided by that of their calls."""
WARM = 30
"""Calls before those that are counted: plans are made, and Python has specialised its code."""
SMALL = [(64, 64)] * 80 + [(64,)] * 80


class Call(NamedTuple):
    """A call, and what makes ready for it, which is not counted."""

    name: str
    prepare: Callable[[], object]
    call: Callable[[], object]
    a_round: int = 4
    """Calls in a round: what happens once in so many calls is in each round once."""


def nothing() -> None:
    """Do nothing."""


def steps() -> tuple[Call, Call]:
    """`step` and `zero_grad` of an optimizer of 160 small tensors."""
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in SMALL]
    optimizer = SGD(parameters, lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def gradients() -> None:
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)

    gradients()
    return (
        Call("optim.SGD.step, 160 small tensors", nothing, optimizer.step),
        Call("optim.SGD.zero_grad, 160 small tensors", gradients, optimizer.zero_grad, 16),
    )


def one_step() -> Call:
    """`sgd_step` of one small array."""
    w, g, m = (np.ones(64, np.float32) for _ in range(3))
    return Call("sgd_step, one array", nothing, lambda: sf.sgd_step(w, g, m, lr=0.1, momentum=0.9))


def batch() -> Call:
    """The next batch of 128 rows and labels."""
    x, y = np.ones((100_000, 64), np.float32), np.arange(100_000)
    batches = iter(sf.BatchLoader((x, y), sf.BatchSampler(len(x), 128, seed=0)))
    kept: list[Any] = [None]

    def take() -> None:
        kept[0] = next(batches)

    # Orders are drawn for 4096 rows at a time, which is once in 32 batches.
    return Call("BatchLoader, a batch of 128", nothing, take, 32)


def count(marks: ctypes.CDLL, call: Call) -> None:
    """Dump the totals of few and of many calls, under the call's name and their number."""
    for _ in range(WARM):
        call.prepare()
        call.call()
    for repetitions in (FEW * call.a_round, MANY * call.a_round):
        marks.begin()
        marks.zero()
        for _ in range(repetitions):
            call.prepare()
            marks.toggle()
            call.call()
            marks.toggle()
        marks.dump(f"{call.name}|{repetitions}".encode())
        marks.end()


def main() -> None:
    """Count all calls."""
    marks = ctypes.CDLL(sys.argv[1])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    step, zero_grad = steps()
    calls = [Call("nothing", nothing, nothing), step, one_step(), batch(), zero_grad]
    gc.disable()
    for call in calls:
        count(marks, call)


if __name__ == "__main__":
    main()
