"""What `compare` returns: exact figures of made-up times, and each way to show them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from subgrad_fast.bench.circumstances import circumstances
from subgrad_fast.bench.training_report import Report, summarize


def step(factor: int = 1, **parts: int) -> dict[str, int]:
    """What the parts of one iteration took, in nanoseconds."""
    usual = {"data": 10, "forward": 1000, "backward": 2000, "step": 400, "zero_grad": 90}
    return {part: factor * ns for part, ns in {**usual, **parts}.items()}


def report(**kwargs: Any) -> Report:
    """Four rounds of three steps; ours takes 100 ns for its step, and the last round is slow."""
    theirs = [[step(), step(), step(3)]] * 3 + [[step(2)] * 3]
    ours = [[step(step=100)] * 3] * 3 + [[step(4, step=100)] * 3]
    weights = {
        "same_batches": True,
        "same_bits": True,
        "largest_difference": 0.0,
        "promised": True,
        **kwargs,
    }
    facts = {"model": "Net: 2 parameters", "batch": "float32[4]", "seed": 0, "threads": 1}
    return summarize(
        {**facts, **circumstances()},
        {"torch": theirs, "<ours>": ours},
        losses={"torch": 0.5, "<ours>": float("nan")},
        optimizers={"torch": "torch.optim.SGD", "<ours>": "ours.SGD"},
        agreements={"<ours>": weights},
        failed={"third": "RuntimeError: no"},
    )


def test_the_figures_are_medians_minima_and_ratios() -> None:
    figures = report().figures
    theirs, ours = figures["contenders"].values()
    assert theirs["parts"]["step"] == {"median_ns": 600.0, "min_ns": 400}
    assert ours["parts"]["step"] == {"median_ns": 100.0, "min_ns": 100}
    assert ours["between"] == {"median_ns": 200.0, "min_ns": 200}
    assert ours["total"] == {"median_ns": 3200.0, "min_ns": 3200}
    assert ours["faster"]["between"]["times_faster"] == 750 / 200
    # By rounds: three of 500 / 200, the last of 1000 / 800.
    assert ours["faster"]["between"]["quartiles_paired"] == [(1.25 + 3 * 2.5) / 4, 2.5]
    assert theirs["faster"]["total"]["times_faster"] == 1
    assert ours["loss"] == "nan"
    assert report().times_faster("<ours>", "between") == 3.75


def test_the_table_has_a_line_for_each_part_and_says_who_is_slower() -> None:
    lines = {line[0]: line[1:] for line in report().table()}
    assert lines[""] == ["torch", "<ours>"]
    assert lines["step"] == ["600 ns", "100 ns"]
    assert lines["times faster, beside forward and backward"] == ["", "3.75 (2.19 to 2.50)"]
    assert lines["weights"] == ["", "same bits"]
    assert "clip" not in lines
    slower = report()
    slower.figures["contenders"]["<ours>"]["faster"]["total"]["times_faster"] = 0.5
    assert "0.500 (" in slower.table()[-2][2]
    assert slower.table()[-2][2].endswith(", slower")


@pytest.mark.parametrize(
    ("weights", "cell"),
    [
        ({"same_bits": False, "largest_difference": 1e-7}, "DIFFER, 1.0e-07 of the largest"),
        (
            {"same_bits": False, "largest_difference": 1e-7, "promised": False},
            "within 1.0e-07 of the largest",
        ),
        ({"same_batches": False}, "other batches"),
    ],
)
def test_what_is_said_of_the_weights(weights: dict[str, Any], cell: str) -> None:
    made = report(**weights)
    assert made.table()[-1] == ["weights", "", cell]
    assert made.agree is ("DIFFER" not in cell)


def test_json_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    made = report()
    text = made.to_json(path)
    assert path.read_text() == text
    assert json.loads(text)["kind"] == "training"
    again = Report.from_json(path)
    assert str(again) == str(made)
    assert repr(again) == "<Report of torch, <ours>: Net: 2 parameters>"


def test_html_stands_by_itself_and_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    page = report().to_html(path)
    assert path.read_text() == page
    assert page.startswith("<!doctype html>")
    assert "&lt;ours&gt;" in page
    assert "<ours>" not in page
    assert "http" not in page
    assert report()._repr_html_() in page
    # The longest bar fills the line.
    assert sum(float(w) for w in _widths(page)[:5]) == pytest.approx(100, abs=0.01)


def _widths(page: str) -> list[str]:
    return [piece.partition("%")[0] for piece in page.split("width:")[1:] if "%" in piece[:9]]


def test_the_plot_stacks_the_parts() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    ax = report().plot()
    assert ax.get_xlabel() == "milliseconds an iteration (medians)"
    assert [bars.get_label() for bars in ax.containers] == report().parts
    ours = [bars.patches[1] for bars in ax.containers]
    ends = [round((bar.get_x() + bar.get_width()) * 1e6) for bar in ours]
    assert ends == [10, 1010, 3010, 3110, 3200]
    assert report().plot(ax) is ax
    matplotlib.pyplot.close("all")


def test_without_matplotlib_the_plot_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="plot: needs matplotlib: pip install matplotlib"):
        report().plot()


def test_what_is_no_report_is_refused() -> None:
    for wrong in (3, {}, {"kind": "rows"}):
        with pytest.raises(ValueError, match=r"^figures: expected those of a report"):
            Report(wrong)
    with pytest.raises(ValueError, match=r"^name: there is no contender 'a'"):
        report().times_faster("a")
    with pytest.raises(ValueError, match=r"^what: expected 'total' or 'between', got 'step'"):
        report().times_faster("torch", "step")


def loaded_by(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    return {name.partition(".")[0] for name in ran.stdout.split()}


def test_the_report_needs_neither_torch_nor_matplotlib() -> None:
    loaded = loaded_by("import subgrad_fast as sf\nsf.bench.Report")
    assert "subgrad_fast" in loaded
    assert not loaded & {"torch", "matplotlib", "rich"}
