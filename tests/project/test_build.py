"""The build's options: what cannot be had fails loudly, at configure time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT


def configure(build: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    cmake = shutil.which(
        "cmake", path=os.pathsep.join([str(Path(sys.executable).parent), os.defpath])
    )
    if cmake is None:
        pytest.skip("no cmake")
    return subprocess.run(
        [cmake, "-S", ROOT, "-B", build, "-DSUBGRAD_BUILD_PYTHON=OFF", *options],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_cuda_on_without_nvcc_fails(tmp_path: Path) -> None:
    done = configure(tmp_path, "-DSUBGRAD_CUDA=ON", CUDACXX=str(tmp_path / "no-nvcc"))
    assert done.returncode != 0
    assert "SUBGRAD_CUDA=ON, but no working nvcc was found" in " ".join(done.stderr.split())


def test_an_unknown_cuda_value_fails(tmp_path: Path) -> None:
    done = configure(tmp_path, "-DSUBGRAD_CUDA=maybe")
    assert done.returncode != 0
    assert "SUBGRAD_CUDA is 'maybe': expected AUTO, ON or OFF" in " ".join(done.stderr.split())


@pytest.mark.parametrize("value", ["AUTO", "OFF"])
def test_without_cuda_the_build_goes_on(value: str, tmp_path: Path) -> None:
    done = configure(tmp_path, f"-DSUBGRAD_CUDA={value}", CUDACXX=str(tmp_path / "no-nvcc"))
    assert done.returncode == 0, done.stderr
