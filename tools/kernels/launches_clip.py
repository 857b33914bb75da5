"""Norms, clipping and stages: the rows of the table in launches.py for norm.cu, clip.cu and
dense_staged.cu.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import subgrad_fast as sf
from kernels.work import Kernel, Work
from tests.cases import COMBINATIONS, DTYPES

BLOCK = 4096  # elements whose squares are added together
BLOCKS = 32
MANY = 130  # more arrays than a small list takes
TYPES = {"float": "f32", "double": "f64"}  # bf16 and f16 have these names


def element_type(arguments: str) -> str:
    name = arguments.partition(",")[0]
    return TYPES.get(name, name)


def each_type(gpu: Any, call: Callable[[list[Any]], object], accesses: int) -> Iterator[Work]:
    """By the list for few arrays and by that for many, which move each element so often."""
    for dtype in DTYPES.values():
        for count, n in ((2, BLOCKS * BLOCK), (MANY, BLOCK)):
            arrays = [gpu.array(np.ones(n, dtype)) for _ in range(count)]
            size = np.dtype(dtype).itemsize
            yield Work(lambda arrays=arrays: call(arrays), count * n, accesses * size * count * n)


def norms(gpu: Any) -> Iterator[Work]:
    yield from each_type(gpu, sf.total_norm, 1)
    yield from each_type(gpu, lambda arrays: sf.total_norm(arrays, np.inf), 1)


def anew(gpu: Any) -> Iterator[Work]:
    """Squares that leave the range of float64: read three times."""
    arrays = [gpu.array(np.full(BLOCKS * BLOCK, 1e200))]
    yield Work(lambda: sf.total_norm(arrays), BLOCKS * BLOCK, 3 * 8 * BLOCKS * BLOCK)


def changes(gpu: Any) -> Iterator[Work]:
    return each_type(gpu, lambda arrays: sf.clip_grad_value_(arrays, 0.5), 2)


def staged(gpu: Any) -> Iterator[Work]:
    """All element types, by the list for few tensors and by the one for many, with averages."""
    for combination in COMBINATIONS:
        sizes = [np.dtype(DTYPES[name]).itemsize for name in combination]
        wide = np.float64 if sizes[0] == 8 else np.float32
        per_element = 2 * sizes[0] + sizes[1] + 2 * sizes[2] + 2 * np.dtype(wide).itemsize
        for tensors, length in ((2, 16 * 2048), (90, 2048)):
            operands = [
                [gpu.array(np.ones(length, dtype)) for _ in range(tensors)]
                for dtype in (*(DTYPES[name] for name in combination), wide)
            ]

            def run(operands: list[Any] = operands) -> None:
                *step, ema = operands
                sf.sgd_step(*step, lr=0.1, momentum=0.9, clip_value=1.0, ema=ema, ema_decay=0.9)

            yield Work(run, tensors * length, per_element * tensors * length)


def counts(gpu: Any) -> Iterator[Work]:
    w, g = (gpu.array(np.ones(5, np.float32)) for _ in range(2))
    yield Work(lambda: sf.FusedSGD(w, lr=0.1, skip_nonfinite=True)(g), 1, 32)


def kernels(dense_title: Callable[[str], str]) -> dict[str, Kernel]:
    """The rows, where a dense step's lines are named so."""
    return {
        "staged_step": Kernel(
            staged,
            "A step with momentum, a limit and an average; lines as those of `dense_step`.",
            dense_title,
        ),
        "look_at_blocks": Kernel(norms, "Squares and the largest magnitude.", element_type),
        "fold_blocks": Kernel(anew, "The blocks of each gradient added in order."),
        "add_scopes": Kernel(norms, "The gradients of each scope added in order."),
        "add_largest": Kernel(norms),
        "change_elements": Kernel(changes, "Elements held within a bound.", element_type),
        "count_steps": Kernel(counts),
        "set_counts": Kernel(counts),
    }
