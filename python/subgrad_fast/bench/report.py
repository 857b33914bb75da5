"""A benchmark's result becomes a table and notes: on a terminal, or in Markdown.

A line of the table is one comparison. Each cell has one figure, the median; minima, and what else
was worked out, are in the JSON.
"""

from __future__ import annotations

import importlib
import math
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from subgrad_fast.bench.harness import OURS

Result = dict[str, Any]
RowResult = dict[str, Any]
Comparison = dict[str, Any]

HEADER = (
    *("work", "threads", "ours", "GB/s", "it must read", "of the floor"),
    *("peer", "its time", "times faster", "spread", "target"),
)
QUICK = (
    "**A quick run: too few rounds to quote.** It shows what the table looks like, and that "
    "everything runs."
)
UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))
SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))


def number(x: float) -> str:
    """Write three significant digits, never as a power of ten."""
    if x == 0:
        return "0"
    x = float(f"{x:.3g}")
    return f"{x:,.{max(2 - math.floor(math.log10(abs(x))), 0)}f}"


def in_units(amount: float, units: Sequence[tuple[float, str]]) -> str:
    """Write an amount in the unit that suits it."""
    size, unit = next((u for u in units if amount >= u[0]), units[-1])
    return f"{number(amount / size)} {unit}"


def duration(ns: float) -> str:
    """Write a time in the unit that suits it."""
    return in_units(ns, UNITS)


def on_threads(count: int) -> str:
    """Write a thread count as part of a sentence."""
    return "on 1 thread" if count == 1 else f"on {count} threads"


def faster(comparison: Comparison) -> float:
    """How many times as fast as the peer ours is, by the medians."""
    return 1 / float(comparison["ratio_of_medians"])


def faster_cell(comparison: Comparison) -> str:
    """Write how many times faster ours is; where it loses, say so."""
    text = number(faster(comparison))
    return text if comparison["ratio_of_medians"] <= 1 else f"**{text}, slower**"


def spread_cell(comparison: Comparison) -> str:
    """Write between which figures the middle half of the rounds lies."""
    ends = comparison["quartiles_paired"]
    return f"{number(1 / ends[1])} to {number(1 / ends[0])}" if ends else ""


def loses(row: RowResult) -> bool:
    """Whether ours is slower than one of its peers."""
    return any(comparison["ratio_of_medians"] > 1 for comparison in row["comparisons"])


def ordered(rows: Iterable[RowResult]) -> list[RowResult]:
    """The rows, those first in which ours is slower."""
    return sorted(rows, key=lambda row: not loses(row))


def floor_cells(row: RowResult, speeds: Mapping[str, float]) -> list[str]:
    """Write what ours must read, and which share of its time that takes at the memory's speed."""
    read = row["times"][OURS].get("read_bytes")
    if not read:
        return ["", ""]
    speed = speeds.get(str(row["threads"]))
    share = f"{read / speed / row['times'][OURS]['median_ns']:.0%}" if speed else ""
    return [in_units(read, SIZES), share]


def target_cell(comparison: Comparison) -> str:
    """Write what was asked of ours, and whether it is met; nothing if nothing was asked."""
    if comparison["target"] is None:
        return ""
    asked = f"{1 / comparison['target']:,.3f}".rstrip("0").rstrip(".")
    return f"{asked}, met" if comparison["met"] else f"**{asked}, missed**"


def lines_of(row: RowResult, speeds: Mapping[str, float] | None = None) -> list[list[str]]:
    """Return the lines of a row, one a comparison. What they share stands in the first alone.

    `speeds` is how many GB/s the machine reads, by the number of threads.
    """
    times = row["times"]
    ours = times[OURS]
    speed = f"{ours['gb_per_s']:.1f}" if "gb_per_s" in ours else ""
    work = [row["title"], str(row["threads"]), duration(ours["median_ns"]), speed]
    work += floor_cells(row, speeds or {})
    lines = []
    for comparison in row["comparisons"]:
        peer = comparison["peer"]
        figures = [duration(times[peer]["median_ns"]), faster_cell(comparison)]
        figures.append(spread_cell(comparison))
        lines.append([*work, peer, *figures, target_cell(comparison)])
        work = [""] * len(work)
    return lines


def one_line(row: RowResult) -> str:
    """Say how a row went, while the others are still to come."""
    parts = []
    for comparison in row["comparisons"]:
        target = target_cell(comparison).replace("*", "")
        asked = f" (target {target})" if target else ""
        parts.append(f"{number(faster(comparison))} times {comparison['peer']}{asked}")
    if row["same_bits"] is False:
        parts.append(f"NOT the bits of {row['same_bits_as']}")
    return "; ".join(parts)


# --- Notes --------------------------------------------------------------------------------------


def targets(rows: list[RowResult]) -> str | None:
    """Count the targets. The table has marked the ones that are missed."""
    asked = [c for row in rows for c in row["comparisons"] if c["target"] is not None]
    if not asked:
        return None
    return f"{sum(c['met'] for c in asked)} of {len(asked)} targets are met."


def lost(rows: list[RowResult]) -> str | None:
    """Count the comparisons that ours loses."""
    comparisons = [c for row in rows for c in row["comparisons"]]
    slower = sum(c["ratio_of_medians"] > 1 for c in comparisons)
    if not slower:
        return None
    return f"Ours is slower in {slower} of {len(comparisons)} comparisons; their rows stand first."


def floor(result: Result) -> str | None:
    """Say what the floor is."""
    speeds = result["machine"].get("read_gb_per_s")
    if not speeds:
        return None
    measured = ", ".join(f"{speed:.1f} GB/s {on_threads(int(n))}" for n, speed in speeds.items())
    return f"The floor is reading what must be read, and nothing else: {measured}."


def place(row: RowResult) -> str:
    """Name a row by its title and its threads: a title alone may stand for several rows."""
    return f"{row['title']}, {on_threads(row['threads'])}"


def spread(rows: list[RowResult]) -> str | None:
    """Say how much ratios differ from round to round: in the middle of the table, and at worst."""
    widths = []
    for row in rows:
        for comparison in row["comparisons"]:
            if ends := comparison["quartiles_paired"]:
                width = (ends[1] - ends[0]) / comparison["ratio_paired"]
                widths.append((width, f"{place(row)}, against {comparison['peer']}"))
    if not widths:
        return None
    middle = statistics.median(width for width, _ in widths)
    widest, where = max(widths)
    return (
        "Spread: the middle half of a line's rounds differ in their ratio by "
        f"{middle:.0%} (the median of the lines), at most by {widest:.0%} ({where})."
    )


def yardsticks(rows: list[RowResult]) -> Iterable[str]:
    """Hold ours against what the memory can do, where a contender that is nobody's peer says it."""
    for row in rows:
        times = row["times"]
        peers = {OURS, *(comparison["peer"] for comparison in row["comparisons"])}
        for name in times:
            if name not in peers and "gb_per_s" in times[name]:
                reached = times[name]["gb_per_s"]
                share = times[OURS]["gb_per_s"] / reached
                speeds = f"{name} reaches {reached:.1f} GB/s, and ours {share:.0%} of that"
                yield f"{place(row)}: {speeds}."


def bits(rows: list[RowResult]) -> str | None:
    """Say whether ours did the work of the reference, bit for bit."""
    checked = [row for row in rows if row["same_bits"] is not None]
    if not checked:
        return None
    whose = f"What ours and {checked[0]['same_bits_as']} have written"
    if differing := [place(row) for row in checked if not row["same_bits"]]:
        return f"{whose} DIFFERS in its bits at the end of: {'; '.join(differing)}."
    return f"{whose} is the same, bit for bit, in all {len(checked)} rows that have both."


def where(result: Result) -> str:
    """Say what the figures depend on: machine, versions, build."""
    machine, build = result["machine"], result["build"]
    named = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    device = f"{machine['device']}; " if machine.get("device") else ""
    return (
        f"{device}{machine['cpu']}, {machine['cores']} cores, {build['isa']}; {named}; "
        f"compiler {build['compiler']}."
    )


def load(result: Result) -> str:
    """Say how busy the machine was."""
    at_start = result["machine"]["load_at_start"]
    text = "unknown" if at_start is None else f"{at_start:.1f}"
    return f"Load of the machine at the start: {text}."


def notes(result: Result) -> list[str]:
    """Return what stands below the table."""
    rows = result["rows"]
    partial = f"Only the rows with {' or '.join(result['only'])}." if result["only"] else None
    every = [
        *(lost(rows), targets(rows), floor(result), spread(rows), *yardsticks(rows), bits(rows)),
        *(load(result), partial),
    ]
    return [note for note in every if note]


# --- Tables -------------------------------------------------------------------------------------


def table_of(result: Result) -> list[list[str]]:
    """Return the header and the lines, without columns that have nothing below their header."""
    speeds = result["machine"].get("read_gb_per_s")
    rows = ordered(result["rows"])
    lines = [list(HEADER), *(line for row in rows for line in lines_of(row, speeds))]
    columns = [column for column in zip(*lines, strict=True) if any(column[1:])]
    return [list(line) for line in zip(*columns, strict=True)]


def padded(lines: list[list[str]]) -> str:
    """Write a Markdown table, padded to be legible as plain text too."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines = [lines[0], ["-" * width for width in widths], *lines[1:]]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def markdown(result: Result) -> str:
    """Return the table of a result and its notes as Markdown."""
    warning = [QUICK, ""] if result["quick"] else []
    listed = (f"- {note}" for note in notes(result))
    return "\n".join([*warning, padded(table_of(result)), "", *listed])


def show(result: Result, *, markdown_only: bool = False) -> None:
    """Print a table with rich on a terminal, and Markdown anywhere else."""
    try:
        rich_table = importlib.import_module("rich.table")
        console = importlib.import_module("rich.console").Console()
    except ImportError:
        markdown_only = True
    if markdown_only or not sys.stdout.isatty():
        print(f"{markdown(result)}\n- {where(result)}")
        return
    # A terminal is narrow: the row's short name stands for the work and its threads.
    header, *lines = table_of(result)
    columns = (rich_table.Column(text, overflow="fold") for text in header[2:])
    table = rich_table.Table(rich_table.Column("row", no_wrap=True), *columns, padding=(0, 0))
    labels = iter(f"{row['name']}@{row['threads']}" for row in ordered(result["rows"]))
    for line in lines:
        label = next(labels) if line[0] else ""
        table.add_row(label, *(cell.replace("*", "") for cell in line[2:]))
    console.print(table)
    warning = [QUICK.replace("*", "")] if result["quick"] else []
    for note in (*warning, *notes(result), where(result)):
        console.print(f"- {note}", highlight=False, markup=False)
