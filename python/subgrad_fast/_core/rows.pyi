from typing import Any

import numpy as np
import numpy.typing as npt

from subgrad_fast._core import SgdParams
from subgrad_fast._core.clip import Measured, Options, Stage

class RowStep:
    def __init__(
        self,
        params: list[Any],
        rows: list[npt.NDArray[np.int64]],
        values: list[Any],
        momentum_buffers: list[Any],
        single: bool,
        hyper: SgdParams,
        first_step: bool,
    ) -> None: ...
    def measured(self, group: int, sums: bool = True) -> list[Measured]: ...
    def set_stages(self, stages: list[Stage]) -> None: ...
    def run(self, options: Options | None = None) -> float | None: ...
