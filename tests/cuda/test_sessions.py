"""The CUDA kernels, executed by interpreting their PTX: nothing here has run on a GPU.

tests/cuda/kernels/ has the tests themselves, which also run on a GPU where there is one. Here they
are run on three architectures and in three orders of blocks, warps and lanes, with checks of every
address, of races between blocks and between threads, and of memory that was never written: each on
one of them in every run, on all of them in the slow one.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import ROOT
from tests.cuda.sessions import (
    ARCHITECTURES,
    INNER,
    ORDERS,
    SHARES,
    TORCHS,
    require_emulated,
    session,
)


@pytest.fixture(scope="module")
def module() -> Path:
    return require_emulated()


def check(module: Path, arch: str, order: str, *tests: str) -> None:
    ran = session(module, arch, order, *tests)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    assert re.search(r"\d{2,} passed", ran.stdout), ran.stdout
    assert "skipped" not in ran.stdout, ran.stdout


@pytest.mark.parametrize(("arch", "order"), SHARES)
def test_a_share_of_the_kernels(module: Path, arch: str, order: str) -> None:
    check(module, arch, order, *(str(INNER / f"test_{name}.py") for name in SHARES[arch, order]))


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_kernels(module: Path, arch: str, order: str) -> None:
    check(module, arch, order, str(INNER))


@pytest.mark.torch
@pytest.mark.parametrize(("name", "skipped"), TORCHS.items())
def test_torchs_tensors(module: Path, name: str, skipped: int) -> None:
    pytest.importorskip("torch")
    # torch's memory is not known to the interpreter, so addresses are not checked.
    test = str(INNER / f"test_{name}.py")
    ran = session(module, "90", "forward", test, PTXEMU_MEMCHECK="0", SUBGRAD_CUDA_TORCH="1")
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    assert re.search(rf"\d{{2,}} passed, {skipped} skipped", ran.stdout), ran.stdout


def test_a_fault_ends_a_session(module: Path, tmp_path: Path) -> None:
    # The control: memory that was not put where kernels may touch it.
    test = tmp_path / "test_fault.py"
    test.write_text(
        "import numpy as np, sys\n"
        f"sys.path.append({str(ROOT)!r})\n"
        "import subgrad_fast as sf\n"
        "from tests.cuda.device_arrays import DeviceArray\n"
        "from tests.cuda.machines import find_machine\n"
        "find_machine()\n"
        "def test_fault():\n"
        "    x = DeviceArray(np.ones(4, np.float32))\n"
        "    sf.sgd_step(x, x, lr=0.1)\n"
    )
    ran = session(module, "90", "forward", str(test))
    assert ran.returncode != 0
    said = r"ptxemu: kernel .*dense_step.*\(dense_step\.cuh:\d+ .* access outside every allocation"
    assert re.search(said, ran.stderr), ran.stderr


def test_another_runtime_is_in_the_process(module: Path, tmp_path: Path) -> None:
    # As that of a torch with CUDA, whose symbols are the first that the loader finds.
    source = tmp_path / "runtime.cpp"
    names = "cudaLaunchKernel", "cudaMemsetAsync", "cudaGetLastError"
    source.write_text(
        "#include <cstdlib>\n"
        + "".join(f'extern "C" int {n}() {{ std::abort(); }}\n' for n in names)
    )
    versions = tmp_path / "runtime.map"
    versions.write_text("libcudart.so.13 { global: cuda*; local: *; };\n")
    library = tmp_path / "libcudart.so.13"
    compiler = os.environ.get("CXX", "c++")
    made = ["-shared", "-fPIC", f"-Wl,-soname,{library.name},--version-script,{versions}"]
    subprocess.run([compiler, *made, source, "-o", library], check=True)
    ran = session(module, "90", "forward", str(INNER / "test_select.py"), LD_PRELOAD=str(library))
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
