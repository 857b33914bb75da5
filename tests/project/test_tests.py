"""The tests' own house: what several files need stands where all may import it from."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests import ROOT


def findings(folder: Path) -> list[str]:
    """Imports from files of tests, and folders that could be taken for packages."""
    found = []
    for file in sorted(folder.rglob("*.py")):
        here = file.relative_to(folder).as_posix()
        if file.name == "__init__.py" and file.parent != folder:
            found.append(f"{here}: makes a package of a folder")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            tests = [n for n in names if any(part.startswith("test_") for part in n.split("."))]
            found += [f"{here}: imports {name}" for name in tests]
    return found


def test_no_test_is_imported() -> None:
    assert len(list((ROOT / "tests").rglob("test_*.py"))) > 50, "the tests were not found"
    assert findings(ROOT / "tests") == []


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ("from tests.dense.test_step import RULES", "imports tests.dense.test_step.RULES"),
        ("from tests.dense import test_step", "imports tests.dense.test_step"),
        ("def f():\n    import tests.dense.test_step", "imports tests.dense.test_step"),
        ("from test_step import RULES", "imports test_step.RULES"),
        ("from tests.cases import RULES", None),
        ("from numpy.testing import assert_array_equal", None),
    ],
)
def test_an_import_of_a_test_is_found(tmp_path: Path, line: str, finding: str | None) -> None:
    (tmp_path / "dense").mkdir()
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "dense" / "test_l1.py").write_text(line + "\n")
    assert findings(tmp_path) == ([f"dense/test_l1.py: {finding}"] if finding else [])


def test_a_package_is_found(tmp_path: Path) -> None:
    (tmp_path / "select").mkdir()
    (tmp_path / "select" / "__init__.py").write_text("")
    assert findings(tmp_path) == ["select/__init__.py: makes a package of a folder"]
