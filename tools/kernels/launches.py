"""The work whose memory traffic is counted: a row of KERNELS for every kernel.

A new kernel is a row here, or in one of the tables that are joined to this. Without one it still
stands in the report, as not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import subgrad_fast as sf
from kernels.launches_clip import kernels as clip_kernels
from kernels.launches_sampling import SAMPLING
from kernels.launches_selection import SELECTION
from kernels.work import Kernel, Work, types_row
from tests.cases import COMBINATIONS, DTYPES


def dense_works(gpu: Any) -> Iterator[Work]:
    """All element types, by the list for few tensors and by the one for many."""
    for combination in COMBINATIONS:
        sizes = [np.dtype(DTYPES[name]).itemsize for name in combination]
        per_element = 2 * sizes[0] + sizes[1] + 2 * sizes[2]
        for tensors, length in ((2, 16 * 2048), (90, 2048)):
            operands = [
                [gpu.array(np.ones(length, DTYPES[name])) for _ in range(tensors)]
                for name in combination
            ]

            def run(operands: list[Any] = operands) -> None:
                sf.sgd_step(*operands, lr=0.1, momentum=0.9)

            elements = tensors * length
            yield Work(run, elements, per_element * elements)


def dense_title(arguments: str) -> str:
    """The element types of parameter, gradient and momentum; both sizes of the list are one."""
    return ", ".join(types_row(int(arguments.partition(",")[0])))


def stores_the_widest(title: str) -> bool:
    """A pack is 16 bytes of the widest operand, which may be the gradient: that is only read."""
    param, grad, momentum = (int(name.lstrip("bf")) for name in title.split(", "))
    return max(param, momentum) >= grad


KERNELS = {
    "dense_step": Kernel(
        dense_works,
        "A step with momentum. Lines are named by the types of parameter, gradient and momentum; "
        "each is for both sizes of the list of tensors, with the worse figure.",
        dense_title,
        dense=True,
        wide_stores=stores_the_widest,
    ),
    **clip_kernels(dense_title),
    **SAMPLING,
    **SELECTION,
}
