from collections.abc import Callable
from typing import Any, TypeVar

from subgrad_fast._core import SgdParams
from subgrad_fast._core.clip import Options

_T = TypeVar("_T")

def step(
    params: Any,
    grads: Any,
    momentum_buffers: Any,
    hyper: SgdParams,
    first: bool,
    averages: Any = None,
    options: Options | None = None,
) -> Any: ...

class Plan:
    def __init__(
        self,
        params: Any,
        make_momenta: Callable[[], list[Any]],
        make_averages: Callable[[], list[Any]],
    ) -> None: ...
    def step(self, grads: Any, hyper: SgdParams, options: Options | None = None) -> Any: ...
    def need(self, hyper: SgdParams) -> None: ...
    def hold(
        self,
        momentum_buffers: list[Any] | None,
        steps: int,
        averages: list[Any] | None,
        averaged: int,
    ) -> None: ...
    def alone(self, body: Callable[[], _T]) -> _T: ...
    @property
    def momentum_buffers(self) -> list[Any]: ...
    @property
    def averages(self) -> list[Any]: ...
    @property
    def first_step(self) -> bool: ...
    @property
    def averaged(self) -> int: ...
