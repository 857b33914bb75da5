from typing import Any

import numpy as np
import numpy.typing as npt

MAX_PATTERN: int
__version__: str
ENTRY_GRANULE: int

def apply_masks(x: Any, mask: list[npt.NDArray[Any]]) -> None: ...
def array_source(array: Any) -> str: ...
def available_isas() -> list[str]: ...
def cuda_info() -> dict[str, Any]: ...
def cuda_problem(device: int) -> str | None: ...
def choose(n: int, seed: int, draw: int, out: npt.NDArray[np.int64]) -> None: ...
def build_info() -> dict[str, Any]: ...
def contiguous_rows(array: npt.NDArray[Any]) -> bool: ...
def count_of(density: float, n: int) -> int: ...
def energy(x: Any, k: int) -> tuple[float, float]: ...
def get_num_threads() -> int: ...
def hard_threshold(
    x: Any, threshold: float | None, density: float | None, k: int | None, together: bool
) -> None: ...
def isa() -> str: ...
def keep_pattern(x: Any, n: int, m: int) -> None: ...
def kth_magnitudes(x: Any, k: int, together: bool) -> list[float]: ...
def merge_entries(
    out: Any,
    gathered: npt.NDArray[np.uint8],
    counts: list[int],
    wide: bool,
    scale: float,
) -> None: ...
def new_buffer(like: Any, zeros: bool = False) -> Any: ...
def on_device(arrays: list[Any]) -> bool: ...
def next_threshold(threshold: float, kept: int, target: int) -> float: ...
def pack_entries(
    payload: npt.NDArray[np.uint8],
    like: Any,
    wide: bool,
    parts: list[tuple[npt.NDArray[Any], npt.NDArray[Any], int, Any]],
) -> None: ...
def random_words(key: int, low: int, high: int, blocks: int) -> npt.NDArray[np.uint64]: ...
def select(
    x: Any,
    threshold: float | None,
    density: float | None,
    k: int | None,
    together: bool,
    narrow: bool,
) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any], float]]: ...
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
    l1: float,
    first_step: bool,
) -> None: ...
def sparse_step(
    params: Any,
    grads: Any,
    residuals: Any,
    momentum_buffers: Any,
    rows: list[SparseParams],
    selectors: list[Selector],
    placements: list[Placement],
    index_bytes: int,
    measure: bool,
    versioned: list[Any],
) -> tuple[list[int], list[float], list[tuple[float, float]], list[Any]]: ...
def shrink(x: Any, threshold: float, scale: float) -> None: ...
def shrink_rows(x: Any, threshold: float) -> None: ...
def uniform_draws(
    n: int, seed: int, epoch: int, start: int, out: npt.NDArray[np.int64]
) -> None: ...
def use_exchange_api(on: bool) -> bool: ...

class OverlapError(ValueError): ...

class CudaSelect:
    def __init__(
        self,
        x: Any,
        threshold: float | None,
        density: float | None,
        k: int | None,
        least_k: int,
        together: bool,
        narrow: bool,
    ) -> None: ...
    @property
    def amounts(self) -> list[int]: ...
    @property
    def scratch_bytes(self) -> int: ...
    def find(self, scratch: int, kept: int, thresholds: int) -> None: ...
    def write(self, outputs: list[tuple[int, int, int]]) -> None: ...

class CudaSparseStep:
    def __init__(
        self,
        params: Any,
        grads: Any,
        residuals: Any,
        momentum_buffers: Any,
        rows: list[SparseParams],
        selectors: list[Selector],
        placements: list[Placement],
        index_bytes: int,
        measure: bool,
        threshold: Any,
        rates: list[Any],
    ) -> None: ...
    @property
    def scratch_bytes(self) -> int: ...
    def begin(
        self,
        scratch: int,
        kept: int,
        thresholds: int,
        energies: int,
        capacity: int | None,
        versioned: list[Any],
    ) -> None: ...
    def finish(self, outputs: list[tuple[int, int, int]]) -> None: ...

class GatherRing:
    def __init__(self, sources: list[npt.NDArray[Any]], rows: int, slots: int) -> None: ...
    def bind(self, slot: int, outputs: list[npt.NDArray[Any]], rows: int) -> None: ...
    def cancel(self) -> None: ...
    def gather(self, slot: int, indices: Any) -> None: ...
    def submit(self, slot: int, indices: Any) -> None: ...
    def wait(self, slot: int) -> None: ...

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
        l1: float,
        first_step: bool,
    ) -> None: ...

class OptimizerPlan:
    def __init__(
        self, param_groups: list[dict[str, Any]], state: dict[Any, Any], entries: list[Any]
    ) -> None: ...
    def finish(self) -> None: ...
    def step(self, param_groups: list[dict[str, Any]], state: dict[Any, Any]) -> Any: ...

class Order:
    def __init__(
        self, n: int, seed: int, epoch: int, reverse_pairs: bool, block_size: int, window: int
    ) -> None: ...
    def index_at(self, position: int, /) -> int: ...
    def position_of(self, index: int, /) -> int: ...
    def indices(self, values: npt.NDArray[np.int64]) -> None: ...
    def positions(self, values: npt.NDArray[np.int64]) -> None: ...
    def range(self, start: int, step: int, out: npt.NDArray[np.int64]) -> None: ...

class Placement:
    def __init__(self, row: int, scope: int, first: bool, fresh: bool) -> None: ...

class RowStep:
    def __init__(
        self,
        params: list[Any],
        rows: list[npt.NDArray[np.int64]],
        values: list[Any],
        momentum_buffers: list[Any],
        single: bool,
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
        maximize: bool,
        decoupled_weight_decay: bool,
        l1: float,
        first_step: bool,
    ) -> None: ...
    def run(self) -> None: ...

class Selector:
    def __init__(self, kind: str, threshold: float, k: int) -> None: ...

class SparseParams:
    def __init__(
        self,
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
        maximize: bool,
        decoupled_weight_decay: bool,
        momentum_correction: bool,
        momentum_masking: bool,
    ) -> None: ...

class Strata:
    def __init__(self, starts: npt.NDArray[np.uint64]) -> None: ...
    def groups(
        self,
        seed: int,
        epoch: int,
        listed: npt.NDArray[np.int64],
        first: int,
        per_batch: int,
        per_class: int,
        out: npt.NDArray[np.int64],
    ) -> None: ...
    def members(
        self,
        seed: int,
        epoch: int,
        start: int,
        classes: npt.NDArray[np.int64],
        out: npt.NDArray[np.int64],
    ) -> None: ...
    def turns(
        self,
        seed: int,
        epoch: int,
        classes: npt.NDArray[np.int64],
        turns: npt.NDArray[np.int64],
        out: npt.NDArray[np.int64],
    ) -> None: ...

class Weights:
    def __init__(self, weights: npt.NDArray[np.float64], exponent: int | None) -> None: ...
    @property
    def changed(self) -> bool: ...
    @property
    def exponent(self) -> int: ...
    @property
    def positive(self) -> int: ...
    @property
    def total(self) -> float: ...
    def draw(
        self, seed: int, epoch: int, start: int, by_epoch: bool, out: npt.NDArray[np.int64]
    ) -> None: ...
    def draw_distinct(
        self, seed: int, epoch: int, by_epoch: bool, out: npt.NDArray[np.int64]
    ) -> None: ...
    def update(self, indices: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> None: ...
    def values(self) -> npt.NDArray[np.float64]: ...
    def values_at(self, indices: npt.NDArray[np.int64], out: npt.NDArray[np.float64]) -> None: ...
