"""Which instruction set runs: the best one, the one asked for, or a clear error."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import subgrad_fast as sf
from subgrad_fast import _core


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


STEP = (
    "import numpy as np, subgrad_fast as sf; w = np.ones(3, np.float32);"
    "sf.sgd_step(w, w.copy(), lr=0.5); assert (w == 0.5).all(); print(sf.build_info()['isa'])"
)


@pytest.mark.parametrize("name", sf.available_isas())
def test_the_environment_names_one(name: str) -> None:
    done = run(STEP, SUBGRAD_FAST_ISA=name)
    assert done.stdout.strip() == name, done.stderr


def test_the_best_one_is_the_default() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "SUBGRAD_FAST_ISA"}
    done = subprocess.run(
        [sys.executable, "-c", STEP], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == sf.available_isas()[0]


@pytest.mark.parametrize(
    "name", ["sse9", "AVX2", "neon" if "neon" not in sf.available_isas() else "avx2"]
)
def test_an_unknown_or_unavailable_name_raises(name: str) -> None:
    done = run(STEP, SUBGRAD_FAST_ISA=name)
    assert done.returncode == 1
    assert f"ValueError: SUBGRAD_FAST_ISA: '{name}' is unknown or not available here" in done.stderr
    assert "available: " in done.stderr


def test_the_portable_path_is_always_there() -> None:
    assert sf.available_isas()[-1] == "portable"


def test_switching_inside_a_process(isa: str) -> None:
    assert sf.build_info()["isa"] == isa


def test_a_failed_switch_keeps_the_old_one() -> None:
    before = _core.testing.isa()
    with pytest.raises(ValueError, match="'mmx'"):
        _core.testing.select_isa("mmx")
    assert _core.testing.isa() == before


def test_build_info() -> None:
    info = sf.build_info()
    assert info["version"] == sf.__version__
    assert set(info) >= {"isa", "isas", "compiler", "build_type", "openmp", "cuda", "threads"}
