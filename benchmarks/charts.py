"""The charts of the page and of README, of the same result files as the tables.

An SVG of matplotlib's that is the same bytes each time: a salt in the place of random names, and
no date. Its words are text, so that the figures in it can be read, and compared.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

from subgrad_fast.bench import report

SETTINGS = {
    "svg.hashsalt": "subgrad_fast",
    "svg.fonttype": "none",
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}
COLOURS = ("#c44e52", "#4c72b0")
TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class Dot(NamedTuple):
    """One comparison: how many times faster ours is, and what the middle half of rounds gave."""

    faster: float
    spread: tuple[float, float] | None


class Line(NamedTuple):
    """A line of a chart: its label, and a dot for each series or None."""

    label: str
    dots: Sequence[Dot | None]


def dot(comparison: report.Comparison | None) -> Dot | None:
    """The dot of a comparison."""
    if comparison is None:
        return None
    ends = comparison["quartiles_paired"]
    return Dot(report.faster(comparison), (1 / ends[1], 1 / ends[0]) if ends else None)


def plain(text: str) -> str:
    """A title without Markdown's marks, and without what a chart has no room for."""
    return text.replace("`", "").replace("**", "")


def chart(lines: Sequence[Line], series: Sequence[str], *, width: float = 9.0) -> str:
    """Draw the lines on a logarithmic scale, with the names of the series above. Returns an SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(SETTINGS):
        height = 0.8 + (0.15 + 0.14 * len(series)) * len(lines)
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        all_dots = [d for line in lines for d in line.dots if d is not None]
        low = min(0.7, *(d.faster for d in all_dots)) / 1.3
        high = max(2.0, *(d.faster for d in all_dots)) * 1.8
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.axvspan(low, 1, color="#c44e52", alpha=0.08, linewidth=0)
        axes.axvline(1, color="#444444", linewidth=1)
        for index, name in enumerate(series):
            draw(axes, lines, index, name, len(series))
        ticks = [tick for tick in TICKS if low < tick < high]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_yticks(range(len(lines)), [line.label for line in lines])
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel("times faster (logarithmic); left of 1, ours is slower")
        if len(series) > 1:
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None})
    return "\n".join(row.rstrip() for row in target.getvalue().splitlines()) + "\n"


def draw(axes: Any, lines: Sequence[Line], index: int, name: str, count: int) -> None:
    """Draw one series: dots with their figures, and their spread behind them."""
    colour = COLOURS[index]
    drawn = [
        (i + (index - (count - 1) / 2) * 0.36, line.dots[index]) for i, line in enumerate(lines)
    ]
    there = [(y, d) for y, d in drawn if d is not None]
    for y, d in there:
        if d.spread:
            axes.hlines(y, *d.spread, color=colour, alpha=0.35, linewidth=5)
        right = max(d.faster, d.spread[1] if d.spread else 0)
        axes.annotate(
            report.number(d.faster),
            (right, y),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=colour,
        )
    axes.plot([d.faster for _, d in there], [y for y, _ in there], "o", color=colour, label=name)


def subject(result: report.Result) -> str:
    """The chart of a subject: each row against the first of its peers."""
    lines = [
        Line(f"{plain(row['title'])} @{row['threads']}", [dot(row["comparisons"][0])])
        for row in report.ordered(result["rows"])
    ]
    return chart(lines, ["ours"], width=11.0)
