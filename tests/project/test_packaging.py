"""What is said of the package in several places is the same, and what a release needs is there."""

from __future__ import annotations

import re
import sys

import pytest

from tests import ROOT


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


VERSION = re.findall(r'^version = "(.*?)"', text_of("pyproject.toml"), re.MULTILINE)


def test_the_version_is_one() -> None:
    assert len(VERSION) == 1
    assert re.findall(r"^version: (.*)$", text_of("CITATION.cff"), re.MULTILINE) == VERSION
    recipe = text_of("conda-recipe/recipe.yaml")
    assert re.findall(r'^  version: "(.*)"$', recipe, re.MULTILINE) == VERSION


@pytest.mark.parametrize(("hook", "package"), [("ruff-pre-commit", "ruff"), ("clang-format",) * 2])
def test_the_hooks_have_the_versions_of_make_lint(hook: str, package: str) -> None:
    pinned = re.findall(rf"^{package}==(.*)$", text_of("requirements/constraints.txt"), re.M)
    hooked = re.findall(rf"{hook}\n    rev: v(.*)$", text_of(".pre-commit-config.yaml"), re.M)
    assert hooked == pinned != []


@pytest.mark.skipif(sys.version_info < (3, 11), reason="reads TOML")
def test_wheels_are_made_for_every_python() -> None:
    import tomllib

    project = tomllib.loads(text_of("pyproject.toml"))
    named = [c.rpartition(" ")[2] for c in project["project"]["classifiers"]]
    pythons = {f"cp{name.replace('.', '')}-*" for name in named if re.fullmatch(r"3\.\d+", name)}
    wheels = project["tool"]["cibuildwheel"]
    assert {*wheels["build"]} == pythons | {"cp314t-*"}
    assert "--exclude libgomp.so.1" in wheels["linux"]["repair-wheel-command"]
    assert set(project["project"]["urls"]) >= {"Homepage", "Documentation", "Issues", "Changelog"}
    libraries = {"matplotlib", "mlxtend", "torch"}
    extra = project["project"]["optional-dependencies"]["examples"]
    assert {re.split("[>=]", one)[0] for one in extra} == libraries


@pytest.mark.skipif(not (ROOT / ".github").is_dir(), reason="the sdist is without .github")
@pytest.mark.parametrize("name", ["bug", "slow"])
def test_reports_ask_for_what_is_installed(name: str) -> None:
    assert "subgrad-fast info" in text_of(f".github/ISSUE_TEMPLATE/{name}.yml")
