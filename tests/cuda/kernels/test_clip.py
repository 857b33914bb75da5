"""Norms and clipping on a device: the bits of the CPU, and no number that the host waits for."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import DTYPES
from tests.cuda.alone import run_alone
from tests.cuda.device_arrays import DeviceArray
from tests.cuda.machines import EmulatedGpu, Gpu

BLOCK = 4096  # elements whose squares are added together
LENGTHS = [0, 1, 31, 32, 33, 224, 255, 256, 257, BLOCK - 1, BLOCK, BLOCK + 1, 9 * BLOCK + 77]
ORDERS = [2.0, np.inf]


def random(n: int, dtype: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng((seed, n))
    return (rng.standard_normal(n) * 10.0 ** rng.integers(-3, 3, n)).astype(DTYPES[dtype])


def number(x: Any) -> np.ndarray:
    """A norm as an array of one, wherever it lies."""
    return np.array([float(x)])


def same_norm(gpu: Gpu, arrays: list[np.ndarray], what: str, offset: int = 0) -> None:
    on = [gpu.array(x, offset) for x in arrays]
    for p in ORDERS:
        waited = DeviceArray.reads
        got = sf.total_norm(on, p)
        assert DeviceArray.reads == waited, "the host has waited"
        assert_same_bits(number(got), number(sf.total_norm(arrays, p)), f"{what} p={p}")
    for got, was in zip(on, arrays, strict=True):
        assert gpu.numpy(got).tobytes() == was.tobytes(), f"{what}: changed"


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_norm_of_every_length(gpu: Gpu, dtype: str) -> None:
    for n in LENGTHS:
        same_norm(gpu, [random(n, dtype)], f"{dtype} n={n}", offset=n % 3)


def test_the_norm_of_all_types_together(gpu: Gpu) -> None:
    arrays = [random(n, dtype, i) for i, dtype in enumerate(DTYPES) for n in (70, 0, BLOCK + 5)]
    same_norm(gpu, arrays, "all types")
    same_norm(gpu, arrays[::-1], "backwards")


def test_the_norm_of_more_arrays_than_a_launch_takes(gpu: Gpu) -> None:
    # More than fit into a small list, and more than fit into a large one.
    for count in (1, 130, 950):
        same_norm(gpu, [random(i % 7, "float32", i) for i in range(count)], f"{count} arrays")


EXTREMES = {
    "overflow": [[1e200, 3e200], [5.0]],
    "underflow": [[1e-200, 3e-200], [2e-201]],
    "both": [[1e200, 1e-300], [1e-200], [4.0]],
    "one of many": [[3.0, 4.0], [1e-170]],
    "subnormal": [[5e-324, 2e-310], [1e-320]],
    "largest": [[1.7e308, 1.7e308], [1.0]],
    "zeros": [[0.0, -0.0], [0.0]],
    "zeros and one": [[0.0], [7.0]],
    "infinite": [[1.0, np.inf], [2.0]],
    "nan": [[1.0, np.nan], [np.inf]],
    "infinite beyond": [[1e300], [-np.inf]],
}


@pytest.mark.parametrize("case", EXTREMES)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_the_norm_at_the_ends_of_the_range(gpu: Gpu, case: str, dtype: str) -> None:
    with np.errstate(over="ignore", under="ignore"):
        arrays = [np.array(x).astype(DTYPES[dtype]) for x in EXTREMES[case]]
    same_norm(gpu, arrays, case)
    # Far apart, among others, in a gradient of several blocks.
    long = np.full(2 * BLOCK + 9, arrays[0][0])
    long[-1] = arrays[0][-1]
    same_norm(gpu, [random(40, "float32"), long, *arrays[1:]], f"{case}, long")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", ORDERS)
def test_gradients_are_clipped_by_their_norm(gpu: Gpu, dtype: str, p: float) -> None:
    arrays = [random(n, dtype, n) for n in (0, 5, 2047, 2048, 2049, 4111)]
    arrays += [random(33, "float32"), random(33, "float64")][: 2 if dtype == "float64" else 1]
    norm = float(sf.total_norm(arrays, p))
    for bound in (norm / 3, norm * 0.999, norm * 2, 0.0):
        on = [gpu.array(x, i % 2 * 2) for i, x in enumerate(arrays)]  # in packs, or one by one
        want = [x.copy() for x in arrays]
        waited = DeviceArray.reads
        got = sf.clip_grad_norm_(on, bound, p)
        assert DeviceArray.reads == waited, "the host has waited"
        assert_same_bits(number(got), number(sf.clip_grad_norm_(want, bound, p)))
        for i, (x, y) in enumerate(zip(on, want, strict=True)):
            assert_same_bits(gpu.numpy(x), y, f"{dtype} {i} bound={bound}")


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_norm_that_is_not_finite(gpu: Gpu, bad: float) -> None:
    x = random(100, "float32")
    x[7] = bad
    on = gpu.array(x)
    sf.clip_grad_norm_(on, 1.0)
    sf.clip_grad_norm_(x, 1.0)
    assert_same_bits(gpu.numpy(on), x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_elements_are_held_within_a_bound(gpu: Gpu, dtype: str) -> None:
    arrays = [random(n, dtype, n) for n in (3, 4111)]
    arrays[1][:3] = np.inf, -np.inf, np.nan
    on = [gpu.array(x, 2) for x in arrays]
    sf.clip_grad_value_(on, 0.7)
    sf.clip_grad_value_(arrays, 0.7)
    for x, y in zip(on, arrays, strict=True):
        assert_same_bits(gpu.numpy(x), y)


def test_what_is_not_in_one_place_is_refused(gpu: Gpu) -> None:
    if not gpu.emulated:
        pytest.skip("needs arrays that claim to be elsewhere")
    x, host = gpu.array(np.ones(4, np.float32)), np.ones(4, np.float32)
    with pytest.raises(
        ValueError, match=r"arrays\[1\]: expected memory on cuda:0 like arrays\[0\]"
    ):
        sf.total_norm([x, host])
    with pytest.raises(ValueError, match=r"grads\[1\]: expected memory on cpu like grads\[0\]"):
        sf.clip_grad_norm_([host, x], 1.0)
    strided = DeviceArray(gpu.numpy(gpu.array(np.ones((4, 4), np.float32)))[:, ::2])
    with pytest.raises(ValueError, match="grads: on cuda:0 an array must be contiguous"):
        sf.clip_grad_value_(strided, 1.0)
    assert (host == 1).all() and (gpu.numpy(x) == 1).all()


# --- What is written ------------------------------------------------------------------------------

LINE = re.compile(r'ptxemu-stats-line .* global_bytes=(\d+) .* instruction="([^"]*)"')


def main() -> None:
    """Runs alone: the interpreter counts only if it is told to at the start."""
    statistics = Path(os.environ["PTXEMU_STATS_FILE"])
    gpu = EmulatedGpu()
    x = gpu.array(np.ones(BLOCK, np.float32))
    for bound in (1.0, 100.0):
        statistics.write_text("")
        sf.clip_grad_norm_(x, bound)
        print(json.dumps(statistics.read_text()))


def test_gradients_within_the_bound_are_not_written(gpu: Gpu, tmp_path: Path) -> None:
    if not gpu.emulated:
        pytest.skip("a GPU does not count")
    printed = run_alone(__name__, PTXEMU_STATS="2", PTXEMU_STATS_FILE=str(tmp_path / "lines"))
    stored = [
        sum(int(n) for n, text in LINE.findall(json.loads(line)) if "st.global" in text)
        for line in printed.splitlines()
    ]
    few = 100  # bytes of sums, and the norm
    assert 4 * BLOCK < stored[0] < 4 * BLOCK + few
    assert 0 < stored[1] < few
