"""The build's options: what cannot be had is said at configure time, and fails if asked for."""

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
    assert "for the CPU" in line_of(done)


def test_the_environment_says_what_no_option_does(tmp_path: Path) -> None:
    done = configure(tmp_path / "a", SUBGRAD_CUDA="OFF")
    assert "CUDA is off" in line_of(done)
    done = configure(tmp_path / "b", SUBGRAD_CUDA="perhaps")
    assert "SUBGRAD_CUDA is 'perhaps'" in done.stderr
    nowhere = str(tmp_path / "no-nvcc")
    done = configure(tmp_path / "c", "-DSUBGRAD_CUDA=AUTO", SUBGRAD_CUDA="ON", CUDACXX=nowhere)
    assert done.returncode == 0, done.stderr
    # What the environment said last time is not remembered.
    done = configure(tmp_path / "a", SUBGRAD_CUDA="ON", CUDACXX=nowhere)
    assert done.returncode != 0


# What stands in for nvcc: a toolkit that is too old, and one without an architecture that will do.
OLD = 'echo "Cuda compilation tools, release 12.0, V12.0.140"'
BROKEN = """case "$1" in
--version) echo "Cuda compilation tools, release 12.4, V12.4.1" ;;
--list-gpu-arch) echo compute_50; echo compute_70; echo compute_86 ;;
*) echo "error: no host compiler will do" >&2; exit 1 ;;
esac"""


@pytest.mark.parametrize(
    ("nvcc", "cards", "reason"),
    [
        (OLD, "exit 9", "is of CUDA 12.0, and 12.1 is the oldest that will do"),
        ("exit 1", "exit 9", "no working nvcc was found"),
        (BROKEN, "echo 6.1", "architecture 61: they need 70 or newer"),
        (BROKEN, "exit 9", "architecture 80, 90, 120: they need 70 or newer"),
        (BROKEN, "echo 8.6; echo 6.1; echo 7.0", "does not compile for 70-real;86: error"),
    ],
)
def test_what_cannot_work_is_one_line(nvcc: str, cards: str, reason: str, tmp_path: Path) -> None:
    for name, text in (("nvcc", nvcc), ("nvidia-smi", cards)):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {"CUDACXX": str(tmp_path / "nvcc"), "PATH": path, "CUDAARCHS": ""}
    done = configure(tmp_path / "auto", "-DSUBGRAD_CUDA=AUTO", **environment)
    assert done.returncode == 0, done.stderr
    assert reason in line_of(done)
    done = configure(tmp_path / "on", "-DSUBGRAD_CUDA=ON", **environment)
    assert done.returncode != 0
    # Without spaces: CMake breaks the lines of an error.
    words = "".join(done.stderr.split())
    assert "SUBGRAD_CUDA=ON,but" in words
    assert "".join(reason.split()) in words


def line_of(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that says what is built."""
    lines = [line for line in done.stdout.splitlines() if line.startswith("-- subgrad_fast: ")]
    [line] = [line for line in lines if "CUDA" in line]
    return line


# --- Threads, and the summary ---------------------------------------------------------------------

WITHOUT_OPENMP = "-DCMAKE_DISABLE_FIND_PACKAGE_OpenMP=ON"


def summary_of(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What the end of the configuration says is built, by subject."""
    lines = (line[5:].partition(":") for line in done.stdout.splitlines() if line[:5] == "--   ")
    return {subject: text.strip() for subject, _, text in lines}


def test_the_summary_says_what_is_built(tmp_path: Path) -> None:
    done = configure(tmp_path, "-DSUBGRAD_CUDA=AUTO", CUDACXX=str(tmp_path / "no-nvcc"))
    assert done.returncode == 0, done.stderr
    summary = summary_of(done)
    assert [*summary] == ["instruction sets", "threads", "CUDA"]
    assert summary["instruction sets"].startswith("portable")
    assert summary["threads"].startswith("OpenMP")
    assert summary["CUDA"].startswith("none: no working nvcc was found")


def test_one_thread_is_said_loudly_and_can_be_asked_for(tmp_path: Path) -> None:
    done = configure(tmp_path / "auto", "-DSUBGRAD_CUDA=OFF", WITHOUT_OPENMP)
    assert done.returncode == 0, done.stderr
    assert "CMake Warning" in done.stderr
    assert "everything will run on ONE THREAD" in " ".join(done.stderr.split())
    assert summary_of(done)["threads"].startswith("none, ONE thread")
    done = configure(tmp_path / "off", "-DSUBGRAD_CUDA=OFF", "-DSUBGRAD_OPENMP=OFF")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert summary_of(done)["threads"] == "none, ONE thread (SUBGRAD_OPENMP=OFF)"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-DSUBGRAD_OPENMP=ON", WITHOUT_OPENMP], "SUBGRAD_OPENMP=ON, but"),
        (["-DSUBGRAD_OPENMP=some"], "SUBGRAD_OPENMP is 'some': expected AUTO, ON or OFF"),
        (
            # What CMake finds for Clang, which has another runtime than torch.
            [
                *("-DOpenMP_CXX_FLAGS=-fopenmp", "-DOpenMP_CXX_LIB_NAMES=omp"),
                "-DOpenMP_omp_LIBRARY=/nowhere/libomp.so",
            ],
            "torch.set_num_threads would not count here",
        ),
    ],
)
def test_threads_that_are_not_meant_fail(options: list[str], reason: str, tmp_path: Path) -> None:
    done = configure(tmp_path, "-DSUBGRAD_CUDA=OFF", *options)
    assert done.returncode != 0
    assert reason in " ".join(done.stderr.split())
