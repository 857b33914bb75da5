"""torch's own passes, which say how far the caller has got."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import dataloader as torchs

from subgrad_fast.data.passes import Drawn


class Beginning:
    """What the pass draws that is just being begun.

    (It is apart from the loader, since torch's iterators hold it: one that a loader keeps would
    hold that, and its workers be ended by the garbage collector alone, which takes seconds.)
    """

    drawn: Drawn | None = None


class Handed:
    """The sampler of a loader for torch's iterators, which ask it anew for each of their passes."""

    def __init__(self, sampler: Any, beginning: Beginning) -> None:
        self._sampler = sampler
        self._beginning = beginning

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Any]:
        drawn = self._beginning.drawn
        if drawn is None:
            return iter(self._sampler)
        return drawn.noted() if drawn.is_plain else drawn


class _Counted:
    """A pass that says so for each batch that is taken."""

    drawn: Drawn

    def _next_data(self) -> Any:
        try:
            batch = super()._next_data()  # type: ignore[misc]
        except StopIteration:
            self.drawn.finish()
            raise
        self.drawn.count()
        return batch


class InThisProcess(_Counted, torchs._SingleProcessDataLoaderIter):
    """torch's pass without workers."""


class InWorkers(_Counted, torchs._MultiProcessingDataLoaderIter):
    """torch's pass with workers."""


class Plain(torchs._SingleProcessDataLoaderIter):
    """torch's pass without workers, whose own count is read while it lives, and left behind.

    To count as well would cost a twentieth of the time of an item that costs nothing else.
    """

    drawn: Drawn | None = None

    @property
    def taken(self) -> int:
        """Batches that the caller has got of this pass."""
        return self._num_yielded

    def __del__(self) -> None:
        if self.drawn is not None:
            self.drawn.leave(self._num_yielded)
