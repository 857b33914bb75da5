"""Stacked bars of an iteration's parts: as HTML without anything else, and by matplotlib."""

from __future__ import annotations

import html
import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Bars = Mapping[str, Mapping[str, float]]
"""Contender -> part -> milliseconds."""

COLOURS = {
    "data": "#4c72b0",
    "forward": "#c9c9c9",
    "backward": "#9e9e9e",
    "clip": "#dd8452",
    "step": "#c44e52",
    "zero_grad": "#8172b3",
}
"""What is the model's is grey; what stands between has the colours."""

STYLE = """<style>
.sgf{font:14px system-ui,sans-serif;max-width:60em}
.sgf table{border-collapse:collapse;margin:1em 0}
.sgf td,.sgf th{padding:.2em .8em;text-align:right;border-top:1px solid #8884}
.sgf td:first-child,.sgf th:first-child{text-align:left}
.sgf .bar{display:flex;height:1.4em;margin:.15em 0 .6em}
.sgf .key span{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 1em}
</style>"""


def _bar(name: str, parts: Mapping[str, float], longest: float) -> str:
    pieces = "".join(
        f'<div title="{part}: {ms:.4g} ms" '
        f'style="width:{ms / longest:.3%};background:{COLOURS[part]}"></div>'
        for part, ms in parts.items()
    )
    return (
        f"<div>{html.escape(name)}, {sum(parts.values()):.4g} ms</div><div class=bar>{pieces}</div>"
    )


def _table(lines: Sequence[Sequence[str]]) -> str:
    header, *rows = lines

    def row(cells: Sequence[str], tag: str) -> str:
        inner = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
        return f"<tr>{inner}</tr>"

    return f"<table>{row(header, 'th')}{''.join(row(cells, 'td') for cells in rows)}</table>"


def fragment(bars: Bars, lines: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """Bars, table and notes, to stand in a page of others."""
    longest = max(sum(parts.values()) for parts in bars.values()) or 1.0
    parts = next(iter(bars.values()))
    key = "".join(f'<span style="background:{COLOURS[part]}"></span>{part}' for part in parts)
    drawn = "".join(_bar(name, each, longest) for name, each in bars.items())
    listed = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return (
        f"{STYLE}<div class=sgf>{drawn}<div class=key>{key}</div>"
        f"{_table(lines)}<ul>{listed}</ul></div>"
    )


def page(title: str, body: str) -> str:
    """A whole page."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title>{body}</html>\n"
    )


def plot(bars: Bars, ax: Axes | None) -> Axes:
    """Draw the bars with matplotlib.

    Raises:
        ImportError: there is no matplotlib.
    """
    if ax is None:
        try:
            pyplot = importlib.import_module("matplotlib.pyplot")
        except ImportError as error:
            raise ImportError("plot: needs matplotlib: pip install matplotlib") from error
        height = 1.2 + 0.5 * len(bars)
        _, ax = pyplot.subplots(figsize=(8, height), layout="constrained")
    assert ax is not None
    names, parts = [*bars], [*next(iter(bars.values()))]
    left = [0.0] * len(names)
    for part in parts:
        widths = [bars[name][part] for name in names]
        ax.barh(names, widths, left=left, label=part, color=COLOURS[part])
        left = [a + b for a, b in zip(left, widths, strict=True)]
    ax.invert_yaxis()
    ax.set_xlabel("milliseconds an iteration (medians)")
    ax.legend(ncols=len(parts), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    return ax
