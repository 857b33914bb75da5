"""The figures that readers see are those of the result files, and name the threads they are of.

docs/benchmarks.md, the tables in README and its translation, and the charts are made by
`python -m benchmarks.page`. A figure
that was edited by hand, or a result file that was replaced without making the page again, is found.
"""

from __future__ import annotations

import ast
import copy
import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def checkout() -> Any:
    """The checkout's benchmarks can be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        yield


@pytest.fixture
def page() -> Any:
    return importlib.import_module("benchmarks.page")


@pytest.fixture
def report() -> Any:
    return importlib.import_module("subgrad_fast.bench.report")


def test_the_pages_are_what_the_result_files_give(page: Any) -> None:
    for path, text in page.made(page.results(), ROOT).items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, "make bench-page"


def words(svg: str) -> list[str]:
    """The words of a chart, its figures among them."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_the_charts_are_what_the_result_files_give(page: Any) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    for path, svg in page.drawn(page.results()).items():
        kept = (ROOT / path).read_text(encoding="utf-8")
        assert words(kept) == words(svg), "make bench-page"
        if f"Matplotlib v{matplotlib.__version__}," in kept:
            assert kept == svg, "make bench-page"


def test_a_chart_shows_the_figures_of_the_table(page: Any, report: Any) -> None:
    results = page.results()
    shown = words((ROOT / "docs/img/front.svg").read_text(encoding="utf-8"))
    assert len(page.FRONT) == 6
    slower = 0
    for line in page.FRONT:
        row = page.row_of(line, results)
        for peer in {line.best, line.default}:
            ratio = report.faster(page.comparison_of(row, peer))
            assert report.number(ratio) in shown
            slower += ratio < 1
    assert slower >= 1, "a chart of winners alone"


def test_another_figure_would_be_seen_in_a_chart(page: Any) -> None:
    pytest.importorskip("matplotlib")
    results = copy.deepcopy(page.results())
    for row in results["dense"]["rows"]:
        for comparison in row["comparisons"]:
            comparison["ratio_of_medians"] *= 2
    drawn = page.drawn(results)
    for name in ("front", "dense"):
        path = Path(f"docs/img/{name}.svg")
        assert words(drawn[path]) != words((ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("place", ["docs/benchmarks.md", "README.md", "README.zh-CN.md"])
def test_another_figure_would_be_seen(page: Any, place: str) -> None:
    results = copy.deepcopy(page.results())
    for row in results["dense"]["rows"]:
        row["times"]["ours"]["median_ns"] *= 2
    assert page.made(results, ROOT)[Path(place)] != (ROOT / place).read_text(encoding="utf-8")


def test_a_quick_run_says_so_in_words(page: Any, report: Any) -> None:
    results = copy.deepcopy(page.results())
    for quick in (False, True):
        for result in results.values():
            result["quick"] = quick
        for text in page.made(results, ROOT).values():
            assert (report.QUICK in text) is quick


def test_every_processor_subject_has_figures(page: Any) -> None:
    measured = page.SUBJECTS[:-1]
    assert [*page.results()][: len(measured)] == [*measured]
    assert page.NO_RESULT in page.page({"dense": page.results()["dense"]})


def test_a_result_file_under_a_wrong_name_is_refused(page: Any, tmp_path: Path) -> None:
    (tmp_path / "select.json").write_text(json.dumps(page.results()["dense"]))
    with pytest.raises(ValueError, match=r"select\.json: holds figures of the subject 'dense'"):
        page.results(tmp_path)


def test_prose_that_asks_for_no_figures_is_refused(page: Any, tmp_path: Path) -> None:
    template = tmp_path / "section.md"
    template.write_text("## A subject\n\n<!-- tabel -->\n")
    with pytest.raises(ValueError, match="expected <!-- table --> once"):
        page.filled(template, {"table": "figures"})
    with pytest.raises(ValueError, match=r"README\.md: expected"):
        page.with_front("A README without marks.", "figures")


def row(**kwargs: Any) -> dict[str, Any]:
    """A row as a result file has it: ours takes 2 ms, the peer 1 ms."""
    comparison = {
        "peer": "peer",
        "ratio_of_medians": 2.0,
        "ratio_paired": 2.0,
        "quartiles_paired": [1.9, 2.2],
        "target": 1.0,
        "met": False,
    }
    times = {"ours": {"median_ns": 2e6, "gb_per_s": 3.0}, "peer": {"median_ns": 1e6}}
    made = {"name": "a", "title": "work", "threads": 1, "comparisons": [comparison]}
    return {**made, "times": times, "same_bits": None, "same_bits_as": "", **kwargs}


def test_a_line_says_who_loses_and_what_is_missed(report: Any) -> None:
    ours, peer = ["work", "1", "2.00 ms", "3.0", "", ""], ["peer", "1.00 ms", "**0.500, slower**"]
    assert report.lines_of(row()) == [[*ours, *peer, "0.455 to 0.526", "**1, missed**"]]
    (comparison,) = row()["comparisons"]
    won = {**comparison, "ratio_of_medians": 0.25, "target": 1 / 2.8, "met": True}
    unasked = {**won, "target": None, "met": None}
    first, second = report.lines_of(row(comparisons=[won, unasked]))
    assert first[-3:] == ["4.00", "0.455 to 0.526", "2.8, met"]
    assert second == [*[""] * 6, "peer", "1.00 ms", "4.00", "0.455 to 0.526", ""]


def test_rows_that_lose_stand_first_and_are_counted(report: Any) -> None:
    won = {**row()["comparisons"][0], "ratio_of_medians": 0.5}
    rows = [row(name="a", comparisons=[won]), row(name="b"), row(name="c", comparisons=[won] * 2)]
    assert [each["name"] for each in report.ordered(rows)] == ["b", "a", "c"]
    assert report.lost(rows) == "Ours is slower in 1 of 4 comparisons; their rows stand first."
    assert report.lost(rows[::2]) is None


def test_what_must_be_read_is_held_against_the_speed_of_reading(report: Any) -> None:
    made = row()
    made["times"]["ours"]["read_bytes"] = 40_000_000  # in 2 ms, of 25 GB/s that are possible
    (line,) = report.lines_of(made, {"1": 25.0})
    assert line[4:6] == ["40.0 MB", "80%"]
    assert report.lines_of(made)[0][4:6] == ["40.0 MB", ""]
    machine = {"read_gb_per_s": {"1": 25.0, "2": 40.04}}
    assert "25.0 GB/s on 1 thread, 40.0 GB/s on 2 threads" in report.floor({"machine": machine})


def test_every_line_and_note_of_a_row_names_its_threads(report: Any) -> None:
    triad = {"median_ns": 1e6, "gb_per_s": 4.0}
    rows = [row(threads=n, same_bits=False, same_bits_as="peer") for n in (1, 2)]
    for each in rows:
        each["times"]["triad"] = triad
    result = {"rows": rows, "quick": False, "only": None, "machine": {"load_at_start": None}}
    assert [line[1] for line in report.table_of(result)[1:]] == ["1", "2"]
    notes = [note for note in report.notes(result) if "work" in note]
    assert len(notes) == 4, notes  # the spread, two yardsticks, the bits
    assert all("on 1 thread" in note or "on 2 threads" in note for note in notes)
    assert "work, on 2 threads: triad reaches 4.0 GB/s, and ours 75% of that." in notes


def test_a_number_has_three_digits_and_no_power_of_ten(report: Any) -> None:
    numbers = (0, 0.2944, 1, 9.999, 41.6, 999.6, 1758.2)
    written = ["0", "0.294", "1.00", "10.0", "41.6", "1,000", "1,760"]
    assert [report.number(x) for x in numbers] == written


def test_a_row_takes_keywords_only() -> None:
    harness = importlib.import_module("subgrad_fast.bench.harness")
    with pytest.raises(TypeError, match="positional"):
        harness.Row("a", "work", 1, list, [])
    made = harness.Row(name="a", title="work", threads=2, build=list, targets=[])
    assert made.label == "a@2"


def imported(file: Path) -> set[str]:
    """Of torch, the library and the harness, what a file imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    words = (re.match(r"torch|subgrad_fast(\.bench)?", name) for name in names)
    return {word.group() for word in words if word}


def test_the_harness_knows_neither_torch_nor_the_library() -> None:
    harness = ROOT / "python/subgrad_fast/bench"
    for file in (harness / "harness.py", harness / "report.py", ROOT / "benchmarks/page.py"):
        assert imported(file) <= {"subgrad_fast.bench"}, file.name
    assert {"torch", "subgrad_fast"} <= imported(harness / "training.py")


def test_every_subject_is_a_folder_with_rows_and_prose(page: Any) -> None:
    for subject in page.SUBJECTS:
        folder = ROOT / "benchmarks" / subject
        assert (folder / "rows.py").is_file()
        assert (folder / "section.md").is_file()
