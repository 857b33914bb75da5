"""The subjects that can be timed: the standard rows anywhere, all others from a checkout."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from subgrad_fast.bench.harness import Subject

STANDARD = "standard"


def checkout() -> Path | None:
    """Return the checkout whose `benchmarks/` can be run: the one we stand in, or are called in."""
    for root in (Path(__file__).resolve().parents[3], Path.cwd()):
        if (root / "benchmarks" / "page.py").is_file() and (root / "python/subgrad_fast").is_dir():
            return root
    return None


def names() -> tuple[str, ...]:
    """The subjects, in the order in which they are run. The first is `STANDARD`."""
    root = checkout()
    if root is None:
        return (STANDARD,)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    subjects: tuple[str, ...] = importlib.import_module("benchmarks").SUBJECTS
    return (STANDARD, *subjects)


def subject_of(name: str, threads: int) -> Subject:
    """Build the rows of a subject."""
    place = "subgrad_fast.bench.standard" if name == STANDARD else f"benchmarks.{name}.rows"
    subject: Subject = importlib.import_module(place).subject(threads)
    return subject
