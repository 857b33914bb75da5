"""What figures depend on: the machine, the build, the versions."""

from __future__ import annotations

import importlib
import platform
from typing import Any

import numpy as np

from subgrad_fast import _core, runtime
from subgrad_fast.bench.harness import machine


def has_torch() -> bool:
    """Whether torch can be imported."""
    try:
        importlib.import_module("torch")
    except (ImportError, OSError):
        return False
    return True


def circumstances(device: str | None = None) -> dict[str, Any]:
    """Return all that figures depend on. Without torch there is no version of it."""
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    if has_torch():
        versions["torch"] = str(importlib.import_module("torch").__version__)
    versions["subgrad_fast"] = _core.__version__
    where = {**machine(), "device": device}
    return {"machine": where, "build": dict(runtime.build_info()), "versions": versions}
