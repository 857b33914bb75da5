"""Selection by magnitude on a device: what every instruction set of the CPU selects."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast import _core
from tests.bits import assert_same_bits
from tests.cases import DTYPES, adversaries, every_isa, special_values
from tests.cuda.machines import FULL, Gpu

TILE = 2048  # elements that a block takes at once


def number(x: Any) -> float:
    return float(np.asarray(x.cpu() if hasattr(x, "cpu") else x))


def same_number(got: Any, want: float) -> bool:
    return number(got) == want or (math.isnan(number(got)) and math.isnan(want))


def select_and_check(gpu: Gpu, arrays: list[np.ndarray], what: str, offset: int = 0, **how) -> None:
    on = [gpu.array(x, offset) for x in arrays]
    got = sf.select(on, **how)
    for isa in every_isa():
        want = sf.select(arrays, **how)
        for i, (a, b) in enumerate(zip(got, want, strict=True)):
            where = f"{what} {how} array {i} against {isa}"
            np.testing.assert_array_equal(gpu.numpy(a.indices), b.indices, err_msg=where)
            assert gpu.numpy(a.values).tobytes() == b.values.tobytes(), where
            assert same_number(a.threshold, b.threshold), where


def amounts(n: int) -> list[int]:
    return sorted({0, min(1, n), n // 100, n // 3, max(0, n - 1), n})


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_length(gpu: Gpu, dtype: str) -> None:
    for n in (0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 255, 257, 1023, TILE - 1, TILE, TILE + 1, 9001):
        x = special_values(DTYPES[dtype], n, np.random.default_rng(n))
        few = [n // 3, n] if n > 9 else amounts(n)
        for k in few:
            select_and_check(gpu, [x], f"{dtype} n={n}", k=k)
        select_and_check(gpu, [x], f"{dtype} n={n}", offset=1, threshold=1.0)


@pytest.mark.parametrize("name", adversaries(4))
def test_adversaries(gpu: Gpu, name: str) -> None:
    for n, dtype in ((2 * TILE + 77, "float32"), (77, "float64"), (TILE + 1, "float16")):
        with np.errstate(all="ignore"):
            x = adversaries(n)[name].astype(DTYPES[dtype])
        for k in amounts(n):
            select_and_check(gpu, [x], f"{name} {dtype}", k=k)
        for threshold in (0.0, 1.0, 1e-40, math.inf):
            select_and_check(gpu, [x], f"{name} {dtype}", threshold=threshold)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_every_alignment(gpu: Gpu, dtype: str) -> None:
    x = special_values(DTYPES[dtype], 300, np.random.default_rng(1))
    for offset in range(9):
        select_and_check(gpu, [x], dtype, offset=offset, k=100, index_dtype="int32")


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_lists(gpu: Gpu, scope: str) -> None:
    # More arrays than a list takes; ties across them go to the first ones.
    rng = np.random.default_rng(3)
    sizes = [0, TILE + 5, 3, 0, 700, *rng.integers(3, 9, 130), 0]
    types = ["float32", "float16", "bfloat16"]
    arrays = [rng.integers(-2, 3, n).astype(DTYPES[types[i % 3]]) for i, n in enumerate(sizes)]
    how = {"density": 0.3} if scope == "tensor" else {"k": 1000}
    select_and_check(gpu, arrays, scope, scope=scope, **how)
    select_and_check(gpu, arrays, scope, scope=scope, threshold=2.0, index_dtype="int32")


@pytest.mark.parametrize("dtype", DTYPES)
def test_kth_magnitude(gpu: Gpu, dtype: str) -> None:
    x = special_values(DTYPES[dtype], 3 * TILE - 5, np.random.default_rng(2))
    on = gpu.array(x)
    for k in (1, 2, 500, x.size):
        assert same_number(sf.kth_magnitude(on, k), sf.kth_magnitude(x, k)), k
    got = sf.kth_magnitude([on, gpu.array(x[:9])], 9)
    assert [number(g) for g in (got[0], got[1])] == pytest.approx(
        sf.kth_magnitude([x, x[:9]], 9), abs=0, rel=0, nan_ok=True
    )
    both = sf.kth_magnitude([on, gpu.array(x[:9])], 900, scope="global")
    assert same_number(both, sf.kth_magnitude([x, x[:9]], 900, scope="global"))


def test_chunks_of_several_tiles(gpu: Gpu) -> None:
    # The interpreter is told of one multiprocessor, so that a block counts several tiles early.
    x = special_values(DTYPES["float32"], 37 * TILE + 9, np.random.default_rng(4))
    select_and_check(gpu, [x], "chunks", k=1000)


def test_many_tiles_are_scanned(gpu: Gpu) -> None:
    # More than the scan takes in a turn, nearly all of them ties.
    tiles = 1030 if FULL else 30
    x = np.zeros(tiles * TILE, np.float32)
    x[5000::10000] = 1.0
    on, k = gpu.array(x), (tiles - 1) * TILE + 77
    _core.testing.select_isa(None)
    got, want = sf.select(on, k=k), sf.select(x, k=k)
    np.testing.assert_array_equal(gpu.numpy(got.indices), want.indices)
    assert_same_bits(gpu.numpy(got.values), want.values)


def test_arguments_are_refused(gpu: Gpu) -> None:
    x = gpu.array(np.ones(4, np.float32))
    with pytest.raises(ValueError, match=r"x\[1\]: expected memory on cuda:0 like x\[0\], got cpu"):
        sf.select([x, np.ones(4, np.float32)], k=1)
    with pytest.raises(ValueError, match="k: expected 0 to 4, the elements of x, got 5"):
        sf.select(x, k=5)
    with pytest.raises(ValueError, match="k: expected 1 to 4"):
        sf.kth_magnitude(x, 0)
    with pytest.raises(TypeError, match="float64 cannot be ranked together with float32"):
        sf.select([x, gpu.array(np.ones(4))], k=1, scope="global")
