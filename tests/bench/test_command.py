"""`subgrad-fast bench`: what is measured, kept and shown, and how it ends."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import subgrad_fast as sf
from subgrad_fast.bench import (
    against,
    circumstances,
    harness,
    own_model,
    progress,
    reading,
    run,
    standard,
    subjects,
    web,
)
from tests import ROOT

TINY = {"SMALL": [(3,), (2, 2)], "ROWS": 256, "WIDTH": 4}


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    yield
    sf.set_num_threads(None)


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has no torch, as far as the harness can see."""
    for module in (circumstances, run, standard):
        monkeypatch.setattr(module, "has_torch", lambda: False)


@pytest.fixture
def without_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package in another place, called in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subjects, "__file__", str(tmp_path / "a/b/c/d/subjects.py"))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard rows that take no time."""
    for name, value in TINY.items():
        monkeypatch.setattr(standard, name, value)
    whole = standard.subject

    def small(threads: int) -> harness.Subject:
        subject = whole(threads)
        names = {"numpy-small", "batches", "draws", "torch-small", "torch-batches"}
        return harness.Subject(
            rows=[row for row in subject.rows if row.name in names], reference=subject.reference
        )

    monkeypatch.setattr(standard, "subject", small)


def test_without_a_checkout_the_standard_rows_are_measured(
    without_checkout: None, tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(["--quick", "--json", "a.json", "--html", "a.html"]) == 0
    result = json.loads((tmp_path / "a.json").read_text())
    names = [row["name"] for row in result["rows"]]
    assert names[:3] == ["numpy-small", "batches", "draws"]
    assert result["subject"] == "standard"
    printed = capsys.readouterr()
    assert "| `FusedSGD`: 160 small arrays" in printed.out
    assert "standard draws@" in printed.err
    assert " left) ..." in printed.err
    page = (tmp_path / "a.html").read_text()
    assert "<code>FusedSGD</code>: 160 small arrays" in page
    assert "<b>A quick run: too few rounds to quote.</b>" in page


def test_torch_is_not_needed(
    without_checkout: None, without_torch: None, tiny: None, tmp_path: Path
) -> None:
    assert run.main(["--quick", "--json", "a.json", "--threads", "1"]) == 0
    result = json.loads((tmp_path / "a.json").read_text())
    assert [row["name"] for row in result["rows"]] == ["numpy-small", "batches", "draws"]
    assert {row["threads"] for row in result["rows"]} == {1}
    assert "torch" not in result["versions"]


@pytest.mark.torch
def test_the_standard_rows_do_torchs_work(tiny: None, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    assert run.main(["standard", "--quick", "--rows", "torch-small"]) == 0
    assert "is the same, bit for bit, in all 1 rows" in capsys.readouterr().out


def test_every_contender_of_a_standard_row_does_the_same_work() -> None:
    shapes = [(37,), (5, 3)]
    numpys, ours = standard.steps(shapes)
    for _ in range(5):
        numpys.step()
        ours.step()
    indices, values = standard.top(1000, 10)[0].step()  # type: ignore[misc]
    kept = standard.top(1000, 10)[1].step()
    assert sorted(indices) == sorted(kept.indices)  # type: ignore[attr-defined]
    assert sorted(values) == sorted(kept.values)  # type: ignore[attr-defined]


def test_the_list_has_all_rows(
    without_checkout: None, capsys: pytest.CaptureFixture[str], without_torch: None
) -> None:
    assert run.main(["--list", "--threads", "1"]) == 0
    words = ["numpy-small", "numpy-large", "top", "batches", "draws"]
    assert capsys.readouterr().out.split("\n") == [*(f"standard {w}@1" for w in words), ""]


def test_a_checkout_has_the_whole_set() -> None:
    assert subjects.checkout() == ROOT
    assert subjects.names()[:2] == ("standard", "dense")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope"], "there is no subject 'nope'; there are standard; the others need a checkout"),
        (["--rows", "nope"], "no row has such a name; --list prints them"),
        (["--against", "nope.json"], "--against nope.json: there is no such file"),
        (["--show", "nope.json"], "nope.json"),
        (["--threads", "0"], "must be at least 1, not 0"),
        (["--batch", "3x4"], "--batch and --loss belong to a --model"),
        (["standard", "--show", "a.json"], "subjects, --model and --show are three different"),
    ],
)
def test_a_wrong_word_is_refused(
    arguments: list[str], said: str, without_checkout: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _status(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err


def _status(arguments: list[str]) -> int:
    try:
        return run.main(arguments)
    except SystemExit as error:  # argparse's
        return int(error.code or 0)


def test_an_interruption_ends_as_in_a_shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "everything", interrupted)
    assert run.main(["standard"]) == 130
    assert "interrupted" in capsys.readouterr().err


# --- Results side by side -------------------------------------------------------------------------


def result(ours_ns: float, ratio: float, **kwargs: Any) -> dict[str, Any]:
    """Of one row, as a result file has it."""
    comparison = {"peer": "`torch`", "ratio_of_medians": ratio, "target": None, "met": None}
    row = {
        "name": "a",
        "title": "work",
        "threads": 1,
        "times": {"ours": {"median_ns": ours_ns}, "`torch`": {"median_ns": ours_ns / ratio}},
        "comparisons": [{**comparison, "ratio_paired": ratio, "quartiles_paired": None}],
        "same_bits": None,
        "same_bits_as": "",
    }
    facts = {"subject": "dense", "quick": False, "only": None, **circumstances.circumstances()}
    return {**facts, "rows": [row], **kwargs}


def test_two_results_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    then, now = result(2e6, 0.5), result(1e6, 0.2)
    assert against.lines(then, now)[1:] == [
        ["a@1", "time of ours", "2.00 ms", "1.00 ms", "2.00"],
        ["", "times faster than `torch`", "2.00", "5.00", "2.50"],
    ]
    for name, each in (("then", then), ("now", now)):
        run.keep(each, tmp_path / f"{name}.json")
    files = [str(tmp_path / "now.json"), "--against", str(tmp_path / "then.json")]
    assert run.main(["--show", *files]) == 0
    printed = capsys.readouterr().out
    assert "| a@1 | time of ours" in printed
    assert "- then: " not in printed  # the same place
    elsewhere = {**then, "versions": {"python": "2.7"}}
    assert "- then: " in against.side_by_side(elsewhere, now)


def test_what_has_nothing_in_common_is_refused(tmp_path: Path) -> None:
    other = result(1, 1)
    other["rows"][0]["name"] = "b"
    with pytest.raises(ValueError, match="the two have no row in common"):
        against.lines(result(1, 1), other)
    with pytest.raises(ValueError, match="these are figures of training, those of rows"):
        against.lines({"kind": "training"}, other)
    for text in ("{", "[]", "{}"):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ValueError, match=r"a\.json: (no JSON|neither figures)"):
            against.read(tmp_path / "a.json")


def test_bits_that_differ_are_another_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = result(1, 1)
    made["rows"][0]["same_bits"] = False
    made["rows"][0]["same_bits_as"] = "`torch`"
    run.keep(made, tmp_path / "a.json")
    assert run.main(["--show", str(tmp_path / "a.json")]) == 1
    assert "DIFFERS in its bits" in capsys.readouterr().out


# --- A model of one's own -------------------------------------------------------------------------

MODEL = """
import torch
def make_model():
    return torch.nn.Linear(6, 3)
def both():
    return torch.nn.Linear(6, 3), (torch.zeros(4, 6), torch.zeros(4, 3)), torch.nn.MSELoss()
def make_batch():
    return torch.zeros(5, 6), torch.zeros(5, 3)
loss = torch.nn.functional.mse_loss
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module in the current folder."""
    pytest.importorskip("torch")
    (tmp_path / "mine_to_time.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("mine_to_time", None)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("arguments", "batch"),
    [
        (["both"], "float32[4, 6], float32[4, 3]"),
        (["make_model", "--batch", "7x6"], "float32[7, 6]"),
        (
            ["make_model", "--batch", "mine_to_time:make_batch", "--loss", "mine_to_time:loss"],
            "float32[5, 6], float32[5, 3]",
        ),
        (["both", "--max-norm", "1"], "float32[4, 6], float32[4, 3]"),
    ],
)
def test_a_model_is_found_by_its_name(
    arguments: list[str], batch: str, mine: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *more = arguments
    command = ["--model", f"mine_to_time:{name}", *more, "--steps", "2", "--json", "a.json"]
    assert run.main([*command, "--html", "a.html"]) == 0
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures["batch"] == batch
    assert [*figures["contenders"]] == ["torch", "torch fused", "subgrad_fast"]
    assert "<!doctype html>" in (tmp_path / "a.html").read_text()
    capsys.readouterr()
    assert run.main(["--show", "a.json", "--against", "a.json"]) == 0
    assert "| an iteration " in capsys.readouterr().out


@pytest.mark.torch
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mine_to_time"], "--model mine_to_time: expected module:name"),
        (["mine_to_time:nope"], "--model mine_to_time:nope: mine_to_time has no nope"),
        (["no_such_module:f"], "--model no_such_module:f: No module named 'no_such_module'"),
        (["mine_to_time:make_model"], "returns no batch; give one by --batch"),
        (["mine_to_time:loss"], "bench: mse_loss() missing"),
        (["mine_to_time:both", "--batch", "3x"], "--batch 3x: expected module:name"),
    ],
)
def test_a_model_that_cannot_be_had_is_named(
    arguments: list[str], said: str, mine: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _status(["--model", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_without_torch_a_model_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert run.main(["--model", "a:b"]) == 2
    assert "bench: import of torch halted" in capsys.readouterr().err


# --- Progress and pages ---------------------------------------------------------------------------


def test_the_time_left_is_what_rows_have_still_to_take(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown(300) as shown:
        shown.begin("first")
        shown.at(240)
        shown.end("done")
        shown.begin("second")
        with shown.aside():
            shown.end("done")
    printed = capsys.readouterr().err
    assert printed == "first (about 5 min left) ... done\nsecond (about 60 s left) ... done\n"


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.shown(10) as shown:
        assert isinstance(shown, progress.Bar)
        shown.begin("row")
        shown.at(4)
        with shown.aside():
            shown.end("done")
        assert shown._progress.tasks[0].completed == 4


def test_the_budget_is_told_as_it_is_spent() -> None:
    told: list[float] = []
    contender = harness.Contender(harness.OURS, lambda: None)
    harness.measure([contender], block=1, budget_s=0.01, min_rounds=2, at=told.append)
    assert told == sorted(told)
    assert told[-1] == 1


def test_a_cells_marks_become_elements_and_all_else_is_escaped() -> None:
    assert web.text("**1 < 2** `a&b`") == "<b>1 &lt; 2</b> <code>a&amp;b</code>"
    assert web.text("a ` alone") == "a ` alone"


def test_a_name_of_a_function_may_have_dots() -> None:
    assert own_model.found("--loss", "pathlib:Path.cwd")() == Path.cwd()


def test_the_speed_of_reading_is_kept_with_rows_that_read(
    monkeypatch: pytest.MonkeyPatch, without_torch: None
) -> None:
    assert reading.read_gb_per_s(length=1000, times=2) > 0
    monkeypatch.setattr(run, "read_gb_per_s", lambda: 30.0)
    row = harness.Row(
        name="a",
        title="work",
        threads=1,
        build=lambda: [harness.Contender(n, lambda: None) for n in ("peer", harness.OURS)],
        targets=[harness.Target("peer")],
        budget_s=0,
        read_bytes=120,
    )
    options = argparse.Namespace(quick=False, rows=None)
    ((_, made),) = run.run([("dense", harness.Subject(rows=[row]))], options)
    assert made["machine"]["read_gb_per_s"] == {"1": 30.0}
    assert made["rows"][0]["times"]["ours"]["read_bytes"] == 120
