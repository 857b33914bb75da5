"""A ring of buffers that a loader gathers batches into."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from subgrad_fast import _core
from subgrad_fast._arrays import Array, empty_rows, raw_view
from subgrad_fast.loading.fields import Fields


class Ring:
    """Slots for one batch each. What is handed out are views, made once.

    Args:
        fields: what is gathered from.
        slots: how many batches there may be at a time.
        background: batches are gathered ahead of time by a thread of the core's.
        copy: every batch has buffers of its own.
    """

    def __init__(self, fields: Fields, slots: int, *, background: bool, copy: bool) -> None:
        self.background = background
        self._fields = fields
        self._copy = copy
        self._slots = slots
        self._slot = -1
        self._rows = [-1] * slots
        self._buffers: list[list[Array]] = [[] for _ in range(slots)]
        self._tensors: list[list[Array]] = [[] for _ in range(slots)]
        self._outputs: list[list[Array]] = [[] for _ in range(slots)]  # as the kernels write them
        self._batches: list[Any] = [None] * slots
        # Containers that the caller may change are made anew for each batch.
        self._keeps_batch = not isinstance(fields.pack([*fields.arrays]), list | dict)
        self._increment_version: Callable[[list[Array]], None] | None = None
        if fields.tensors:
            self._increment_version = sys.modules["torch"].autograd.graph.increment_version
        self._core = _core.loading.Ring(
            [fields.sources[i] for i in fields.direct], fields.rows, slots, fields.sources[0]
        )

    def gather(self, indices: Any) -> Any:
        """Fills the next slot and returns its batch."""
        slot = self._next_slot(indices)
        self._core.gather(slot, indices)
        if self._fields.loose:
            self._index_loose(slot, indices)
        return self._batches[slot] if self._keeps_batch else self._fields.pack(self._batches[slot])

    def submit(self, indices: Any) -> int:
        """Has the next slot filled in the background. Returns the slot, to wait for."""
        slot = self._next_slot(indices)
        self._core.submit(slot, indices)
        if self._fields.loose:
            self._index_loose(slot, indices)
        return slot

    def wait(self, slot: int) -> Any:
        """Returns the batch of a slot that has been submitted, when it is there."""
        self._core.wait(slot)
        return self._batches[slot] if self._keeps_batch else self._fields.pack(self._batches[slot])

    def cancel(self) -> None:
        """Forgets what was submitted and not waited for."""
        self._core.cancel()

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

    def _prepare(self, slot: int, rows: int) -> None:
        """Gives a slot views of `rows` rows. Where it ends too early, the slot is prepared anew."""
        self._rows[slot] = -1
        fields, buffers = self._fields, self._buffers[slot]
        if self._copy or not buffers or len(buffers[0]) < rows:
            buffers = [empty_rows(array, rows, pin=fields.pin) for array in fields.arrays]
            self._buffers[slot] = buffers
        arrays = [buffer if len(buffer) == rows else buffer[:rows] for buffer in buffers]
        for i in fields.tensors:
            arrays[i] = arrays[i].detach()  # callers may set requires_grad on them
        if fields.device is None:
            outputs = [raw_view(array, "buffer") for array in arrays]
        else:
            outputs = [array.detach() for array in arrays]
        self._core.bind(slot, [outputs[i] for i in fields.direct], rows)
        self._outputs[slot] = outputs
        self._tensors[slot] = [arrays[i] for i in fields.tensors]
        self._batches[slot] = fields.pack(arrays) if self._keeps_batch else arrays
        self._rows[slot] = rows

    def _index_loose(self, slot: int, indices: Any) -> None:
        """Has the arrays' library index those whose rows are no runs of bytes."""
        fields, outputs = self._fields, self._outputs[slot]
        if fields.device is None:
            chosen = np.asarray(indices, dtype=np.int64)
            for i in fields.loose:
                outputs[i][...] = fields.sources[i][chosen]
            return
        chosen = self._core.indices_on_device(slot)
        for i in fields.loose:
            sys.modules["torch"].index_select(fields.sources[i], 0, chosen, out=outputs[i])
