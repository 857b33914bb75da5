"""The benchmarks' command: it runs rows of some subjects, prints their tables and keeps figures.

    python -m subgrad_fast bench                       # all that this machine can run: half an hour
    python -m subgrad_fast bench dense --rows loop-64  # of a subject, rows whose name has a text
    python -m subgrad_fast bench --json benchmarks/results

`harness.py` says how the figures are taken. A subject is a folder: its `rows.py` has the rows and
their targets, its `peers.py` who is compared.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import SUBJECTS
from subgrad_fast import runtime
from subgrad_fast.bench import report
from subgrad_fast.bench.circumstances import circumstances
from subgrad_fast.bench.harness import Row, Subject, run_row


def subject_of(name: str, threads: int) -> Subject:
    """Build the rows of a subject."""
    module = importlib.import_module(f"benchmarks.{name}.rows")
    subject: Subject = module.subject(threads)
    return subject


def use_threads(threads: int) -> None:
    """Set torch's thread count. It governs ours too, or there is nothing to compare."""
    torch.set_num_threads(threads)
    if runtime.get_num_threads() != threads:
        raise RuntimeError(f"torch runs on {threads} threads, ours on {runtime.get_num_threads()}")


def chosen(rows: Sequence[Row], texts: list[str] | None) -> list[Row]:
    """The rows whose name has one of the texts; all of them if no text is given."""
    return [row for row in rows if not texts or any(text in row.label for text in texts)]


def run(name: str, subject: Subject, options: argparse.Namespace) -> dict[str, Any]:
    """Measure rows of a subject and return what belongs into its result file."""
    result = {
        "subject": name,
        "quick": options.quick,
        "only": options.rows,
        **circumstances(subject.device),
        "rows": [],
    }
    for row in subject.rows:
        print(f"{name} {row.label} ...", end=" ", file=sys.stderr, flush=True)
        use_threads(row.threads)
        measured = run_row(row, subject, quick=options.quick)
        print(report.one_line(measured), file=sys.stderr)
        result["rows"].append(measured)
    return result


def keep(result: dict[str, Any], path: Path) -> None:
    """Write a result to a file, or into a folder of such files."""
    if path.suffix != ".json":
        path.mkdir(parents=True, exist_ok=True)
        path /= f"{result['subject']}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m subgrad_fast bench", description="Time our work and our peers'."
    )
    parser.add_argument(
        "subjects",
        nargs="*",
        metavar="subject",
        help=f"{', '.join(SUBJECTS)}; if none is given, all that this machine can run",
    )
    parser.add_argument(
        "--rows", nargs="+", metavar="TEXT", help="the rows whose name has one of these texts"
    )
    parser.add_argument("--list", action="store_true", help="print the rows' names and end")
    parser.add_argument("--quick", action="store_true", help="few rounds: figures not to be quoted")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="PATH",
        help="keep the figures: of one subject in a file PATH.json, else in a folder PATH",
    )
    parser.add_argument("--markdown", action="store_true", help="Markdown even on a terminal")
    options = parser.parse_args(arguments)
    for name in options.subjects:
        if name not in SUBJECTS:
            parser.error(f"there is no subject {name!r}; there are {', '.join(SUBJECTS)}")
    if options.json and options.json.suffix == ".json" and len(options.subjects) != 1:
        parser.error(f"--json {options.json}: a file keeps one subject; give a folder for several")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen rows, print their tables, keep the figures. Returns the exit status."""
    options = parse(arguments)
    threads = torch.get_num_threads()
    found = False
    for name in dict.fromkeys(options.subjects or SUBJECTS):
        subject = subject_of(name, threads)
        if subject.missing:
            asked = name in options.subjects
            print(
                f"{subject.missing}. Nothing was measured for {name!r}.",
                file=sys.stdout if asked else sys.stderr,
            )
            found = found or asked
            continue
        rows = chosen(subject.rows, options.rows)
        found = found or bool(rows)
        if options.list:
            print("".join(f"{name} {row.label}\n" for row in rows), end="")
        elif rows:
            result = run(name, replace(subject, rows=rows), options)
            use_threads(threads)
            if options.json:
                keep(result, options.json)
            report.show(result, markdown_only=options.markdown)
    if not found:
        print("bench: no row has such a name; --list prints them", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
