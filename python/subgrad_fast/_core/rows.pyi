from typing import Any, overload

import numpy as np
import numpy.typing as npt

from subgrad_fast._core import SgdParams
from subgrad_fast._core.clip import Measured, Options, Stage

class RowHistory:
    @overload
    def __init__(self, rows: int) -> None: ...
    @overload
    def __init__(self, rows: int, most_steps: int) -> None: ...
    @property
    def rows(self) -> int: ...
    @property
    def pending(self) -> bool: ...
    def lacking(self) -> int: ...
    def catch_up(
        self, param: Any, momentum_buffer: Any, rows: npt.NDArray[np.int64] | None
    ) -> bool: ...

class RowStep:
    def __init__(
        self,
        params: list[Any],
        rows: list[npt.NDArray[np.int64]],
        values: list[Any],
        momentum_buffers: list[Any],
        histories: list[RowHistory],
        single: bool,
        hyper: SgdParams,
        first_step: bool,
    ) -> None: ...
    def first_lacking(self) -> tuple[int, int]: ...
    def measured(self, group: int, sums: bool = True) -> list[Measured]: ...
    def set_stages(self, stages: list[Stage]) -> None: ...
    def run(self, options: Options | None = None) -> float | None: ...
