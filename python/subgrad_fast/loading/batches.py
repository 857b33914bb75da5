"""What a loader gathers from and into: the arrays given, and a ring of buffers like them."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from subgrad_fast import _core
from subgrad_fast._arrays import Array, empty_rows, is_torch, raw_view

Pack = Callable[[list[Array]], Any]


def unpack(arrays: Any) -> tuple[list[Array], list[str], Pack]:
    """Arrays, their names in messages, and what puts others into the same container."""
    if isinstance(arrays, Mapping | tuple | list) and len(arrays) == 0:
        raise ValueError("arrays: expected at least one array")
    if isinstance(arrays, Mapping):
        keys = list(arrays)
        names = [f"arrays[{key!r}]" for key in keys]
        return list(arrays.values()), names, lambda a: dict(zip(keys, a, strict=True))
    if isinstance(arrays, tuple | list):
        names = [f"arrays[{i}]" for i in range(len(arrays))]
        pack: Pack = list if isinstance(arrays, list) else getattr(type(arrays), "_make", tuple)
        return list(arrays), names, pack
    return [arrays], ["arrays"], lambda a: a[0]


def _is_mapped(array: npt.NDArray[Any]) -> bool:
    """Whether the memory of `array` is a file's."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap)


class Fields:
    """The arrays of one loader, wherever they lie, checked.

    Raises:
        TypeError, ValueError: as `BatchLoader` says.
    """

    arrays: list[Array]  # views of our own, for the caller may reshape his
    row_bytes: int  # of all arrays, as far as another thread can be of help with them
    mapped: bool  # whether memory of some is a file's

    def __init__(self, given: list[Array], names: list[str], pack: Pack, *, pin: bool) -> None:
        self.pack = pack
        self.pin = pin
        self.tensors = [i for i, a in enumerate(given) if is_torch(a)]
        for array, name in zip(given, names, strict=True):
            if array.ndim == 0:
                raise ValueError(f"{name}: expected at least one dimension")
            if len(array) != len(given[0]):
                raise ValueError(
                    f"{name}: has {len(array)} rows, but {names[0]} has {len(given[0])}"
                )
        self.rows = len(given[0])
        if self.rows == 0:
            raise ValueError(f"{names[0]}: has no rows")

    def ring(self, slots: int, *, background: bool, copy: bool) -> Slots:
        raise NotImplementedError


class HostFields(Fields):
    """Arrays in the host's memory."""

    def __init__(self, given: list[Array], names: list[str], pack: Pack, *, pin: bool) -> None:
        self.sources = [raw_view(a, name) for a, name in zip(given, names, strict=True)]
        super().__init__(given, names, pack, pin=pin)
        if pin:
            self._check_pin(names)
        self.arrays = [*self.sources]
        for i in self.tensors:
            self.arrays[i] = given[i].detach()
        # Objects have reference counts, so they cannot be copied as bytes.
        self.direct = [
            i
            for i, source in enumerate(self.sources)
            if _core.contiguous_rows(source) and not source.dtype.hasobject
        ]
        self.loose = [i for i in range(len(self.sources)) if i not in self.direct]
        self.row_bytes = sum(s.dtype.itemsize * (s.size // self.rows) for s in self.sources)
        self.mapped = any(_is_mapped(source) for source in self.sources)

    def ring(self, slots: int, *, background: bool, copy: bool) -> Ring:
        return Ring(self, slots, background=background, copy=copy)

    def _check_pin(self, names: list[str]) -> None:
        for i, name in enumerate(names):
            if i not in self.tensors:
                raise TypeError(f"pin: {name} is a NumPy array; only tensors can be pinned")
        if not sys.modules["torch"].accelerator.is_available():
            raise ValueError("pin: torch finds no accelerator to pin memory for")


class Slots:
    """A ring of buffers for one batch each. What is handed out are views, made once."""

    def __init__(self, fields: Fields, slots: int, *, background: bool, copy: bool) -> None:
        self.background = background
        self._fields = fields
        self._copy = copy
        self._buffers: list[list[Array]] = [[] for _ in range(slots)]
        self._rows = [-1] * slots
        self._tensors: list[list[Array]] = [[] for _ in range(slots)]
        self._batches: list[Any] = [None] * slots
        self._slots = slots
        self._slot = -1
        # Containers that the caller may change are made anew for each batch.
        self._keeps_batch = not isinstance(fields.pack([*fields.arrays]), list | dict)
        self._increment_version: Callable[[list[Array]], None] | None = None
        if fields.tensors:
            self._increment_version = sys.modules["torch"].autograd.graph.increment_version

    def _bind(self, slot: int, arrays: list[Array], rows: int) -> None:
        """Makes `arrays` the buffers that `_fill` gathers into."""
        raise NotImplementedError

    def _fill(self, slot: int, indices: Any) -> None:
        raise NotImplementedError

    def cancel(self) -> None:
        """Forgets what was begun and not waited for."""

    def _prepare(self, slot: int, rows: int) -> None:
        """Gives a slot views of `rows` rows."""
        fields, buffers = self._fields, self._buffers[slot]
        if self._copy or not buffers or len(buffers[0]) < rows:
            buffers = [empty_rows(array, rows, pin=fields.pin) for array in fields.arrays]
            self._buffers[slot] = buffers
        arrays = [buffer if len(buffer) == rows else buffer[:rows] for buffer in buffers]
        for i in fields.tensors:
            arrays[i] = arrays[i].detach()  # callers may set requires_grad on them
        self._bind(slot, arrays, rows)
        self._tensors[slot] = [arrays[i] for i in fields.tensors]
        self._batches[slot] = fields.pack(arrays) if self._keeps_batch else arrays
        self._rows[slot] = rows

    def _next_slot(self, indices: Any) -> int:
        try:
            rows = len(indices)
        except TypeError:
            name = type(indices).__name__
            raise TypeError(f"sampler: expected batches of indices, got {name}") from None
        self._slot = slot = (self._slot + 1) % self._slots
        if rows != self._rows[slot] or self._copy:
            self._prepare(slot, rows)
        if self._increment_version is not None:
            tensors = self._tensors[slot]
            for tensor in tensors:
                if tensor.requires_grad:  # the caller asked for it, for that batch
                    self._prepare(slot, rows)
                    tensors = self._tensors[slot]
                    break
            self._increment_version(tensors)
        return slot

    def gather(self, indices: Any) -> Any:
        """Fills the next slot and returns its batch."""
        slot = self._next_slot(indices)
        self._fill(slot, indices)
        return self._batches[slot] if self._keeps_batch else self._pack(slot)

    def _pack(self, slot: int) -> Any:
        """A new list or dict of a slot's arrays."""
        return self._fields.pack(self._batches[slot])


class Ring(Slots):
    """Batches in the host's memory, gathered at once or ahead of time by a thread of the core's."""

    def __init__(self, fields: HostFields, slots: int, *, background: bool, copy: bool) -> None:
        super().__init__(fields, slots, background=background, copy=copy)
        self._direct, self._loose, self._sources = fields.direct, fields.loose, fields.sources
        self._core = _core.GatherRing(
            [fields.sources[i] for i in fields.direct], fields.rows, slots
        )
        self._raw: list[list[npt.NDArray[Any]]] = [[] for _ in range(slots)]

    def _bind(self, slot: int, arrays: list[Array], rows: int) -> None:
        raw = [raw_view(array, "buffer") for array in arrays]
        self._core.bind(slot, [raw[i] for i in self._direct], rows)
        self._raw[slot] = raw

    def _index_loose(self, slot: int, indices: Any) -> None:
        chosen = np.asarray(indices, dtype=np.int64)
        for i in self._loose:
            self._raw[slot][i][...] = self._sources[i][chosen]

    def _fill(self, slot: int, indices: Any) -> None:
        self._core.gather(slot, indices)
        if self._loose:
            self._index_loose(slot, indices)

    def submit(self, indices: Any) -> int:
        """Has the next slot filled in the background. Returns the slot, to wait for."""
        slot = self._next_slot(indices)
        self._core.submit(slot, indices)
        if self._loose:
            self._index_loose(slot, indices)
        return slot

    def wait(self, slot: int) -> Any:
        """Returns the batch of a slot that has been submitted, when it is there."""
        self._core.wait(slot)
        return self._batches[slot] if self._keeps_batch else self._pack(slot)

    def cancel(self) -> None:
        """Forgets what was submitted and not waited for."""
        self._core.cancel()
