from typing import Any

import numpy as np
import numpy.typing as npt

from subgrad_fast._core import SgdParams

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
    def run(self) -> None: ...
