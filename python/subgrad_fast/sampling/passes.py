"""One pass through an epoch, and where a sampler stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from subgrad_fast._arrays import Array
from subgrad_fast._core.sampling import Cursor, Progress

if TYPE_CHECKING:
    from subgrad_fast.sampling.sampler import Sampler


class Place(NamedTuple):
    """Where a sampler stands, in one value: it changes all at once, whatever interrupts.

    Without a pass, `epoch` and `start` are where the next one begins. With one, the next begins at
    the epoch behind it, or, if that was chosen, at the same epoch `again`.
    """

    seed: int
    epoch: int = 0
    start: int = 0
    progress: Progress | None = None  # of the pass that was begun last
    again: bool = False

    def where(self) -> tuple[int, int]:
        """The epoch, and how many of its rows have been given."""
        if self.progress is None:
            return self.epoch, self.start
        if self.again and self.progress.over:
            return self.epoch, 0
        return self.progress.where

    def kept(self) -> Place:
        """The same place without the pass, for a copy that goes on there."""
        return Place(self.seed, *self.where())

    def next(self) -> Place:
        """Where the next pass begins."""
        if self.progress is None:
            return self
        epoch = self.progress.epoch
        return Place(self.seed, epoch if self.again else (epoch + 1) % 2**64)

    def moved(self, epoch: int) -> Place:
        """Where a sampler stands once `epoch` has been chosen for the next pass."""
        if self.progress is None:
            return self if epoch == self.epoch else Place(self.seed, epoch)
        if epoch == self.progress.epoch:
            return self._replace(epoch=epoch, again=True)
        return Place(self.seed, epoch)


class Pass(Cursor):
    """This rank's batches from a place to the end of its epoch."""

    def __init__(self, sampler: Sampler, fill: Callable[[int, int], Sequence[Any]]) -> None:
        self._sampler = sampler
        size = sampler._rows_per_batch
        needed = size if sampler.tail == "drop" else 1
        super().__init__(sampler._turns, sampler._enter, fill, size, needed, sampler.length)

    def state_dict(self) -> dict[str, int]:
        """Where this pass stands."""
        sampler = self._sampler
        if not self.begun:
            return sampler.state_dict()
        with sampler._turns:
            return sampler._state(self.progress.epoch, self.progress.position)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Goes on where `state` was taken."""
        with self._sampler._turns:
            self._sampler._load(state, self)


@dataclass(frozen=True, slots=True)
class Span:
    """A rank's part of a batch, before its rows are computed."""

    sampler: Sampler
    epoch: int
    runs: list[tuple[int, int]]  # positions: (start, count)

    def __len__(self) -> int:
        return sum(count for _, count in self.runs)

    def write(self, out: Array) -> None:
        """Computes the rows where `out` is, a contiguous int64 tensor of so many elements."""
        at = 0
        for start, count in self.runs:
            part = out if len(self.runs) == 1 else out[at : at + count]
            self.sampler._write(self.epoch, start, part)
            at += count
