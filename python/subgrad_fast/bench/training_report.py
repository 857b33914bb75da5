"""What `compare` returns: the figures of a training loop, as text, JSON, HTML and a plot.

Nothing here knows torch: a report that was kept as JSON is read and shown anywhere.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgrad_fast.bench import bars, web
from subgrad_fast.bench.harness import quartiles
from subgrad_fast.bench.report import duration, load, number, padded, where

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KIND = "training"
PARTS = ("data", "forward", "backward", "clip", "step", "zero_grad")
"""What an iteration is made of, in its order."""
MODEL = ("forward", "backward")
"""The parts that are the model's; the others are what stands between."""
LABELS = {"between": "beside forward and backward", "total": "an iteration"}
Rounds = list[list[dict[str, int]]]
"""Rounds -> steps -> nanoseconds of each part."""


def _spans(rounds: Rounds, what: str) -> list[list[int]]:
    """Nanoseconds of a part, or of a sum of parts, by rounds."""

    def one(parts: Mapping[str, int]) -> int:
        if what in parts:
            return parts[what]
        return sum(ns for part, ns in parts.items() if what == "total" or part not in MODEL)

    return [[one(parts) for parts in steps] for steps in rounds]


def _figures(rounds: Rounds, what: str) -> dict[str, float]:
    values = [*chain(*_spans(rounds, what))]
    return {"median_ns": statistics.median(values), "min_ns": min(values)}


def _faster(reference: Rounds, rounds: Rounds, what: str) -> dict[str, Any]:
    """How many times as fast as the reference, by the medians, and by each round's medians."""
    theirs, ours = (_spans(each, what) for each in (reference, rounds))
    medians = [statistics.median(chain(*spans)) for spans in (theirs, ours)]
    paired = [
        statistics.median(a) / statistics.median(b)
        for a, b in zip(theirs, ours, strict=True)
        if statistics.median(b)
    ]
    ratio = medians[0] / medians[1] if medians[1] else None
    return {"times_faster": ratio, "quartiles_paired": quartiles(paired)}


def summarize(
    facts: Mapping[str, Any],
    rounds: Mapping[str, Rounds],
    *,
    losses: Mapping[str, float],
    optimizers: Mapping[str, str],
    agreements: Mapping[str, Mapping[str, Any]],
    failed: Mapping[str, str],
) -> Report:
    """Make a report of what was measured. The first contender is the reference."""
    reference, *_ = rounds
    contenders = {}
    for name, each in rounds.items():
        parts = {part: _figures(each, part) for part in each[0][0]}
        sums = {what: _figures(each, what) for what in LABELS}
        contenders[name] = {
            "optimizer": optimizers[name],
            "parts": parts,
            **sums,
            "faster": {what: _faster(rounds[reference], each, what) for what in LABELS},
            "loss": losses[name] if math.isfinite(losses[name]) else str(losses[name]),
            "weights": dict(agreements.get(name, {})),
        }
    measured = rounds[reference]
    return Report(
        {
            "kind": KIND,
            **facts,
            "reference": reference,
            "rounds": len(measured),
            "block": len(measured[0]),
            "contenders": contenders,
            "failed": dict(failed),
        }
    )


class Report:
    """The figures of one comparison.

    ``print(report)`` shows the table; a notebook shows `to_html`.

    Attributes:
        figures: all of them, as the JSON has them: by contender each part's median and minimum in
            nanoseconds, how many times faster than the reference it is, its weights beside the
            reference's.
    """

    def __init__(self, figures: Any) -> None:
        if not isinstance(figures, Mapping) or figures.get("kind") != KIND:
            raise ValueError("figures: expected those of a report of `compare`")
        self.figures = dict(figures)

    @classmethod
    def from_json(cls, path: str | Path) -> Report:
        """Read a report that `to_json` has written to a file."""
        return cls(json.loads(Path(path).read_text(encoding="utf-8")))

    @property
    def reference(self) -> str:
        """The contender that the others are held against."""
        return str(self.figures["reference"])

    @property
    def failed(self) -> dict[str, str]:
        """Contenders that could not take part, and why."""
        return dict(self.figures["failed"])

    @property
    def parts(self) -> list[str]:
        """The parts of an iteration that any contender has, in their order."""
        contenders = self.figures["contenders"].values()
        return [part for part in PARTS if any(part in c["parts"] for c in contenders)]

    @property
    def agree(self) -> bool:
        """Whether all weights that are promised to have the reference's bits have them."""
        return not self.broken_promises()

    def broken_promises(self) -> list[str]:
        """The contenders whose weights must have the reference's bits, and have not."""
        return [
            name
            for name, contender in self.figures["contenders"].items()
            if contender["weights"].get("promised") and not contender["weights"]["same_bits"]
        ]

    def times_faster(self, name: str, what: str = "total") -> float | None:
        """How many times as fast as the reference a contender is.

        Args:
            name: the contender.
            what: "total", an iteration, or "between", what is beside forward and backward of it.
        """
        if name not in self.figures["contenders"]:
            raise ValueError(f"name: there is no contender {name!r}")
        if what not in LABELS:
            raise ValueError(f"what: expected 'total' or 'between', got {what!r}")
        found = self.figures["contenders"][name]["faster"][what]["times_faster"]
        return None if found is None else float(found)

    def _faster_cell(self, name: str, what: str) -> str:
        ratio = self.times_faster(name, what)
        if name == self.reference or ratio is None:
            return ""
        ends = self.figures["contenders"][name]["faster"][what]["quartiles_paired"]
        spread = f" ({number(ends[0])} to {number(ends[1])})" if ends else ""
        return f"{number(ratio)}{spread}" + (", slower" if ratio < 1 else "")

    def _weights_cell(self, name: str) -> str:
        weights = self.figures["contenders"][name]["weights"]
        if not weights:
            return ""
        if not weights["same_batches"]:
            return "other batches"
        if weights["same_bits"]:
            return "same bits"
        gap = f"{weights['largest_difference']:.1e} of the largest"
        return f"DIFFER, {gap}" if weights["promised"] else f"within {gap}"

    def table(self) -> list[list[str]]:
        """The header and the lines: a line for each part, the sums, the ratios and the weights."""
        contenders = self.figures["contenders"]

        def line(label: str, cell: Callable[[str], str]) -> list[str]:
            return [label, *(cell(name) for name in contenders)]

        def time_of(part: str) -> Callable[[str], str]:
            return lambda name: (
                duration(contenders[name]["parts"][part]["median_ns"])
                if part in contenders[name]["parts"]
                else ""
            )

        def sum_of(what: str) -> Callable[[str], str]:
            return lambda name: duration(contenders[name][what]["median_ns"])

        def ratio_of(what: str) -> Callable[[str], str]:
            return lambda name: self._faster_cell(name, what)

        return [
            ["", *contenders],
            *(line(part, time_of(part)) for part in self.parts),
            *(line(label, sum_of(what)) for what, label in LABELS.items()),
            *(line(f"times faster, {label}", ratio_of(what)) for what, label in LABELS.items()),
            line("weights", self._weights_cell),
        ]

    def notes(self) -> list[str]:
        """What stands around the table, a sentence each."""
        f = self.figures
        steps = f["rounds"] * f["block"]
        names = (f"{name} is {c['optimizer']}" for name, c in f["contenders"].items())
        turns = f"{steps} steps of each, {f['block']} by turns in {f['rounds']} rounds"
        found = [
            f"{f['model']}; batches {f['batch']}; threads {f['threads']}.",
            f"Medians of {turns}; in brackets the middle half of the rounds.",
            f"Times faster than {self.reference}: {'; '.join(names)}.",
        ]
        found += [f"{name} took no part: {why}" for name, why in f["failed"].items()]
        found += [
            f"{name} DIFFERS in its bits from {self.reference}, which is a fault: please report it."
            for name in self.broken_promises()
        ]
        return [*found, load(f), where(f)]

    def __str__(self) -> str:
        return "\n".join([padded(self.table()), "", *(f"- {note}" for note in self.notes())])

    def __repr__(self) -> str:
        return f"<Report of {', '.join(self.figures['contenders'])}: {self.figures['model']}>"

    def to_json(self, path: str | Path | None = None) -> str:
        """The figures as JSON; written to a file if there is a `path`."""
        return _kept(json.dumps(self.figures, indent=1) + "\n", path)

    def to_html(self, path: str | Path | None = None) -> str:
        """A page that needs nothing else: bars, table, notes; written to a file if given one."""
        return _kept(web.page(self.figures["model"], self._repr_html_()), path)

    def _repr_html_(self) -> str:
        return bars.fragment(self._bars(), self.table(), self.notes())

    def _bars(self) -> dict[str, dict[str, float]]:
        """Milliseconds by contender and part."""
        return {
            name: {
                part: c["parts"].get(part, {"median_ns": 0})["median_ns"] / 1e6
                for part in self.parts
            }
            for name, c in self.figures["contenders"].items()
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw a bar for each contender, of the parts of an iteration. Needs matplotlib.

        Args:
            ax: where to draw; None makes a figure.
        """
        return bars.plot(self._bars(), ax)


def _kept(text: str, path: str | Path | None) -> str:
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text
