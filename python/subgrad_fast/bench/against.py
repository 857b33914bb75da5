"""Two results side by side: what was measured then, and what is measured now."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from subgrad_fast.bench.harness import OURS
from subgrad_fast.bench.report import RowResult, duration, number, padded, where
from subgrad_fast.bench.training_report import KIND

Result = dict[str, Any]


def read(path: Path, subject: str | None = None) -> Result:
    """Read a result: of a subject where `path` is a folder of them.

    Raises:
        ValueError: the file has no result in it.
        OSError: it cannot be read.
    """
    file = path / f"{subject}.json" if path.is_dir() else path
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: no JSON: {error}") from None
    if not isinstance(found, dict) or not ("rows" in found or found.get("kind") == KIND):
        raise ValueError(f"{file}: neither figures of rows nor a report of a model")
    return found


def kind_of(result: Result) -> str:
    """Which results can be held against each other."""
    return KIND if result.get("kind") == KIND else "rows"


def _change(then: float, now: float) -> str:
    return f"{number(then / now)}" if now else ""


def _row_lines(then: RowResult, now: RowResult) -> Iterator[list[str]]:
    """What ours took, then against each peer that both have. The peer's ratios are to be trusted
    more than the times: both of a ratio were measured on one machine at one time."""
    label = f"{now['name']}@{now['threads']}"
    times = [row["times"][OURS]["median_ns"] for row in (then, now)]
    yield [label, "time of ours", *map(duration, times), _change(*times)]
    before = {c["peer"]: c for c in then["comparisons"]}
    for comparison in now["comparisons"]:
        if old := before.get(comparison["peer"]):
            ratios = [1 / c["ratio_of_medians"] for c in (old, comparison)]
            what = f"times faster than {comparison['peer']}"
            yield ["", what, *map(number, ratios), _change(ratios[1], ratios[0])]


def _training_lines(then: Result, now: Result) -> Iterator[list[str]]:
    for name, contender in now["contenders"].items():
        old = then["contenders"].get(name)
        if old is None:
            continue
        label = name
        shared = [part for part in contender["parts"] if part in old["parts"]]
        for what, a, b in (
            *((part, old["parts"][part], contender["parts"][part]) for part in shared),
            ("an iteration", old["total"], contender["total"]),
        ):
            times = [each["median_ns"] for each in (a, b)]
            yield [label, what, *map(duration, times), _change(*times)]
            label = ""


def lines(then: Result, now: Result) -> list[list[str]]:
    """The header and the lines of what both have.

    Raises:
        ValueError: the two have nothing in common.
    """
    if kind_of(then) != kind_of(now):
        raise ValueError(f"these are figures of {kind_of(then)}, those of {kind_of(now)}")
    found: list[list[str]] = []
    if kind_of(now) == KIND:
        found += _training_lines(then, now)
    else:
        before = {(row["name"], row["threads"]): row for row in then["rows"]}
        for row in now["rows"]:
            if old := before.get((row["name"], row["threads"])):
                found += _row_lines(old, row)
    if not found:
        raise ValueError("the two have no row in common")
    return [["row", "what", "then", "now", "times better"], *found]


def side_by_side(then: Result, now: Result) -> str:
    """The table, and where each was measured if that is not one place."""
    places = [where(result) for result in (then, now)]
    notes = [f"- then: {places[0]}", f"- now: {places[1]}"] if places[0] != places[1] else []
    return "\n".join([padded(lines(then, now)), "", *notes]).rstrip("\n")
