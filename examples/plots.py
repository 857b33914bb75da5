"""What the examples draw with: matplotlib, or a word on how to get it, before all else."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

try:
    from matplotlib.figure import Figure
except ModuleNotFoundError:
    sys.exit(
        "The examples draw their results with matplotlib, which is not installed:\n"
        "    pip install 'subgrad_fast[examples]'    # or: pip install matplotlib mlxtend"
    )


def new_figure(width: float = 6, height: float = 4) -> Any:
    """An empty figure, in inches, whose parts make room for each other."""
    return Figure(figsize=(width, height), layout="constrained")


def parser_of(text: str | None, plot: str) -> argparse.ArgumentParser:
    """The parser of a program with this text, with the option where its plot goes."""
    parser = argparse.ArgumentParser(description=(text or "").partition("\n")[0])
    parser.add_argument("--plot", type=Path, default=Path(plot), help="where the plot goes")
    return parser


def save(figure: Any, path: Path, what: str) -> None:
    """Write a plot, and say where it is."""
    figure.savefig(path, dpi=120)
    print(f"\n{what}: {path}")
