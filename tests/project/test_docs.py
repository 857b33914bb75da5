"""The pages of docs/: their blocks run and print what they say, and the reference has every name.

Pages under docs/with need other libraries, and run in tests/clients/test_docs.py.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import subgrad_fast as sf
from tests.project.pages import DOCS, blocks, missing_library, python_blocks, what_is_wrong

PAGES = sorted(page for page in DOCS.rglob("*.md") if page.parent.name != "with")
PARTS = DOCS / "exchange.md"
"""Whose blocks are the parts of one program."""


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """What a block may change for the whole process is put back."""
    threads = None
    if importlib.util.find_spec("torch") is not None:
        torch = importlib.import_module("torch")
        threads, state = torch.get_num_threads(), torch.get_rng_state()
    yield
    sf.set_num_threads(None)
    if threads is not None:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)


def has_cuda() -> bool:
    return importlib.import_module("torch").cuda.is_available()


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code, id=name)
        for name, code in python_blocks(*(page for page in PAGES if page != PARTS))
    ],
)
def test_a_block_runs_as_it_stands(code: str) -> None:
    missing = missing_library(code, "torch")
    if missing:
        pytest.skip(f"needs {missing}")
    if '"cuda"' in code and not has_cuda():
        pytest.skip("needs a GPU")
    assert what_is_wrong(code) is None


@pytest.mark.torch
def test_the_parts_of_a_program_run_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one rank, between what a program that exchanges gradients has before and after them."""
    torch = pytest.importorskip("torch")
    net = torch.nn.Linear(10, 2)
    names = {"torch": torch, "net": net, "rank": 0, "old_world_size": 1}
    names["DistributedDataParallel"] = torch.nn.parallel.DistributedDataParallel
    names["optimizer"] = torch.optim.SGD(net.parameters(), lr=0.1)
    names["mean_state"] = importlib.import_module("subgrad_fast.distributed").mean_state
    first, *others = blocks(PARTS.read_text(encoding="utf-8"), "python")
    monkeypatch.chdir(tmp_path)
    if sys.platform == "linux":
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    group = torch.distributed
    group.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        exec(first, names)
        names["loss"] = names["model"](torch.ones(3, 10)).square().sum()
        before = net.weight.detach().clone()
        for code in others:
            exec(code, names)
    finally:
        group.destroy_process_group()
    assert not torch.equal(net.weight, before)
    assert (tmp_path / "hook0.pt").is_file()


# --- The reference ------------------------------------------------------------------------------

ENTRY = re.compile(r"^::: (\S+)$", re.MULTILINE)
SAID_IN_WORDS = {"subgrad_fast.__version__"}


def documented() -> set[str]:
    """The names that have an entry."""
    pages = (DOCS / "reference").glob("*.md")
    return {name for page in pages for name in ENTRY.findall(page.read_text(encoding="utf-8"))}


def public_names(module: ModuleType) -> set[str]:
    """What a module offers, by its whole name."""
    return {f"{module.__name__}.{name}" for name in module.__all__}


def test_the_reference_has_every_public_name_of_arrays() -> None:
    assert public_names(sf) - SAID_IN_WORDS <= documented()
    assert "subgrad_fast.sampling.Sampler" in documented()


@pytest.mark.torch
@pytest.mark.parametrize("name", ["bench", "data", "distributed", "optim"])
def test_the_reference_has_every_public_name_of_its_modules(name: str) -> None:
    module = importlib.import_module(f"subgrad_fast.{name}")
    assert public_names(module) <= documented()


@pytest.mark.torch
def test_the_reference_has_no_other_names() -> None:
    for name in documented():
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_the_overview_of_the_reference_names_them_all() -> None:
    overview = (DOCS / "reference/index.md").read_text(encoding="utf-8")
    for name in documented():
        assert f"{name.removeprefix('subgrad_fast.')}`" in overview, name


def test_a_missing_name_is_found() -> None:
    module = ModuleType("subgrad_fast")
    module.__all__ = ["sgd_step", "sgd_leap"]  # type: ignore[attr-defined]
    assert public_names(module) - documented() == {"subgrad_fast.sgd_leap"}


# --- The site -----------------------------------------------------------------------------------


def test_the_site_leads_to_every_page() -> None:
    site = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"[\w/]+\.md", site))
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert pages <= listed, "a new page wants a line in mkdocs.yml's nav"
