"""Turn a benchmark's JSON into a Markdown table: `python -m benchmarks.report update.json`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

Result = dict[str, Any]
PEERS = ("torch default", "torch foreach", "torch fused", "ours")
HEADER = ("work", "threads", *PEERS, "against", "ours / peer", "target", "met")
LEGEND = (
    "Times are the median (minimum) of one step. Ours / peer is the ratio of medians "
    "(of minima; paired: the median over rounds of the ratio within a round)."
)

TRIAD_LEGEND = (
    "A step moves 20 bytes an element (reads 3 arrays, writes 2), the triad `x += y * z` moves 16 "
    "(reads 3, writes 1)."
)


def fraction(ratio: float) -> str:
    """Write 0.25 as 1/4 and 0.97 as 0.97."""
    return f"1/{1 / ratio:.3g}" if ratio <= 0.5 else f"{ratio:.2f}"


def duration(times: dict[str, float]) -> str:
    """Median and minimum in the unit that suits the median."""
    unit, ns = ("ms", 1e6) if times["median_ns"] >= 1e6 else ("µs", 1e3)
    return f"{times['median_ns'] / ns:.3g} {unit} ({times['min_ns'] / ns:.3g})"


def ratios(comparison: dict[str, Any]) -> str:
    """Write the three ratios of one comparison."""
    minima, paired = fraction(comparison["ratio_of_minima"]), fraction(comparison["ratio_paired"])
    return f"{fraction(comparison['ratio_of_medians'])} ({minima}; {paired})"


def cells(row: dict[str, Any]) -> list[list[str]]:
    """One line per target of the row."""
    times = row["times"]
    peers = [duration(times[name]) if name in times else "" for name in PEERS]
    lines = []
    for comparison in row["comparisons"]:
        peer = comparison["peer"]
        against = peer if peer in PEERS else f"{peer}: {duration(times[peer])}"
        met = "yes" if comparison["met"] else "NO"
        target = f"≤ {fraction(comparison['target'])}"
        lines.append(
            [row["title"], str(row["threads"]), *peers, against, ratios(comparison), target, met]
        )
    return lines


def one_line(row: dict[str, Any]) -> str:
    """Say how a row went, while the others are still to come."""
    parts = [
        f"{ratios(c)} of {c['peer']}, target {fraction(c['target'])}" for c in row["comparisons"]
    ]
    if row["same_bits"] is False:
        parts.append(f"NOT the bits of {row['same_bits_as']}")
    return "; ".join(parts)


def bandwidth(row: dict[str, Any]) -> str | None:
    """GB/s of each contender whose bytes are known, and ours as a share of the triad."""
    known = {name: times for name, times in row["times"].items() if "gb_per_s" in times}
    if not known:
        return None
    speeds = ", ".join(f"{name} {times['gb_per_s']:.1f}" for name, times in known.items())
    lines = f"{row['title']}, GB/s at the median: {speeds}."
    if "triad" not in known:
        return lines
    share = known["ours"]["gb_per_s"] / known["triad"]["gb_per_s"]
    return f"{lines} Ours reaches {share:.0%} of the triad. {TRIAD_LEGEND}"


def bits(rows: list[dict[str, Any]]) -> str | None:
    """Say whether ours did the work of the reference, bit for bit."""
    checked = [row for row in rows if row["same_bits"] is not None]
    if not checked:
        return None
    whose = f"The weights and momentum of ours and of {checked[0]['same_bits_as']}"
    if differing := [row["name"] for row in checked if not row["same_bits"]]:
        return f"{whose} DIFFER at the end of: {', '.join(differing)}."
    return f"{whose} end on the same bits in all {len(checked)} rows that have both."


def notes(result: Result) -> list[str]:
    """Return what stands below the table."""
    machine, build = result["machine"], result["build"]
    named = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    load = machine["load_at_start"]
    device = f"{machine['device']}; " if machine.get("device") else ""
    where = (
        f"{device}{machine['cpu']}, {machine['cores']} cores, {build['isa']}, "
        f"load at the start {'unknown' if load is None else format(load, '.1f')}; {named}; "
        f"compiler {build['compiler']}."
    )
    warning = "A quick run: too few rounds to quote." if result["quick"] else None
    lines = [LEGEND, *map(bandwidth, result["rows"]), bits(result["rows"]), where, warning]
    return [line for line in lines if line]


def filled(lines: list[list[str]]) -> list[list[str]]:
    """Leave out the columns that have nothing but a header: peers that no row has."""
    columns = [column for column in zip(*lines, strict=True) if any(column[1:])]
    return [list(line) for line in zip(*columns, strict=True)]


def markdown(result: Result) -> str:
    """Return the table and its notes as Markdown, padded to be legible as plain text too."""
    lines = filled([list(HEADER), *(line for row in result["rows"] for line in cells(row))])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    table = (
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
    return "\n".join([*table, "", *(f"- {note}" for note in notes(result))])


def show(result: Result, *, markdown_only: bool = False) -> None:
    """Print a table with rich on a terminal, and Markdown anywhere else."""
    try:
        rich_table = importlib.import_module("rich.table")
        console = importlib.import_module("rich.console").Console()
    except ImportError:
        markdown_only = True
    if markdown_only or not sys.stdout.isatty():
        print(markdown(result))
        return
    # A terminal is narrow: the row's short name for the work and its threads, two lines a cell.
    name = rich_table.Column("row", no_wrap=True)
    lines = [[row["name"], *line[2:]] for row in result["rows"] for line in cells(row)]
    header, *lines = filled([["row", *HEADER[2:]], *lines])
    table = rich_table.Table(name, *header[1:], padding=(0, 0), show_lines=True)
    for line in lines:
        table.add_row(line[0], *(cell.replace(" (", "\n(") for cell in line[1:]))
    console.print(table)
    for note in notes(result):
        console.print(f"- {note}", highlight=False)


def main() -> int:
    """Print the Markdown of a result file."""
    parser = argparse.ArgumentParser(prog="report", description=__doc__)
    parser.add_argument("path", type=Path, help="what a benchmark wrote with --json")
    print(markdown(json.loads(parser.parse_args().path.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
