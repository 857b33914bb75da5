"""The count of instructions: what is compared, and when nothing is. `make instructions` counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from benchmarks.instructions import __main__ as instructions  # noqa: E402


def test_one_call_is_the_difference_of_two_totals_without_what_nothing_costs() -> None:
    few, many = 4, 12
    totals = {
        f"nothing|{few}": 1000 + 10 * few,
        f"nothing|{many}": 1000 + 10 * many,
        f"step|{few}": 7000 + 510 * few,
        f"step|{many}": 7000 + 510 * many,
    }
    assert instructions.per_call(totals) == {"step": 500}


def test_totals_are_read_from_the_dumps(tmp_path: Path) -> None:
    (tmp_path / "dump").write_text("desc: Trigger: Program termination\nsummary: 9\n")
    (tmp_path / "dump.1").write_text(
        "desc: Trigger: Client Request: a b|4\nevents: Ir\nsummary: 0\ntotals: 123\n"
    )
    (tmp_path / "dump.2").write_text("desc: Trigger: Client Request: a b|12\ntotals: 456\n")
    assert instructions.totals_in(tmp_path) == {"a b|4": 123, "a b|12": 456}


@pytest.mark.parametrize(
    ("now", "holds"), [(1000, True), (1030, True), (970, True), (1031, False), (969, False)]
)
def test_three_percent_more_or_less_are_found(now: int, holds: bool) -> None:
    ((text, held),) = instructions.compared({"step": 1000}, {"step": now})
    assert held is holds
    assert ("more than 3% apart" in text) is not holds


def test_a_call_of_one_side_alone_is_found() -> None:
    lines = instructions.compared({"old": 1}, {"new": 1})
    assert lines == [("old: not counted", False), ("new: not kept", False)]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Figures of this machine, which are compared with what is counted: 1000."""
    here = {"python": "3"}
    monkeypatch.setattr(instructions, "KEPT", tmp_path / "counts.json")
    monkeypatch.setattr(instructions, "missing", lambda: None)
    monkeypatch.setattr(instructions, "circumstances", lambda: here)
    monkeypatch.setattr(instructions, "counted", lambda: {"step": 1000})
    assert instructions.main(["--write"]) == 0
    return tmp_path / "counts.json"


def test_what_was_kept_is_compared(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert instructions.main([]) == 0
    assert "step: 1,000 instructions, kept 1,000 (+0.0%)" in capsys.readouterr().out
    monkeypatch.setattr(instructions, "counted", lambda: {"step": 1100})
    assert instructions.main([]) == 1
    assert "(+10.0%), more than 3% apart" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("missing", lambda: "there is no valgrind", "SKIPPED, there is no valgrind"),
        ("circumstances", lambda: {"python": "4"}, "SKIPPED, the figures that are kept are of oth"),
    ],
)
def test_where_nothing_can_be_compared_a_line_says_so(
    name: str, value: Any, said: str, kept: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def not_to_be_called() -> None:
        raise AssertionError

    monkeypatch.setattr(instructions, "counted", not_to_be_called)
    monkeypatch.setattr(instructions, name, value)
    assert instructions.main([]) == 0
    assert said in capsys.readouterr().out


def test_the_figures_that_are_kept_say_of_what_they_are() -> None:
    kept = json.loads((ROOT / "benchmarks/instructions/counts.json").read_text())
    assert set(kept) == {"circumstances", "instructions"}
    assert len(kept["instructions"]) == 4
    assert min(kept["instructions"].values()) > 0
    assert {"isa", "compiler", "python", "torch", "valgrind"} <= set(kept["circumstances"])
    assert kept["circumstances"]["isa"] != "avx512"
