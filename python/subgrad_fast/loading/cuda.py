"""Batches on a GPU: what a loader gathers from and into there."""

from __future__ import annotations

import sys
from typing import Any

from subgrad_fast import _core
from subgrad_fast._arrays import Array, is_torch, new_indices
from subgrad_fast.loading.batches import Fields, HostFields, Pack, Slots, unpack


def fields_of(arrays: Any, *, pin: bool) -> Fields:
    """The arrays of a loader, checked."""
    given, names, pack = unpack(arrays)
    devices = [_core.cuda_device(array) for array in given]
    for device, name in zip(devices, names, strict=True):
        if device != devices[0]:
            raise ValueError(
                f"{name}: expected memory on {_text(devices[0])} like {names[0]}, "
                f"got {_text(device)}"
            )
    if devices[0] is None:
        return HostFields(given, names, pack, pin=pin)
    return CudaFields(given, names, pack, pin=pin, device=devices[0])


def _text(device: int | None) -> str:
    return "the host" if device is None else f"cuda:{device}"


class CudaFields(Fields):
    """Tensors on one device."""

    def __init__(
        self, given: list[Array], names: list[str], pack: Pack, *, pin: bool, device: int
    ) -> None:
        for array, name in zip(given, names, strict=True):
            if not is_torch(array):
                raise TypeError(f"{name}: expected a torch tensor, got {type(array).__name__}")
            if array.is_conj() or array.is_neg():
                raise ValueError(f"{name}: is a conjugated or negated view; resolve it first")
        problem = _core.cuda_problem(device)
        if problem is not None:
            raise ValueError(f"{names[0]}: is on cuda:{device}, but {problem}")
        if pin:
            raise ValueError(f"pin: {names[0]} is on cuda:{device}; only host memory can be pinned")
        super().__init__(given, names, pack, pin=pin)
        self.arrays = [array.detach() for array in given]
        self.direct = [i for i, a in enumerate(self.arrays) if _core.cuda_rows(a)]
        self.row_bytes, self.mapped = 0, False  # no thread pays: the device works beside the host
        self.loose = [i for i in range(len(self.arrays)) if i not in self.direct]

    def ring(self, slots: int, *, background: bool, copy: bool) -> CudaRing:
        return CudaRing(self, slots, background=background, copy=copy)


class CudaRing(Slots):
    """Batches on a device, each gathered when it is taken, in torch's current stream."""

    def __init__(self, fields: CudaFields, slots: int, *, background: bool, copy: bool) -> None:
        super().__init__(fields, slots, background=background, copy=copy)
        self._loose, self._source_rows = fields.loose, fields.rows
        self._all = fields.arrays
        self._sources = [fields.arrays[i] for i in fields.direct]
        self._direct = fields.direct
        self._index = sys.modules["torch"].index_select
        self._outputs: list[list[Array]] = [[] for _ in range(slots)]
        self._indices: list[Array] = [None] * slots  # int64 on the device

    def _bind(self, slot: int, arrays: list[Array], rows: int) -> None:
        self._outputs[slot] = [array.detach() for array in arrays]
        self._indices[slot] = new_indices(arrays[0], rows)

    def _fill(self, slot: int, indices: Any) -> None:
        on_device, outputs = self._indices[slot], self._outputs[slot]
        write = getattr(indices, "write", None)  # a sampler's Span: it can compute them there
        if write is not None:
            write(on_device)
        else:
            _core.cuda_send_indices(indices, self._source_rows, on_device)
        _core.cuda_gather(self._sources, [outputs[i] for i in self._direct], on_device)
        for i in self._loose:
            self._index(self._all[i], 0, on_device, out=outputs[i])
