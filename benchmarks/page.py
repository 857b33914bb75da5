"""The page of figures, docs/benchmarks.md, and README's short table are made of the result files.

    python -m benchmarks.page            # writes both
    python -m benchmarks.page --check    # says whether both are what the result files give

The prose stands in `page.md` and in each subject's `section.md`, the figures in `results/*.json`,
so a figure is written down once. Nothing here needs torch.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks import SUBJECTS
from subgrad_fast.bench import report
from subgrad_fast.bench.harness import OURS

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PAGE, README = Path("docs/benchmarks.md"), Path("README.md")

MADE = "<!-- Made by `make bench-page`. Edit the prose in benchmarks/, not this file. -->\n\n"
BEGIN, END = "<!-- figures: made by `make bench-page` -->", "<!-- end of figures -->"
NO_RESULT = "There are no figures of this subject yet."
Results = Mapping[str, report.Result]


class Shown(NamedTuple):
    """A line of README: a row, one of its peers by a word of its name, and the work in few words.

    Of the thread counts that the row was run on, the largest is shown.
    """

    subject: str
    row: str
    peer: str
    work: str


FRONT = (
    Shown("dense", "between-8", "fused=True", "clip, step, `zero_grad` of 160 small tensors"),
    Shown("dense", "training-mnist", "fused=True", "batch, clip, step, `zero_grad`: an MNIST MLP"),
    Shown("dense", "resnet50", "fused=True", "a step on ResNet-50's 25.6M weights"),
    Shown("threshold", "threshold-1.0%", "torch: ", "apply the largest 1% of 25.6M, keep the rest"),
    Shown("select", "top-1.0%", "topk", "find the largest 1% of 25.6M, exactly"),
    Shown("rows", "rows-1m", "row-sparse", "65,536 gradients for rows of a 1M x 64 embedding"),
    Shown("loading", "data-loader-128", "DataLoader", "an epoch of 100,000 rows in batches of 128"),
)


def results(folder: Path = RESULTS) -> dict[str, report.Result]:
    """Read the result files. Returns one result a subject, in the subjects' order.

    Raises:
        ValueError: a file does not hold what its name says.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["subject"] != path.stem or path.stem not in SUBJECTS:
            raise ValueError(f"{path.name}: holds figures of the subject {result['subject']!r}")
        found[path.stem] = result
    return {name: found[name] for name in SUBJECTS if name in found}


def machines(results: Results) -> str:
    """Say where the figures were taken: once, if all of them were taken in one place."""
    by_place: dict[str, list[str]] = {}
    for name, result in results.items():
        by_place.setdefault(report.where(result), []).append(name)
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
    table = report.markdown(results[subject]) if subject in results else NO_RESULT
    return filled(HERE / subject / "section.md", {"table": table})


def page(results: Results) -> str:
    """Return docs/benchmarks.md."""
    sections = "\n".join(section(subject, results) for subject in SUBJECTS)
    figures = {"machines": machines(results), "subjects": sections.rstrip("\n")}
    return MADE + filled(HERE / "page.md", figures)


def front_line(shown: Shown, results: Results) -> list[str]:
    """Return a line of README's table."""
    rows = [row for row in results[shown.subject]["rows"] if row["name"] == shown.row]
    row = max(rows, key=lambda row: row["threads"])
    (comparison,) = (c for c in row["comparisons"] if shown.peer in c["peer"])
    times = row["times"]
    return [
        shown.work,
        str(row["threads"]),
        report.duration(times[OURS]["median_ns"]),
        comparison["peer"],
        report.duration(times[comparison["peer"]]["median_ns"]),
        report.faster_cell(comparison),
    ]


def front(results: Results) -> str:
    """Return README's table, with what surrounds it."""
    header = ["work", "threads", "ours", "by other means", "its time", "times faster"]
    table = report.padded([header, *(front_line(shown, results) for shown in FRONT)])
    quick = any(results[shown.subject]["quick"] for shown in FRONT)
    warning = f"{report.QUICK}\n\n" if quick else ""
    return f"{BEGIN}\n{warning}{table}\n{END}"


def with_front(text: str, figures: str) -> str:
    """Put README's table into it.

    Raises:
        ValueError: README has not the two marks between which it belongs.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md: expected {BEGIN} and {END}")
    return before + figures + after


def made(results: Results, root: Path) -> dict[Path, str]:
    """Return the text of every file that is made of the results, by its place below `root`."""
    readme = (root / README).read_text(encoding="utf-8")
    return {PAGE: page(results), README: with_front(readme, front(results))}


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or check them. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page")
    parser.add_argument("--check", action="store_true", help="write nothing, say what differs")
    check = parser.parse_args(arguments).check
    root, status = HERE.parent, 0
    for path, text in made(results(), root).items():
        file = root / path
        if check and (not file.is_file() or file.read_text(encoding="utf-8") != text):
            print(f"{path} is not what the result files give: `make bench-page`", file=sys.stderr)
            status = 1
        elif not check:
            file.write_text(text, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
