from typing import Any

import numpy as np
import numpy.typing as npt

GRANULE: int

def merge(
    out: Any,
    gathered: npt.NDArray[np.uint8],
    counts: list[int],
    wide: bool,
    scale: float,
    wire: str | None = ...,
) -> None: ...
def pack(
    payload: npt.NDArray[np.uint8],
    like: Any,
    wide: bool,
    parts: list[tuple[npt.NDArray[Any], npt.NDArray[Any], int, Any]],
    wire: str | None = ...,
) -> None: ...
