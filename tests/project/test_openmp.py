"""One OpenMP runtime in a process, whoever is imported first; and a word where there is none."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from subgrad_fast import _openmp
from tests import ROOT

MISSING = "libgomp.so.1: cannot open shared object file: No such file or directory"


@pytest.mark.torch
@pytest.mark.parametrize("order", [("subgrad_fast", "torch"), ("torch", "subgrad_fast")])
def test_torchs_setting_counts_in_either_order(order: tuple[str, str]) -> None:
    pytest.importorskip("torch")
    command = [sys.executable, str(ROOT / "tools" / "smoke.py"), *order]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "1 threads" in ran.stdout


class Loader:
    """Stands in for the import of `_core`: it fails until a runtime has been loaded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, message: str = MISSING) -> None:
        self.message, self.loaded, self.tries = message, [], 0
        monkeypatch.setattr(_openmp.importlib, "import_module", self.import_module)
        monkeypatch.setattr(_openmp.ctypes, "CDLL", self.loaded.append)

    def import_module(self, _: str) -> Any:
        self.tries += 1
        if not self.loaded:
            raise ImportError(self.message)
        return importlib


def torch_at(monkeypatch: pytest.MonkeyPatch, folder: Path | None) -> None:
    spec = None if folder is None else SimpleNamespace(origin=str(folder / "__init__.py"))
    monkeypatch.setattr(_openmp.importlib.util, "find_spec", lambda _: spec)


def test_torchs_runtime_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runtime = tmp_path / "lib" / "libgomp.so.1"
    runtime.parent.mkdir()
    runtime.touch()
    torch_at(monkeypatch, tmp_path)
    loader = Loader(monkeypatch)
    _openmp.load_core()
    assert loader.loaded == [str(runtime)]
    assert loader.tries == 2


@pytest.mark.parametrize("torch_is_there", [True, False])
def test_what_to_install_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, torch_is_there: bool
) -> None:
    torch_at(monkeypatch, tmp_path if torch_is_there else None)  # without the library
    Loader(monkeypatch)
    with pytest.raises(ImportError, match=r"needs libgomp\.so\.1, .* apt install libgomp1"):
        _openmp.load_core()


def test_other_errors_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader(monkeypatch, "undefined symbol: sgd_leap")
    with pytest.raises(ImportError, match="undefined symbol: sgd_leap"):
        _openmp.load_core()
    assert loader.tries == 1
