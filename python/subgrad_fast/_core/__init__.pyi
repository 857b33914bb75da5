from typing import Any, final

from subgrad_fast._core import (
    chosen as chosen,
)
from subgrad_fast._core import (
    clip as clip,
)
from subgrad_fast._core import (
    cuda as cuda,
)
from subgrad_fast._core import (
    dense as dense,
)
from subgrad_fast._core import (
    exchange as exchange,
)
from subgrad_fast._core import (
    loading as loading,
)
from subgrad_fast._core import (
    memory as memory,
)
from subgrad_fast._core import (
    optimizer as optimizer,
)
from subgrad_fast._core import (
    rows as rows,
)
from subgrad_fast._core import (
    sampling as sampling,
)
from subgrad_fast._core import (
    select as select,
)
from subgrad_fast._core import (
    sparsify as sparsify,
)
from subgrad_fast._core import (
    testing as testing,
)
from subgrad_fast._core import (
    threshold as threshold,
)

__version__: str
SGD_TERMS: tuple[str, ...]
MASKED_ARRAY: str
MAX_THREADS: int

class Turns:
    """One object's calls, one after the other: ``with turns:`` waits for other threads' blocks."""

    def __enter__(self) -> None: ...
    def __exit__(self, *error: Any) -> None: ...

def available_isas() -> list[str]: ...
def build_info() -> dict[str, Any]: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int, adaptive: bool) -> None: ...
def read_flag(name: str, value: Any) -> bool: ...
def read_number(name: str, value: Any) -> float: ...

@final
class SgdParams:
    def __new__(
        cls,
        lr: Any,
        *,
        momentum: Any = 0.0,
        dampening: Any = 0.0,
        weight_decay: Any = 0.0,
        nesterov: Any = False,
        maximize: Any = False,
        decoupled_weight_decay: Any = False,
        l1: Any = 0.0,
        max_norm: Any = None,
        clip_value: Any = None,
        ema_decay: Any = None,
    ) -> SgdParams: ...
    @property
    def lr(self) -> float: ...
    @property
    def momentum(self) -> float: ...
    @property
    def dampening(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def nesterov(self) -> bool: ...
    @property
    def maximize(self) -> bool: ...
    @property
    def decoupled_weight_decay(self) -> bool: ...
    @property
    def l1(self) -> float: ...
    @property
    def max_norm(self) -> float | None: ...
    @property
    def clip_value(self) -> float | None: ...
    @property
    def ema_decay(self) -> float | None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
