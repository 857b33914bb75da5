"""`subgrad-fast bench`: rows of some subjects, or a model of one's own, and what becomes of them.

`harness.py` says how the figures of rows are taken, `training.py` how those of a model. A subject
is a folder of `benchmarks/` in a checkout: its `rows.py` has the rows and their targets, its
`peers.py` who is compared. `standard.py` has the rows that need no checkout.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from subgrad_fast import runtime
from subgrad_fast.bench import against, own_model, progress, report, web
from subgrad_fast.bench.circumstances import circumstances, has_torch
from subgrad_fast.bench.harness import Row, Subject, run_row
from subgrad_fast.bench.options import parse
from subgrad_fast.bench.reading import read_gb_per_s
from subgrad_fast.bench.subjects import subject_of
from subgrad_fast.bench.training_report import Report

DIFFERENT, CANNOT, INTERRUPTED = 1, 2, 130
"""Exit statuses."""
Result = dict[str, Any]


def most_threads() -> int:
    """The number of threads that work runs on unless it is told another."""
    if has_torch():
        return int(importlib.import_module("torch").get_num_threads())
    return runtime.get_num_threads()


def use_threads(threads: int) -> None:
    """Set torch's thread count, which governs ours too; ours where there is no torch."""
    if not has_torch():
        runtime.set_num_threads(threads)
        return
    importlib.import_module("torch").set_num_threads(threads)
    if runtime.get_num_threads() != threads:
        raise RuntimeError(f"torch runs on {threads} threads, ours on {runtime.get_num_threads()}")


def chosen(rows: Sequence[Row], texts: list[str] | None) -> list[Row]:
    """The rows whose name has one of the texts; all of them if no text is given."""
    return [row for row in rows if not texts or any(text in row.label for text in texts)]


def subjects_of(options: argparse.Namespace, threads: int) -> Iterator[tuple[str, Subject]]:
    """The subjects that this machine can run, with the rows that are asked for."""
    asked = len(options.subjects) == 1
    for name in options.subjects:
        subject = subject_of(name, threads)
        if subject.missing:
            print(
                f"{subject.missing}. Nothing was measured for {name!r}.",
                file=sys.stdout if asked else sys.stderr,
            )
        yield name, replace(subject, rows=chosen(subject.rows, options.rows))


def run(
    subjects: Sequence[tuple[str, Subject]], options: argparse.Namespace
) -> Iterator[tuple[Subject, Result]]:
    """Measure rows of the subjects; yield what belongs into a result file, subject by subject."""
    rows = [row for _, subject in subjects for row in subject.rows]
    done = 0.0
    with progress.shown(sum(row.budget_seconds(quick=options.quick) for row in rows)) as shown:
        for name, subject in subjects:
            result: Result = {
                "subject": name,
                "quick": options.quick,
                "only": options.rows,
                **circumstances(subject.device),
                "rows": [],
            }
            reading = sorted({row.threads for row in subject.rows if row.read_bytes})
            if reading and subject.device is None and not options.quick:
                speeds = {}
                for threads in reading:
                    use_threads(threads)
                    speeds[str(threads)] = read_gb_per_s()
                result["machine"]["read_gb_per_s"] = speeds
            for row in subject.rows:
                budget = row.budget_seconds(quick=options.quick)
                shown.begin(f"{name} {row.label}")
                use_threads(row.threads)
                at = partial(advance, shown, done, budget)
                measured = run_row(row, subject, quick=options.quick, at=at)
                done += budget
                shown.at(done)
                shown.end(report.one_line(measured))
                result["rows"].append(measured)
            with shown.aside():
                yield subject, result


def advance(shown: progress.Lines, done: float, budget: float, share: float) -> None:
    """Show that a share of a row's budget is spent, on top of what was done before."""
    shown.at(done + share * budget)


def keep(result: Result, path: Path) -> None:
    """Write a result to a file, or into a folder of such files."""
    if path.suffix != ".json":
        path.mkdir(parents=True, exist_ok=True)
        path /= f"{result.get('subject', 'model')}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def page_of(results: Sequence[Result]) -> str:
    """A page of HTML with the tables of all results."""
    parts = [web.STYLE, "<div class=sgf>"]
    for result in results:
        if against.kind_of(result) == "rows":
            notes = [*report.notes(result), report.where(result)]
            quick = [report.QUICK] if result["quick"] else []
            parts += [f"<h2>{result['subject']}</h2>", web.table(report.table_of(result))]
            parts.append(web.notes([*quick, *notes]))
        else:
            parts.append(Report(result)._repr_html_())
    return web.page("subgrad_fast: benchmarks", "".join([*parts, "</div>"]))


def measured(options: argparse.Namespace) -> Iterator[Result]:
    """Measure, or read, what is asked for."""
    if options.show:
        yield against.read(options.show, options.rows and options.rows[0])
    elif options.model:
        yield own_model.measure(options).figures
    else:
        threads = options.threads or most_threads()
        subjects = [*subjects_of(options, threads)]
        asked_in_vain = len(subjects) == 1 and subjects[0][1].missing
        if not asked_in_vain and not any(subject.rows for _, subject in subjects):
            raise ValueError("no row has such a name; --list prints them")
        subjects = [(name, subject) for name, subject in subjects if subject.rows]
        try:
            for _, result in run(subjects, options):
                yield result
        finally:
            use_threads(threads)


def differing(result: Result) -> bool:
    """Whether bits differ that must be the same."""
    if against.kind_of(result) == "rows":
        return any(row["same_bits"] is False for row in result["rows"])
    return not Report(result).agree


def show(result: Result, options: argparse.Namespace) -> None:
    """Print a result, and what it is held against."""
    if against.kind_of(result) == "rows":
        report.show(result, markdown_only=options.markdown)
    else:
        print(Report(result))
    if options.against:
        then = against.read(options.against, result.get("subject", "model"))
        print(f"\n{against.side_by_side(then, result)}")


def listed(options: argparse.Namespace) -> int:
    """Print the rows' names."""
    names = [
        f"{name} {row.label}"
        for name, subject in subjects_of(options, options.threads or most_threads())
        for row in subject.rows
    ]
    print("".join(f"{name}\n" for name in names), end="")
    return 0 if names else CANNOT


def everything(options: argparse.Namespace) -> int:
    """Measure, print and keep. Returns the exit status."""
    if options.list and not (options.model or options.show):
        return listed(options)
    if options.against and not options.against.exists():
        raise ValueError(f"--against {options.against}: there is no such file")
    results = []
    for result in measured(options):
        results.append(result)
        if options.json:
            keep(result, options.json)
        show(result, options)
    if options.html:
        options.html.write_text(page_of(results), encoding="utf-8")
    return DIFFERENT if any(map(differing, results)) else 0


def main(arguments: list[str] | None = None, *, prog: str = "subgrad-fast bench") -> int:
    """Run the command. Returns the exit status."""
    options = parse(arguments, prog)
    try:
        return everything(options)
    except KeyboardInterrupt:
        print("\nbench: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return CANNOT
