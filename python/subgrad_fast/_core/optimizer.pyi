from typing import Any, TypeAlias

from subgrad_fast._core import SgdParams
from subgrad_fast._core.clip import Clipping, Measured, Options
from subgrad_fast._core.rows import RowStep

def new_buffer(like: Any, zeros: bool = False) -> Any: ...
def read_group(group: dict[str, Any], index: int) -> SgdParams: ...

class OverlapError(ValueError): ...

class Remaining:
    @property
    def group(self) -> int: ...
    @property
    def param(self) -> Any: ...
    @property
    def other_layout(self) -> bool: ...

class Outcome:
    @property
    def done(self) -> bool: ...
    @property
    def stale(self) -> bool: ...
    @property
    def remaining(self) -> list[Remaining]: ...

# Group, parameter, momentum, whether it holds nothing yet, average, likewise, covered.
Entry: TypeAlias = tuple[int, Any, Any, bool, Any, bool, bool]

class Plan:
    def __init__(
        self, param_groups: list[dict[str, Any]], state: dict[Any, Any], entries: list[Entry]
    ) -> None: ...
    def step(
        self,
        param_groups: list[dict[str, Any]],
        state: dict[Any, Any],
        options: Options | None = None,
        /,
    ) -> Outcome: ...
    def judge(self, others: list[Measured]) -> Clipping: ...
    def finish(
        self, row_steps: list[RowStep], slots: list[tuple[dict[str, Any], str, Any]]
    ) -> None: ...
    @property
    def clipping(self) -> Clipping: ...
