from typing import Any

def kth_magnitudes(x: Any, k: int, together: bool) -> Any: ...
def select(
    x: Any,
    threshold: float | None,
    density: float | None,
    k: int | None,
    together: bool,
    narrow: bool,
) -> list[tuple[Any, Any, Any]]: ...
