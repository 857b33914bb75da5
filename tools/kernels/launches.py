"""The work whose memory traffic is counted: a row of KERNELS for every kernel.

A new kernel is a row here. Without one it still stands in the report, as not counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from reference import COMBINATIONS, DTYPES

import subgrad_fast as sf


@dataclass(frozen=True)
class Work:
    """Some launches of one kernel: `elements` is what it has to work on."""

    run: Callable[[], object]
    elements: int
    minimum_bytes: int
    """What the algorithm cannot do without: every operand read or written once."""


@dataclass(frozen=True)
class Kernel:
    works: Callable[[Any], Iterator[Work]]
    """Given where arrays are put (tests/cuda/machines.py)."""
    about: str = ""
    """What stands under its heading in the report."""
    title: Callable[[str], str] = str
    """Template arguments -> the name of a line in the report; instances of one name share it."""
    dense: bool = False
    """It must move no more than the minimum, fetch nothing that is not used, load by 16 bytes."""
    wide_stores: Callable[[str], bool] = bool
    """Whether a dense kernel of this title must store by 16 bytes too."""


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


LIST = Path(__file__).resolve().parents[2] / "csrc" / "rules" / "list.h"


def dense_title(arguments: str) -> str:
    """The element types of parameter, gradient and momentum; both sizes of the list are one."""
    types = re.findall(r"\{DType::(\w+), DType::(\w+), DType::(\w+)\}", LIST.read_text("utf-8"))
    return ", ".join(types[int(arguments.partition(",")[0])])


def stores_the_widest(title: str) -> bool:
    """A pack is 16 bytes of the widest operand, which may be the gradient: that is only read."""
    param, grad, momentum = (int(name.lstrip("bf")) for name in title.split(", "))
    return max(param, momentum) >= grad


KERNELS = {
    "dense_step": Kernel(
        dense_works,
        "A step with momentum. Lines are named by the types of parameter, gradient and momentum; "
        "each is for\nboth sizes of the list of tensors, with the worse figure.",
        dense_title,
        dense=True,
        wide_stores=stores_the_widest,
    ),
}
