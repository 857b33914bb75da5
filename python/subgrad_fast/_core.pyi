from typing import Any

__version__: str

def array_source(array: Any) -> str: ...
def available_isas() -> list[str]: ...
def build_info() -> dict[str, Any]: ...
def get_num_threads() -> int: ...
def isa() -> str: ...
def select_isa(name: str | None) -> None: ...
def set_num_threads(n: int) -> None: ...
def sgd_step(
    params: Any,
    grads: Any,
    momentum_buffers: Any,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    decoupled_weight_decay: bool,
    first_step: bool,
) -> None: ...
def use_exchange_api(on: bool) -> bool: ...

class HeldPlan:
    def __init__(self, params: Any, momentum_buffers: Any) -> None: ...
    def step(
        self,
        grads: Any,
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
        maximize: bool,
        decoupled_weight_decay: bool,
        first_step: bool,
    ) -> None: ...

class OptimizerPlan:
    def __init__(
        self, param_groups: list[dict[str, Any]], state: dict[Any, Any], entries: list[Any]
    ) -> None: ...
    def finish(self) -> None: ...
    def step(self, param_groups: list[dict[str, Any]], state: dict[Any, Any]) -> Any: ...
