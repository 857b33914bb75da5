from typing import Any

from subgrad_fast._core import SgdParams

class Options:
    def __init__(
        self,
        *,
        scope: Any = "global",
        measure: bool = False,
        skip_nonfinite: bool = False,
        grad_scale: Any = 1.0,
        found_inf: Any = None,
    ) -> None: ...

class Measured:
    def __init__(self, group: int, squares: float, wide: bool) -> None: ...

class Stage:
    @property
    def scale(self) -> float: ...
    @property
    def limit(self) -> float: ...
    @property
    def changes_nothing(self) -> bool: ...

class Clipping:
    @property
    def norm(self) -> float | None: ...
    @property
    def skip(self) -> bool: ...
    @property
    def stages(self) -> list[Stage]: ...

def judge(
    measured: list[Measured], hyper: list[SgdParams], options: Options | None
) -> Clipping: ...
def total_norm(arrays: Any, largest: bool) -> float: ...
def clip_norm(grads: Any, max_norm: float, largest: bool, require_finite: bool) -> float: ...
def clip_value(grads: Any, limit: float) -> None: ...
