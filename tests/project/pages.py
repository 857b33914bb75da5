"""The Python blocks of README and docs/, and what they print.

A block runs by itself, as if it were copied into a file, and prints what stands behind its calls of
``print``: ``print(1 + 1)  # 2``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import traceback
from pathlib import Path

from tests import ROOT

DOCS = ROOT / "docs"

FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"^\s*print\(.*\)  # (.*)$", re.MULTILINE)


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [code for tag, code in FENCED.findall(page) if tag == language]


def python_blocks(*pages: Path) -> list[tuple[str, str]]:
    """All Python blocks of pages, each with the name that its test goes by."""
    return [
        (f"{page.relative_to(ROOT).with_suffix('')}-{i}", code)
        for page in pages
        for i, code in enumerate(blocks(page.read_text(encoding="utf-8"), "python"))
    ]


def missing_library(code: str, *libraries: str) -> str | None:
    """The first of the libraries that a block imports and that is not installed."""
    imported = set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE))
    missing = (name for name in libraries if importlib.util.find_spec(name) is None)
    return next((name for name in missing if name in imported), None)


def difference(printed: str, code: str) -> str | None:
    """What a block has printed and should not have, or the other way round."""
    found, promised = printed.splitlines(), PRINTED.findall(code)
    return None if found == promised else f"printed {found}, the comments say {promised}"


def what_is_wrong(code: str) -> str | None:
    """Run a block in this process: the error, or what it prints and should not."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(code, "<block>", "exec"), {"__name__": "__main__"})
        except Exception:
            return traceback.format_exc()
    return difference(printed.getvalue(), code)
