"""The tests, a folder a subject, and what they share.

Helpers are imported by their whole names (`from tests.oracles.dense import sgd`), so that a folder
may have the name of a module of Python's, as `select` has. This file makes `tests` a package: no
other one of that name on the path comes before it.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
