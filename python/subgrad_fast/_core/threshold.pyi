from collections.abc import Callable
from typing import Any

from subgrad_fast._core import SgdParams
from subgrad_fast._core.clip import Options

class Choice:
    def __init__(
        self, kind: str, threshold: float | None, density: float | None, k: int | None
    ) -> None: ...

class Peers:
    def __init__(
        self,
        parts: list[tuple[bool, int, list[list[int]]]],
        elements: int,
        add_up: Callable[[Any], None],
    ) -> None: ...

class PlaceReport:
    @property
    def on_host(self) -> bool: ...
    @property
    def kept(self) -> Any: ...
    @property
    def thresholds(self) -> Any: ...
    @property
    def energies(self) -> Any: ...

class Member:
    @property
    def place(self) -> int: ...
    @property
    def tensor(self) -> int: ...
    @property
    def scope(self) -> int: ...

class Report:
    @property
    def places(self) -> list[PlaceReport]: ...
    @property
    def members(self) -> list[Member]: ...
    @property
    def sizes(self) -> list[int]: ...
    @property
    def selections(self) -> list[tuple[Any, Any]] | None: ...
    @property
    def grad_norm(self) -> float | None: ...
    @property
    def following(self) -> list[list[float | None]]: ...

class Call:
    def __init__(self, index_bytes: int, measure: bool, clip: Options | None = None) -> None: ...
    def add(
        self,
        params: Any,
        grads: Any,
        residuals: Any,
        momentum_buffers: Any,
        hyper: SgdParams,
        *,
        lr: Any = None,
        momentum_correction: bool,
        momentum_masking: bool,
        choice: Choice,
        together: bool,
        first: list[bool],
        fresh: list[bool],
        last: list[float | None],
        peers: Peers | None = None,
    ) -> None: ...
    def squares(self) -> Any: ...
    def run(
        self,
        *,
        threshold: Any = None,
        capacity: int | None = None,
        announced: Any = None,
        then: list[tuple[dict[str, Any], str, Any]] = [],
        memories: list[list[dict[str, Any]]] = [],
        thresholds: list[float | None] | None = None,
        squares: Any = None,
    ) -> Report: ...
