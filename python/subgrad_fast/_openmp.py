"""The OpenMP runtime where the system has none: wheels leave it to the system, or to torch's."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from pathlib import Path

_RUNTIME = "libgomp.so.1"


def load_core() -> None:
    """Imports `_core`, if need be with the runtime that torch's wheels bring along.

    A second runtime beside torch's would have threads and a setting of its own, so wheels contain
    none. The loader takes one library of this name for everybody, whoever is imported first.
    """
    try:
        importlib.import_module("subgrad_fast._core")
    except ImportError as error:
        if _RUNTIME not in str(error):
            raise
        torchs = _torchs_runtime()
        if torchs is None:
            raise ImportError(
                f"subgrad_fast needs {_RUNTIME}, which this system does not have: apt install "
                "libgomp1, or dnf install libgomp; or install torch, whose wheels bring it"
            ) from error
        ctypes.CDLL(str(torchs))
        importlib.import_module("subgrad_fast._core")


def _torchs_runtime() -> Path | None:
    """The file in torch's package, which is looked for and not imported."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / "lib" / _RUNTIME
    return file if file.is_file() else None
