"""What a thresholded step reports."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

from subgrad_fast import _core
from subgrad_fast._arrays import Array
from subgrad_fast.select.magnitudes import Selection


def _numbers(values: Any) -> list[Any]:
    """Numbers in a list; an array on a device is waited for."""
    return values if isinstance(values, list) else list(values.tolist())


class _Place(NamedTuple):
    on_host: bool
    kept: list[int]
    thresholds: list[float]
    energies: list[float] | None


class _Member(NamedTuple):
    place: int
    tensor: int
    scope: int


class _Report(NamedTuple):
    """A report of the core as plain numbers: what a pickle holds."""

    places: list[_Place]
    members: list[_Member]
    sizes: list[int]
    selections: list[tuple[Array, Array]] | None
    grad_norm: float | None = None


Report: TypeAlias = "_core.threshold.Report | _Report"


class ThresholdResult:
    """What a thresholded step did.

    Of tensors on a device nothing is waited for until it is asked for: `kept`, `thresholds`,
    `energies` and what is derived from them read the numbers whenever they are looked at (in a
    captured graph those of its last replay).

    Attributes:
        sizes: how many elements there are, one number for each tensor.
        selections: what was applied, one `Selection` for each tensor; None unless asked for.
        grad_norm: the norm of all gradients together, divided by `grad_scale`, before they were
            clipped: not finite where they stopped the step. None where nothing asked for it.
    """

    sizes: list[int]
    selections: list[Selection] | None
    grad_norm: float | None

    def __init__(self, report: Report) -> None:
        self._report = report
        self._places = report.places
        self.sizes = report.sizes
        self.grad_norm = report.grad_norm
        self.selections = None
        if report.selections is not None:
            thresholds = [self._places[m.place].thresholds[m.scope] for m in report.members]
            self.selections = [
                Selection(indices, values, threshold)
                for (indices, values), threshold in zip(report.selections, thresholds, strict=True)
            ]

    def __repr__(self) -> str:
        where = "" if all(place.on_host for place in self._places) else ", on a device"
        return f"ThresholdResult(of {len(self.sizes)} tensors, {sum(self.sizes)} elements{where})"

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle has the numbers, which are waited for, and the selections."""
        places = [
            _Place(
                True,
                _numbers(place.kept),
                _numbers(place.thresholds),
                None if place.energies is None else _numbers(place.energies),
            )
            for place in self._places
        ]
        members = [_Member(m.place, m.tensor, m.scope) for m in self._report.members]
        selections = self._report.selections
        return ThresholdResult, (_Report(places, members, self.sizes, selections, self.grad_norm),)

    @property
    def kept(self) -> list[int]:
        """How many elements were applied, one number for each tensor."""
        by_place = [_numbers(place.kept) for place in self._places]
        return [by_place[m.place][m.tensor] for m in self._report.members]

    @property
    def thresholds(self) -> list[float]:
        """The least magnitude that was applied (of exact selection: the k-th largest), one for each
        tensor; infinity where nothing was to be kept."""
        by_place = [_numbers(place.thresholds) for place in self._places]
        return [by_place[m.place][m.scope] for m in self._report.members]

    @property
    def energies(self) -> list[tuple[float, float]] | None:
        """Sums of squares (of what was kept, of what was not), a pair for each tensor; None unless
        measured. The same bits on every instruction set and number of threads."""
        if any(place.energies is None for place in self._places):
            return None
        by_place = [_numbers(place.energies) for place in self._places]
        return [
            (by_place[m.place][2 * m.tensor], by_place[m.place][2 * m.tensor + 1])
            for m in self._report.members
        ]

    @property
    def density(self) -> float:
        """The share of elements that were applied; 0 of no elements."""
        return sum(self.kept) / max(1, sum(self.sizes))

    @property
    def energy_kept(self) -> float | None:
        """The applied share of the sum of squares; 1 where there is none. None unless measured."""
        energies = self.energies
        if energies is None:
            return None
        kept, rest = (math.fsum(e) for e in zip((0.0, 0.0), *energies, strict=True))
        return kept / (kept + rest) if kept + rest != 0.0 else 1.0

    @property
    def residual_norm(self) -> float | None:
        """The Euclidean norm of what was not applied. None unless measured."""
        energies = self.energies
        return None if energies is None else math.sqrt(math.fsum(rest for _, rest in energies))

    @property
    def device_kept(self) -> Array | None:
        """`kept` where it is, int64 on the device; None unless all tensors are on one."""
        return self._on_device("kept")

    @property
    def device_thresholds(self) -> Array | None:
        """The thresholds where they are, float64 on the device, one for each: by tensor, or one for
        a global one. None unless all tensors are on one device."""
        return self._on_device("thresholds")

    @property
    def device_energies(self) -> Array | None:
        """The energies where they are, float64 on the device, two for each tensor; None unless
        measured, with all tensors on one device."""
        return self._on_device("energies")

    def _on_device(self, name: str) -> Array | None:
        if len(self._places) != 1 or self._places[0].on_host:
            return None
        return getattr(self._places[0], name)
