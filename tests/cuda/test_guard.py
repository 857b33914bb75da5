"""Where there is an nvcc, .ci/run must not pass without having run the CUDA tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.cuda.sessions import INNER, SHARES, TORCHS

CI = ROOT / ".ci" / "run"


def cuda_tests(build: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """tests/cuda/test_sessions.py in `make test`, with the kernels of another build directory."""
    clean = {k: v for k, v in os.environ.items() if k != "SUBGRAD_REQUIRE_CUDA_TESTS"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-ra"]
    return subprocess.run(
        [*command, str(ROOT / "tests" / "cuda" / "test_sessions.py")],
        env={**clean, "SUBGRAD_CUDA_BUILD": str(build), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_kernels_the_tests_fail_where_they_are_required(tmp_path: Path) -> None:
    ran = cuda_tests(tmp_path, SUBGRAD_REQUIRE_CUDA_TESTS="1")
    assert ran.returncode == 1
    assert " passed" not in ran.stdout
    assert "skipped" not in ran.stdout
    reasons = ("run `make test-cuda`", "no nvcc on this machine")
    assert any(reason in ran.stdout for reason in reasons), ran.stdout


def test_without_kernels_the_tests_are_skipped_elsewhere(tmp_path: Path) -> None:
    ran = cuda_tests(tmp_path)
    assert ran.returncode == 0
    assert " skipped" in ran.stdout
    assert " passed" not in ran.stdout


def test_every_test_is_in_one_share() -> None:
    shared = [*TORCHS, *(name for names in SHARES.values() for name in names)]
    assert sorted(f"test_{name}.py" for name in shared) == sorted(
        f.name for f in INNER.glob("test_*.py")
    )


def program(file: Path, text: str) -> None:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


@pytest.mark.parametrize("with_nvcc", [True, False])
def test_ci_requires_them_where_there_is_an_nvcc(with_nvcc: bool, tmp_path: Path) -> None:
    if not CI.is_file():
        pytest.skip("no .ci/run in this copy of the sources")
    # A make that notes what it is told, and whose tests fail.
    program(
        tmp_path / "make",
        f'echo "$1 ${{SUBGRAD_REQUIRE_CUDA_TESTS-no}}" >>{tmp_path}/calls; [ "$1" != test ]',
    )
    if with_nvcc:
        program(tmp_path / "nvcc", "exit 0")
    path = os.pathsep.join([str(tmp_path), "/usr/bin", "/bin"])
    if not with_nvcc and shutil.which("nvcc", path=path):
        pytest.skip("nvcc is in /usr/bin")
    clean = {k: v for k, v in os.environ.items() if k != "SUBGRAD_REQUIRE_CUDA_TESTS"}
    ran = subprocess.run([CI], env={**clean, "PATH": path}, capture_output=True, check=False)
    assert ran.returncode != 0
    # The first failure ends it.
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [c for c in calls if not c.startswith(".venv/")] == [
        f"test {'1' if with_nvcc else 'no'}"
    ]
    assert calls[-1].startswith("test ")
