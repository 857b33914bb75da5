"""tools/cuda_mutants.py takes many minutes. That its faults can still be put in is seen here."""

from __future__ import annotations

import sys

from tests import ROOT
from tests.cuda.sessions import INNER

sys.path.insert(0, str(ROOT / "tools"))
import cuda_mutants
from mutants import Mutant, dense


def misplaced(mutants: list[Mutant]) -> list[str]:
    """Names of those whose place in the sources is gone, and of those that change nothing."""
    return [
        m.name
        for m in mutants
        if m.right == m.wrong or m.right not in (ROOT / "csrc" / m.file).read_text("utf-8")
    ]


def test_every_fault_has_its_place() -> None:
    for kernel in cuda_mutants.KERNELS:
        assert misplaced(kernel.MUTANTS) == []
        assert all((INNER / name).is_file() for name in kernel.TESTS)
    names = [m.name for kernel in cuda_mutants.KERNELS for m in kernel.MUTANTS]
    assert len({*names}) == len(names) > 20


def test_every_list_is_run() -> None:
    files = {f.stem for f in (ROOT / "tools" / "mutants").glob("*.py")} - {"__init__"}
    assert {kernel.__name__.rpartition(".")[2] for kernel in cuda_mutants.KERNELS} == files


def test_a_fault_without_a_place_is_found() -> None:
    gone = Mutant("gone", dense.DENSE, "no such line", "")
    idle = Mutant("idle", dense.DENSE, "__syncthreads", "__syncthreads")
    assert misplaced([gone, idle, *dense.MUTANTS]) == ["gone", "idle"]
