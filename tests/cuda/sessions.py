"""Starts test sessions under the PTX interpreter, which ends a process at the first fault."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests import ROOT

INNER = ROOT / "tests" / "cuda" / "kernels"
ARCHITECTURES = ("75", "90", "120")
ORDERS = {"forward": "0", "reverse": "1", "random": "2"}

# A change is met by each test once, on one architecture and in one order. All of them on all
# architectures and in all orders take half an hour.
SHARES = {
    ("75", "forward"): ("clip", "dense", "dense_traffic"),
    ("90", "random"): ("dense_launches", "sampling", "stages"),
    ("120", "reverse"): ("gather", "select", "streams", "threshold"),
}
# Of torch's tensors, with the number of tests that only a GPU can run.
TORCHS = {"optim": 1, "optim_stages": 1, "threshold_sgd": 1, "loader": 2}


def emulated_module() -> Path | None:
    """The newest kernels built for the interpreter and for this Python; it lies beside them."""
    name = "_cuda_emulated" + str(sysconfig.get_config_var("EXT_SUFFIX"))
    found = [*ROOT.glob(f"build/*/{name}")]
    if "SUBGRAD_CUDA_BUILD" in os.environ:
        found = [*Path(os.environ["SUBGRAD_CUDA_BUILD"]).glob(name)]
    return max(found, key=lambda f: f.stat().st_mtime, default=None)


def require_emulated() -> Path:
    """The kernels to be tested. Skips where there can be none; fails where they are out of date."""
    module = emulated_module()
    if module is None:
        reason = (
            "the kernels are not built for the interpreter: run `make test-cuda`"
            if shutil.which("nvcc")
            else "no nvcc on this machine: the CUDA kernels are not tested"
        )
        # .ci/run sets this where there is an nvcc.
        if os.environ.get("SUBGRAD_REQUIRE_CUDA_TESTS"):
            pytest.fail(reason)
        pytest.skip(reason)
    layers = ("core", "rules", "samplers", "cuda")
    sources = [f for layer in layers for f in (ROOT / "csrc" / layer).iterdir()]
    newest = max(sources, key=lambda f: f.stat().st_mtime)
    if newest.stat().st_mtime > module.stat().st_mtime:
        pytest.fail(f"{module.name} is older than {newest.name}: run `make test-cuda`")
    return module


def environment(module: Path, arch: str, order: str, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "SUBGRAD_CUDA_MODULE": str(module),
        "LD_LIBRARY_PATH": f"{module.parent}:{os.environ.get('LD_LIBRARY_PATH', '')}",
        "PTXEMU_ARCH": arch,
        "PTXEMU_ORDER": ORDERS[order],
        "PTXEMU_MEMCHECK": "1",
        "PTXEMU_GRACE": "1",
        "PTXEMU_WARPRACE": "1",
        "PTXEMU_SMS": "1",
        **more,
    }


def session(
    module: Path, arch: str, order: str, *arguments: str, **more: str
) -> subprocess.CompletedProcess[str]:
    """Runs the tests of tests/cuda/kernels under the interpreter."""
    # The interpreter's last words go to the file descriptor, so that one must not be captured.
    options = ["-q", "-x", "-p", "no:cacheprovider", "--capture=sys"]
    command = [sys.executable, "-m", "pytest", *options, *arguments]
    return subprocess.run(
        command,
        env=environment(module, arch, order, **more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
