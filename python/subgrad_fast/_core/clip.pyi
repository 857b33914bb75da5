from typing import Any

class Options:
    def __init__(
        self,
        *,
        scope: Any = "global",
        measure: bool = False,
        skip_nonfinite: bool = False,
        grad_scale: Any = 1.0,
    ) -> None: ...

def total_norm(arrays: Any, largest: bool) -> float: ...
def clip_norm(grads: Any, max_norm: float, largest: bool, require_finite: bool) -> float: ...
def clip_value(grads: Any, limit: float) -> None: ...
