"""Everything that a reader can copy from README.md does what it says.

Every Python block runs by itself, in a process of its own, and prints what its comments say. Every
checker is also run on a bad example, in which it must find something.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.project.pages import blocks, difference, python_blocks

README = ROOT / "README.md"
CHINESE = ROOT / "README.zh-CN.md"
MOST_LINES = 120

LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")


def what_is_wrong(code: str) -> str | None:
    """Run a block in a fresh interpreter: the error, or what it prints and should not."""
    command = [sys.executable, "-W", "error", "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        return ran.stderr
    return difference(ran.stdout, code)


@pytest.mark.parametrize("code", [pytest.param(c, id=name) for name, c in python_blocks(README)])
def test_a_python_block_runs_as_it_stands(code: str) -> None:
    if "torch" in code and importlib.util.find_spec("torch") is None:
        pytest.skip("needs PyTorch")
    assert what_is_wrong(code) is None


def test_readme_has_its_python_blocks() -> None:
    found = blocks(README.read_text(encoding="utf-8"), "python")
    for name in ("FusedSGD", "optim import SGD", "BatchLoader", "ThresholdSGD"):
        assert any(name in code for code in found), name


@pytest.mark.parametrize(
    ("code", "finding"),
    [
        ("import subgrad_fast as sf\nsf.sparse_step\n", "AttributeError"),
        ("print(x)\n", "NameError"),
        ("print(1 + 1)  # 3\n", "printed ['2'], the comments say ['3']"),
        ("print(1 + 1)\n", "printed ['2'], the comments say []"),
        ("import warnings\nwarnings.warn('old')\n", "UserWarning: old"),
    ],
)
def test_a_bad_block_is_found(code: str, finding: str) -> None:
    (found,) = blocks(f"Text.\n\n```python\n{code}```\n", "python")
    assert found == code
    assert finding in (what_is_wrong(code) or "")


# --- Its translation ----------------------------------------------------------------------------


def what_differs(page: str, translation: str) -> list[str]:
    """What a translation must have as it stands in the page, and has not."""
    everything = re.compile(
        r"^```\w+\n.*?^```$|\]\([^)]+\)|\d[\d.]* [µm]s", re.MULTILINE | re.DOTALL
    )
    there = everything.findall(translation)
    return [piece for piece in everything.findall(page) if piece not in there]


def test_the_translation_has_all_blocks_links_and_figures() -> None:
    chinese = CHINESE.read_text(encoding="utf-8")
    assert what_differs(README.read_text(encoding="utf-8"), chinese) == ["](README.zh-CN.md)"]
    assert broken_links(chinese, ROOT) == []


def test_what_a_translation_lacks_is_found() -> None:
    page = "[a](b.md) 12.5 ms\n\n```sh\nmake demo\n```\n"
    assert what_differs(page, page) == []
    assert what_differs(page, "[a](c.md) 12.4 ms\n```sh\nmake tea\n```\n") == [
        "](b.md)",
        "12.5 ms",
        "```sh\nmake demo\n```",
    ]


# --- Commands -----------------------------------------------------------------------------------


def make_targets() -> set[str]:
    """What the Makefile declares."""
    (line,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return set(line.split())


def unknown_targets(page: str) -> set[str]:
    """The targets that a page tells to make and the Makefile has not."""
    named = re.findall(r"(?:^|`)make ([\w-]+)", page, re.MULTILINE)
    return set(named) - make_targets()


def test_the_make_targets_exist() -> None:
    page = README.read_text(encoding="utf-8")
    assert "make demo" in page
    assert "make test" in page
    assert unknown_targets(page) == set()


def test_an_unknown_make_target_is_found() -> None:
    page = "```sh\nmake demo\nmake coffee  # first\n```\nThen `make tea`.\n"
    assert unknown_targets(page) == {"coffee", "tea"}


# --- Links and length ---------------------------------------------------------------------------


def anchors(page: str) -> set[str]:
    """The names by which GitHub links to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: str, folder: Path) -> list[str]:
    """The links to files and headings that are not there."""
    broken = []
    for path, anchor in LINK.findall(page):
        target = folder / path
        if not target.is_file() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(f"{path}#{anchor}" if anchor else path)
    return broken


@pytest.mark.parametrize(
    "page", [README, *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.stem
)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page.read_text(encoding="utf-8"), page.parent) == []


def test_a_broken_link_is_found() -> None:
    page = "[a](docs/dense.md) [b](docs/gone.md) [c](docs/dense.md#limits) [d](docs/dense.md#gone)"
    assert broken_links(page, ROOT) == ["docs/gone.md", "docs/dense.md#gone"]


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
