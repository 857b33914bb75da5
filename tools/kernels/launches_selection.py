"""Selection and the thresholded step: the rows of the table in launches.py for select.cu,
kth_key.cu and threshold.cu.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import subgrad_fast as sf
from kernels.work import Kernel, Work, types_row
from tests.cases import COMBINATIONS, DTYPES

TILE = 2048
TILES = 64  # four for each block that searches for a key
MANY = 1024  # arrays of less than a tile
TYPES = {"float": "f32", "double": "f64"}  # bf16 and f16 have these names


def element_type(argument: str) -> str:
    return TYPES.get(argument, argument)


def normal(dtype: np.dtype, n: int) -> np.ndarray:
    return np.random.default_rng(n).standard_normal(n).astype(dtype)


def each_type(gpu: Any, minimum: Callable[[int, int, int], int]) -> Iterator[Work]:
    """Selects 1% of one array; minimum(elements, bytes of one, how many are kept)."""
    n = TILES * TILE
    k = n // 100
    for dtype in map(np.dtype, DTYPES.values()):
        x = gpu.array(normal(dtype, n))
        yield Work(lambda x=x: sf.select(x, k=k), n, minimum(n, dtype.itemsize, k))


def digit_works(gpu: Any) -> Iterator[Work]:
    """Once for each pass: six where a key has 63 bits, otherwise three."""
    return each_type(gpu, lambda n, size, _: n * size * (6 if size == 8 else 3))


def count_works(gpu: Any) -> Iterator[Work]:
    return each_type(gpu, lambda n, size, _: n * size)


def write_works(gpu: Any) -> Iterator[Work]:
    return each_type(gpu, lambda n, size, kept: n * size + kept * (8 + size))


def small_arrays(gpu: Any, count: int) -> list[Any]:
    return [gpu.array(np.ones(5, np.float32)) for _ in range(count)]


def scopes_works(gpu: Any) -> Iterator[Work]:
    arrays = small_arrays(gpu, 100)
    yield Work(lambda: sf.select(arrays, threshold=2.0), 100, 27 * 100)


def choose_works(gpu: Any) -> Iterator[Work]:
    arrays = small_arrays(gpu, 8)
    bins = 3 * 2048 * len(arrays)
    yield Work(lambda: sf.kth_magnitude(arrays, 2), bins, 16 * bins)


def thresholds_works(gpu: Any) -> Iterator[Work]:
    arrays = small_arrays(gpu, 100)
    yield Work(lambda: sf.kth_magnitude(arrays, 2), 100, 17 * 100)


def together(gpu: Any, minimum_bytes: int) -> Iterator[Work]:
    """Many arrays of a tile each, ranked together."""
    arrays = small_arrays(gpu, MANY)
    yield Work(lambda: sf.select(arrays, k=9, scope="global"), MANY, minimum_bytes * MANY)


def scan_works(gpu: Any) -> Iterator[Work]:
    return together(gpu, 20)


def kept_works(gpu: Any) -> Iterator[Work]:
    return together(gpu, 16)


def step_operands(gpu: Any, types: tuple[str, str], tiles: int) -> tuple[list[Any], list[int]]:
    """Parameter, gradient, residual and momentum, with the bytes of an element of each."""
    wide = "float64" if types[0] == "float64" else "float32"
    n = tiles * TILE
    dtypes = [np.dtype(DTYPES[name]) for name in (*types, wide, wide)]
    first, grad, *rest = dtypes
    values = [np.ones(n, first), normal(grad, n), *(np.zeros(n, dtype) for dtype in rest)]
    return [gpu.array(x) for x in values], [dtype.itemsize for dtype in dtypes]


def step_works(gpu: Any) -> Iterator[Work]:
    threshold, n = 2.576, 16 * TILE
    for param, grad, momentum in COMBINATIONS:
        if momentum != ("float64" if param == "float64" else "float32"):
            continue
        operands, (w, g, v, m) = step_operands(gpu, (param, grad), 16)
        kept = int((abs(normal(np.dtype(DTYPES[grad]), n).astype(float)) >= threshold).sum())

        def run(operands: list[Any] = operands) -> None:
            sf.threshold_step(*operands, lr=0.1, momentum=0.9, threshold=threshold)

        yield Work(run, n, n * (g + 2 * v + 2 * m) + kept * 2 * w)


def release_works(gpu: Any) -> Iterator[Work]:
    n = 16 * TILE
    k = n // 100
    for name in DTYPES:
        operands, (w, _, v, m) = step_operands(gpu, (name, name), 16)

        def run(operands: list[Any] = operands) -> None:
            sf.threshold_step(*operands, lr=0.1, momentum=0.9, k=k)

        yield Work(run, n, n * v + k * (2 * w + v + m))


def energies_works(gpu: Any) -> Iterator[Work]:
    operands, _ = step_operands(gpu, ("float32", "float32"), TILES)
    w, g, v, _ = operands
    yield Work(
        lambda: sf.threshold_step(w, g, v, lr=0.1, threshold=1.0, measure=True), TILES, 16 * TILES
    )


BY_TYPE = "Lines are named by the type of the elements."

SELECTION = {
    "set_scopes": Kernel(
        scopes_works,
        "One launch before a selection. An element is a scope, of which a thread writes 27 bytes: "
        "the cut, how many are left to be found, the tiles, three flags.",
    ),
    "count_digits": Kernel(
        digit_works,
        "The k-th key, by radix select: all passes over the elements together, three, or six for "
        "f64. Each has to read every element once. Above that are the key so far, for which all "
        "threads ask, and the bins that a block adds to. " + BY_TYPE,
        element_type,
    ),
    "choose_digit": Kernel(
        choose_works,
        "A block for each scope, once a pass. An element is a bin: a count of 8 bytes is read and "
        "set to zero.",
    ),
    "count_tile": Kernel(
        count_works,
        "What each tile keeps, once the cut is known: every element has to be read. Above that is "
        "the key, for which all threads ask. " + BY_TYPE,
        element_type,
    ),
    "scan_tiles": Kernel(
        scan_works,
        "Where each tile's output goes. An element is a tile: two counts (8 bytes) are read, and "
        "what the scope keeps up to its end (8) and how many may tie (4) are written. Above that "
        "is the scope, for which all threads of its block ask.",
    ),
    "report_kept": Kernel(
        kept_works,
        "An element is an array: what its scope keeps up to its end is read, how many it keeps is "
        "written, 8 bytes each. Both ends are asked for, and the scope's flags.",
    ),
    "report_thresholds": Kernel(
        thresholds_works,
        "An element is a scope: its key (8 bytes) and a flag are read, the threshold (8) is "
        "written. Scopes lie 32 bytes apart.",
    ),
    "write_tile": Kernel(
        write_works,
        "Indices (int64) and values of the 1% that is kept. Every element has to be read again, as "
        "each tile keeps some; what is kept is written. Above that is what all threads ask for of "
        "their tile. " + BY_TYPE,
        element_type,
    ),
    "threshold_step": Kernel(
        step_works,
        "The thresholded step in one kernel, with momentum, at 1% kept at random. The gradient "
        "has to be read, residual and momentum read and written, and the parameters that are "
        "kept; above that are their neighbours in a pack. Lines are named by the types of "
        "parameter and gradient.",
        lambda row: ", ".join(types_row(int(row))[:2]),
    ),
    "threshold_release": Kernel(
        release_works,
        "The second kernel, where the cut is not known before, with momentum, at 1% kept at "
        "random. The residual has to be read; of what is kept the parameter is read and written, "
        "residual and momentum are written. Above that are neighbours in a pack, and what all "
        "threads ask for of their tile. Lines are named by the type of the parameter.",
        lambda number: ("f32", "f64", "bf16", "f16")[int(number.rpartition(")")[2])],
    ),
    "sum_energies": Kernel(
        energies_works,
        "A block for each tensor, where sums of squares are measured. An element is a tile: two "
        "sums (16 bytes) are read.",
    ),
}
