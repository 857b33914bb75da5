"""A row of the table in launches.py: what a kernel is given to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from subgrad_fast._core import testing


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


def types_row(number: int) -> list[str]:
    """That row of kDenseTypes: the types of parameter, gradient and momentum, such as f32."""
    return [name.replace("float", "f") for name in testing.dense_types()[number]]
