"""The harness: several ways of doing the same work, timed side by side in one process.

`compare` takes a model and batches of your own; ``subgrad-fast bench`` is the same from a command
line, and times the library's own rows. torch and matplotlib are imported where they are needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subgrad_fast.bench.training import compare as compare
    from subgrad_fast.bench.training_report import Report as Report

__all__ = ["Report", "compare"]

_PLACES = {"compare": "training", "Report": "training_report"}


def __getattr__(name: str) -> Any:
    """Imports what is asked for at the first use."""
    if name in _PLACES:
        return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
