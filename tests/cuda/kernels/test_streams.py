"""Kernels run in the stream that they are given. The interpreter has but one: whoever forgets the
stream has the right results there, and on a GPU a race. So a spy stands before the runtime.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast import _core
from tests.cases import DTYPES
from tests.cuda.alone import run_alone
from tests.cuda.device_arrays import STREAM
from tests.cuda.machines import EmulatedGpu, Gpu

SPY = r"""
#include <dlfcn.h>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

struct Dim3 { unsigned x, y, z; };

template <class F>
F next(F, const char* name, void* stream) {
  std::FILE* out = std::fopen(std::getenv("STREAM_SPY"), "a");
  std::fprintf(out, "%s %zu\n", name, reinterpret_cast<std::size_t>(stream));
  std::fclose(out);
  static void* const runtime = dlopen("libptxemu.so", RTLD_LAZY);
  return reinterpret_cast<F>(dlsym(runtime, name));
}

#define LAUNCH(name)                                                                          \
  extern "C" int name(const void* kernel, Dim3 grid, Dim3 block, void** arguments,            \
                      std::size_t shared, void* stream) {                                     \
    return next(&name, #name, stream)(kernel, grid, block, arguments, shared, stream);        \
  }
LAUNCH(cudaLaunchKernel)
LAUNCH(__cudaLaunchKernel)
extern "C" int cudaMemsetAsync(void* to, int value, std::size_t bytes, void* stream) {
  return next(&cudaMemsetAsync, "cudaMemsetAsync", stream)(to, value, bytes, stream);
}
extern "C" int cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, int kind,
                               void* stream) {
  return next(&cudaMemcpyAsync, "cudaMemcpyAsync", stream)(to, from, bytes, kind, stream);
}
"""


def dense(gpu: Gpu) -> None:
    """By the list for few tensors, by that for many, and by several launches of it."""
    for count in (1, 100, 700):
        w, g, m = ([gpu.array(np.ones(5, np.float32)) for _ in range(count)] for _ in range(3))
        sf.sgd_step(w, g, m, lr=0.1, momentum=0.9)


def orders(gpu: Gpu) -> None:
    values = gpu.array(np.arange(50))
    for order in (sf.Permutation(50), sf.Permutation(50, block_size=7)):
        order.slice(0, 50, out=values)
        order._order.indices(values)
        order._order.positions(values)
    sf.choose(100, 50, out=values)


def draws(gpu: Gpu) -> None:
    out = gpu.array(np.arange(50))
    _core.sampling.uniform_draws(10, 0, 0, 0, out)
    _core.sampling.Weights(np.ones(8), None).draw(0, 0, 0, False, out)
    _core.testing.random_words_on_device(1, 2, 3, out)


def sent(gpu: Gpu) -> None:
    """By the list for few indices, and by several launches of that for many."""
    for count in (5, 5000):
        _core.testing.send_indices(np.arange(count), count, gpu.array(np.arange(count)))


def batches(gpu: Gpu) -> None:
    """More arrays than a launch takes."""
    fields = [[gpu.array(np.ones((8, 3), np.float32)) for _ in range(2)] for _ in range(80)]
    sources, outputs = (list(arrays) for arrays in zip(*fields, strict=True))
    _core.testing.gather(sources, outputs, gpu.array(np.arange(8)))


def selection(gpu: Gpu) -> None:
    for dtype in DTYPES.values():
        x = [gpu.array(np.ones(9, dtype)) for _ in range(70)]
        sf.select(x, k=2)
        sf.select(x, threshold=0.5)
        sf.kth_magnitude(x, 2)


def sparse(gpu: Gpu) -> None:
    for dtype in DTYPES.values():
        wide = np.float64 if dtype == np.float64 else np.float32
        types = (dtype, dtype, wide, wide)
        w, g, v, m = ([gpu.array(np.ones(9, t)) for _ in range(30)] for t in types)
        for how in ({"threshold": 0.5}, {"k": 2}, {"k": 2, "emit": "int64"}):
            sf.threshold_step(w, g, v, m, lr=0.1, momentum=0.9, measure=True, **how)


def clipped(gpu: Gpu) -> None:
    """By both lists, in all types, with what is done anew for float64."""
    for dtype in DTYPES.values():
        for count in (1, 130):
            x = [gpu.array(np.ones(9, dtype)) for _ in range(count)]
            sf.clip_grad_norm_(x, 1.0)
            sf.clip_grad_norm_(x, 1.0, np.inf)
            sf.clip_grad_value_(x, 0.1)


def staged(gpu: Gpu) -> None:
    """All stages, by both lists, and steps that the device counts."""
    for count in (1, 60):
        w, g, m, e = ([gpu.array(np.ones(5, np.float32)) for _ in range(count)] for _ in range(4))
        sf.FusedSGD(w, lr=0.1, max_norm=1.0, skip_nonfinite=True)(g)
        sf.sgd_step(w, g, m, lr=0.1, momentum=0.9, clip_value=1.0, ema=e, ema_decay=0.5)


# What to run, and how many launches and fills of memory that is at least: all launchers.
WORK: dict[str, tuple[Callable[[Gpu], None], int, int]] = {
    "dense": (dense, 4, 0),
    "clipped": (clipped, 60, 2),
    "staged": (staged, 10, 0),
    "orders": (orders, 7, 0),
    "draws": (draws, 3, 0),
    "sent": (sent, 3, 0),
    "batches": (batches, 2, 0),
    "selection": (selection, 150, 16),
    "sparse": (sparse, 150, 32),
}


def main() -> None:
    WORK[os.environ["STREAM_WORK"]][0](EmulatedGpu())


@pytest.fixture(scope="module")
def spy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("spy") / "spy.cpp"
    source.write_text(SPY)
    library = source.with_suffix(".so")
    compiler = os.environ.get("CXX", "c++")
    subprocess.run([compiler, "-shared", "-fPIC", source, "-o", library, "-ldl"], check=True)
    return library


@pytest.mark.parametrize("work", WORK)
def test_all_runs_in_the_callers_stream(gpu: Gpu, spy: Path, work: str, tmp_path: Path) -> None:
    if not gpu.emulated:
        pytest.skip("the spy stands before the interpreter's runtime")
    calls = tmp_path / "calls"
    run_alone(__name__, LD_PRELOAD=str(spy), STREAM_SPY=str(calls), STREAM_WORK=work)
    lines = calls.read_text().splitlines()
    _, launches, fills = WORK[work]
    assert sum("LaunchKernel" in line for line in lines) >= launches
    assert sum("Memset" in line for line in lines) >= fills
    assert {line.split()[1] for line in lines} == {str(STREAM)}
