"""The thresholded step on arrays of a device: the memory it needs, and what it reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from subgrad_fast import _core
from subgrad_fast._arrays import Array
from subgrad_fast._device import address, empty, outputs_like, read
from subgrad_fast.select.magnitudes import Selection
from subgrad_fast.threshold.result import INDEX_BYTES, Scopes, ThresholdResult, size_of


class DeviceThresholdResult(ThresholdResult):
    """What a thresholded step on a device did.

    Nothing is waited for until it is asked for: `kept`, `thresholds`, `energies` and what is
    derived from them read the numbers from the device whenever they are looked at (in a captured
    graph those of its last replay).

    Attributes:
        device_kept: the counts where they are, int64 on the device, one for each tensor.
        device_thresholds: float64 on the device, one for each threshold: by tensor, or one for a
            global one.
        device_energies: float64 on the device, two for each tensor; None unless measured.
    """

    def __init__(
        self,
        sizes: list[int],
        scopes: list[int],
        kept: Array,
        thresholds: Array,
        energies: Array | None,
        selections: list[Selection] | None,
    ) -> None:
        values = {
            "sizes": sizes,
            "selections": selections,
            "device_kept": kept,
            "device_thresholds": thresholds,
            "device_energies": energies,
            "_scopes": scopes,
        }
        self.__dict__.update(values)  # the class is frozen

    device_kept: Array
    device_thresholds: Array
    device_energies: Array | None
    _scopes: list[int]

    @property
    def kept(self) -> list[int]:
        return read(self.device_kept)

    @property
    def thresholds(self) -> list[float]:
        by_scope = read(self.device_thresholds)
        return [by_scope[scope] for scope in self._scopes]

    @property
    def energies(self) -> list[tuple[float, float]] | None:
        if self.device_energies is None:
            return None
        numbers = read(self.device_energies)
        return list(zip(numbers[::2], numbers[1::2], strict=True))


class JoinedThresholdResult(ThresholdResult):
    """What steps on several devices did, in the order of all tensors; read when it is looked at."""

    def __init__(self, parts: list[ThresholdResult], order: list[tuple[int, int]]) -> None:
        """`order`: for each tensor its part, and its number there."""
        self.__dict__.update(_parts=parts, _order=order)  # the class is frozen

    _parts: list[ThresholdResult]
    _order: list[tuple[int, int]]

    def _join(self, name: str) -> Any:
        columns = [getattr(part, name) for part in self._parts]
        if None in columns:
            return None
        return [columns[part][i] for part, i in self._order]

    kept = property(lambda self: self._join("kept"))
    sizes = property(lambda self: self._join("sizes"))
    thresholds = property(lambda self: self._join("thresholds"))
    energies = property(lambda self: self._join("energies"))
    selections = property(lambda self: self._join("selections"))


class DeviceStep:
    """One step on one device, in its library's stream; nothing is written before `run`.

    Args:
        params, grads, residuals, momenta: as in `threshold_step`; `tensors`: params as a list.
        rows, requests, placements, scopes: hyper-parameters, selectors, and which tensor has which.
        emit, measure: as in `threshold_step`.
        threshold: one float64 on the device, read in place of the selectors'.
        rates: by row, a learning rate on the device or None.
    """

    def __init__(
        self,
        params: Any,
        tensors: list[Array],
        grads: Any,
        residuals: Any,
        momenta: Any,
        rows: list[_core.ThresholdParams],
        requests: list[_core.Selector],
        placements: list[_core.Placement],
        scopes: Scopes,
        emit: str | None,
        measure: bool,
        threshold: Array | None = None,
        rates: Sequence[Array | None] = (),
    ) -> None:
        self.tensors, self.scopes = tensors, scopes
        self.emit, self.measure = emit, measure
        self.step = _core.CudaThresholdStep(
            params,
            grads,
            residuals,
            momenta,
            rows,
            requests,
            placements,
            INDEX_BYTES[emit],
            measure,
            threshold,
            list(rates),
        )

    def run(self, versioned: list[Array], capacity: int | None = None) -> DeviceThresholdResult:
        """Takes the step.

        Args:
            versioned: torch tensors that are written.
            capacity: as in `threshold_step`.
        """
        step, tensors, of_tensor = self.step, self.tensors, self.scopes.of_tensor
        like = tensors[0]
        scratch = empty(like, step.scratch_bytes, "uint8")
        kept = empty(like, len(tensors), "int64")
        thresholds = empty(like, len(self.scopes.sizes), "float64")
        energies = empty(like, 2 * len(tensors), "float64") if self.measure else None
        step.begin(
            address(scratch),
            address(kept),
            address(thresholds),
            address(energies),
            capacity,
            versioned,
        )
        selections: list[Selection] | None = None
        outputs: list[tuple[int, int, int]] = []
        if self.emit is not None:
            counts = [capacity] * len(tensors) if capacity is not None else read(kept)
            dtypes = ["float64" if "float64" in str(t.dtype) else "float32" for t in tensors]
            made, outputs = outputs_like(tensors, counts, self.emit, dtypes)
            selections = [
                Selection(indices, values, thresholds[scope])
                for (indices, values), scope in zip(made, of_tensor, strict=True)
            ]
        step.finish(outputs)
        sizes = [size_of(t) for t in tensors]
        return DeviceThresholdResult(sizes, of_tensor, kept, thresholds, energies, selections)
