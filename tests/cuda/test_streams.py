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
from alone import run_alone
from device_arrays import STREAM
from machines import EmulatedGpu, Gpu

import subgrad_fast as sf

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
  static void* const runtime = dlopen("libcudart.so.13", RTLD_LAZY);
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


# What to run, and how many calls of the runtime that is at least: a row for every launcher.
WORK: dict[str, tuple[Callable[[Gpu], None], int]] = {"dense": (dense, 4)}


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
    assert len(lines) >= WORK[work][1]
    assert {line.split()[1] for line in lines} == {str(STREAM)}
