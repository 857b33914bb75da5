"""Stacked bars of an iteration's parts: as HTML without anything else, and by matplotlib."""

from __future__ import annotations

import html
import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from subgrad_fast.bench import web

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


def _bar(name: str, parts: Mapping[str, float], longest: float) -> str:
    pieces = "".join(
        f'<div title="{part}: {ms:.4g} ms" '
        f'style="width:{ms / longest:.3%};background:{COLOURS[part]}"></div>'
        for part, ms in parts.items()
    )
    return (
        f"<div>{html.escape(name)}, {sum(parts.values()):.4g} ms</div><div class=bar>{pieces}</div>"
    )


def fragment(bars: Bars, lines: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """Bars, table and notes, to stand in a page of others."""
    longest = max(sum(parts.values()) for parts in bars.values()) or 1.0
    parts = next(iter(bars.values()))
    key = "".join(f'<span style="background:{COLOURS[part]}"></span>{part}' for part in parts)
    drawn = "".join(_bar(name, each, longest) for name, each in bars.items())
    return (
        f"{web.STYLE}<div class=sgf>{drawn}<div class=key>{key}</div>"
        f"{web.table(lines)}{web.notes(notes)}</div>"
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
