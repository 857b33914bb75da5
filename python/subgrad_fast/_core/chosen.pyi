from typing import Any

import numpy.typing as npt

from subgrad_fast._core import SgdParams
from subgrad_fast._core.clip import Options

class Indices:
    def __init__(self, given: npt.NDArray[Any], elements: int, where: str, whose: str) -> None: ...
    def __len__(self) -> int: ...

class Call:
    def __init__(self, clip: Options | None = None) -> None: ...
    def add(
        self,
        params: Any,
        grads: Any,
        indices: list[Indices],
        momentum_buffers: Any,
        hyper: SgdParams,
        first: list[bool],
    ) -> None: ...
    def run(self, then: list[tuple[dict[Any, Any], Any, Any]] = ...) -> float | None: ...

def swap(
    params: list[Any],
    indices: list[npt.NDArray[Any]],
    values: list[Any],
    names: list[tuple[str, str]],
) -> None: ...
