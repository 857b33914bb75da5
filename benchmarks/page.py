"""The page of figures, docs/benchmarks.md, README's short table, the figures of docs/exchange.md
and the charts are made of the result files.

    python -m benchmarks.page            # writes all
    python -m benchmarks.page --check    # says whether all are what the result files give

The prose stands in `page.md` and in each subject's `section.md`, the figures in `results/*.json`,
so a figure is written down once. Nothing here needs torch; the charts need matplotlib.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks import SUBJECTS, charts
from benchmarks.exchange import table as exchange
from subgrad_fast.bench import report
from subgrad_fast.bench.harness import OURS

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PAGE, IMAGES = Path("docs/benchmarks.md"), Path("docs/img")
FRONTS = (Path("README.md"), Path("README.zh-CN.md"))
EXCHANGE, EXCHANGE_PAGE = "exchange", Path("docs/exchange.md")
"""Figures of several processes, in a form of their own, and the page of prose they stand on."""

MADE = "<!-- Made by `make bench-page`. Edit the prose in benchmarks/, not this file. -->\n\n"
BEGIN, END = "<!-- figures: made by `make bench-page` -->", "<!-- end of figures -->"
NO_RESULT = "There are no figures of this subject yet."
Results = Mapping[str, report.Result]


class Shown(NamedTuple):
    """A line of README's table and chart: a row, and the work in few words.

    A peer is known by words of its name: the best that torch has, which the table shows, and what
    torch does by default. Of the thread counts that the row was run on, the largest is shown if
    none is named.
    """

    subject: str
    row: str
    best: str
    default: str
    work: str
    label: str
    """The same for the chart, which has less room and no marks."""
    threads: int | None = None


FUSED, PLAIN = "fused=True", "torch.optim.SGD`"
FRONT = (
    Shown(
        *("dense", "between-8", FUSED, PLAIN),
        *("clip, step, `zero_grad` of 160 small tensors", "clip, step, zero_grad: 160 tensors"),
    ),
    Shown(
        *("dense", "training-mnist", FUSED, PLAIN),
        *("batch, clip, step, `zero_grad`: an MNIST MLP", "all but the model: an MNIST MLP"),
    ),
    Shown(
        *("dense", "resnet50", FUSED, PLAIN),
        *("a step on ResNet-50's 25.6M weights", "a step: ResNet-50's weights"),
    ),
    Shown(
        *("rows", "rows-1m", FUSED, PLAIN),
        *("65,536 gradients for rows of a 1M x 64 embedding", "a step: rows of a large embedding"),
    ),
    Shown(
        *("loading", "data-loader-128", "DataLoader", "DataLoader"),
        *("an epoch of 100,000 rows in batches of 128", "an epoch of small batches"),
    ),
    Shown(
        *("threshold", "threshold-1.0%", FUSED, "torch: "),
        *("the largest 1% of 25.6M gradients alone", "a thresholded step: 25.6M weights"),
        threads=1,
    ),
)
SERIES = ("than torch, fused", "than torch's default, or its operations")


def results(folder: Path = RESULTS) -> dict[str, report.Result]:
    """Read the result files. Returns one result a subject, in the subjects' order.

    Raises:
        ValueError: a file does not hold what its name says.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["subject"] != path.stem or path.stem not in (*SUBJECTS, EXCHANGE):
            raise ValueError(f"{path.name}: holds figures of the subject {result['subject']!r}")
        found[path.stem] = result
    return {name: found[name] for name in (*SUBJECTS, EXCHANGE) if name in found}


def machines(results: Results) -> str:
    """Say where the figures were taken: once, if all of them were taken in one place."""
    by_place: dict[str, list[str]] = {}
    for name in (name for name in SUBJECTS if name in results):
        by_place.setdefault(report.where(results[name]), []).append(name)
    if len(by_place) == 1:
        return next(iter(by_place))
    return "\n".join(f"- {', '.join(names)}: {place}" for place, names in by_place.items())


def filled(template: Path, figures: Mapping[str, str]) -> str:
    """Put figures into a file's prose, where its comments ask for them.

    Raises:
        ValueError: the prose does not ask for one of them.
    """
    text = template.read_text(encoding="utf-8")
    for name, figure in figures.items():
        mark = f"<!-- {name} -->"
        if text.count(mark) != 1:
            raise ValueError(f"{template.name}: expected {mark} once")
        text = text.replace(mark, figure)
    return text


def section(subject: str, results: Results) -> str:
    """Return a subject's part of the page."""
    table = NO_RESULT
    if subject in results:
        chart = f"![{subject}: times faster, row by row](img/{subject}.svg)"
        table = f"{chart}\n\n{report.markdown(results[subject])}"
    return filled(HERE / subject / "section.md", {"table": table})


def page(results: Results) -> str:
    """Return docs/benchmarks.md."""
    sections = "\n".join(section(subject, results) for subject in SUBJECTS)
    figures = {"machines": machines(results), "subjects": sections.rstrip("\n")}
    return MADE + filled(HERE / "page.md", figures)


def comparison_of(row: report.RowResult, words: str) -> report.Comparison:
    """The comparison of a row whose peer has these words in its name."""
    found: report.Comparison
    (found,) = (c for c in row["comparisons"] if words in c["peer"])
    return found


def row_of(shown: Shown, results: Results) -> report.RowResult:
    """The row that a line shows."""
    rows = [row for row in results[shown.subject]["rows"] if row["name"] == shown.row]
    threads = shown.threads or max(row["threads"] for row in rows)
    found: report.RowResult
    (found,) = (row for row in rows if row["threads"] == threads)
    return found


def front_line(shown: Shown, results: Results) -> list[str]:
    """Return a line of README's table."""
    row = row_of(shown, results)
    comparison, times = comparison_of(row, shown.best), row["times"]
    return [
        shown.work,
        str(row["threads"]),
        report.duration(times[OURS]["median_ns"]),
        comparison["peer"],
        report.duration(times[comparison["peer"]]["median_ns"]),
        report.faster_cell(comparison),
    ]


def front_chart(results: Results) -> str:
    """Return README's chart."""
    lines = []
    for shown in FRONT:
        row = row_of(shown, results)
        default = charts.dot(comparison_of(row, shown.default))
        best = None if shown.best == shown.default else charts.dot(comparison_of(row, shown.best))
        lines.append(charts.Line(shown.label, (best, default)))
    return charts.chart(lines, SERIES)


def front(results: Results) -> str:
    """Return README's table, with what surrounds it."""
    header = ["work", "threads", "ours", "by other means", "its time", "times faster"]
    table = report.padded([header, *(front_line(shown, results) for shown in FRONT)])
    quick = any(results[shown.subject]["quick"] for shown in FRONT)
    warning = f"{report.QUICK}\n\n" if quick else ""
    return f"{BEGIN}\n{warning}{table}\n{END}"


def with_front(text: str, figures: str, name: str = "README.md") -> str:
    """Put figures, README's table or others, into a page of prose.

    Raises:
        ValueError: it has not the two marks between which they belong.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{name}: expected {BEGIN} and {END}")
    return before + figures + after


def made(results: Results, root: Path) -> dict[Path, str]:
    """Return the text of every page that is made of the results, by its place below `root`."""
    table = front(results)
    texts = {name: (root / name).read_text(encoding="utf-8") for name in FRONTS}
    fronts = {name: with_front(text, table, str(name)) for name, text in texts.items()}
    pages = {PAGE: page(results), **fronts}
    if EXCHANGE in results:
        figures = f"{BEGIN}\n{exchange.figures(results[EXCHANGE])}\n{END}"
        text = (root / EXCHANGE_PAGE).read_text(encoding="utf-8")
        pages[EXCHANGE_PAGE] = with_front(text, figures, str(EXCHANGE_PAGE))
    return pages


def drawn(results: Results) -> dict[Path, str]:
    """Return every chart, by its place."""
    of_subjects = {
        IMAGES / f"{name}.svg": charts.subject(results[name])
        for name in SUBJECTS
        if name in results
    }
    return {IMAGES / "front.svg": front_chart(results), **of_subjects}


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or check them. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page")
    parser.add_argument("--check", action="store_true", help="write nothing, say what differs")
    check = parser.parse_args(arguments).check
    root, status = HERE.parent, 0
    found = results()
    for path, text in {**made(found, root), **drawn(found)}.items():
        file = root / path
        if check and (not file.is_file() or file.read_text(encoding="utf-8") != text):
            print(f"{path} is not what the result files give: `make bench-page`", file=sys.stderr)
            status = 1
        elif not check:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
