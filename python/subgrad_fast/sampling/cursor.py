"""What all samplers share: batches of an order, a rank's part of them, where an epoch stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from subgrad_fast._arrays import Array
from subgrad_fast.sampling._checks import Indices, integer, seed_or_epoch

_VERSION = 1
_TAILS = ("partial", "drop", "pad")
_CHUNK = 4096  # rows computed at a time where batches are small


class Sampler:
    """Base of the samplers: an epoch is `length` rows in an order that a subclass defines.

    Iterating yields this rank's part of one batch after the other (int64 arrays), or single rows
    (ints) if `batch_size` is None: the ``batch_sampler`` or the ``sampler`` of a torch DataLoader.
    An iterator starts at the beginning of the epoch; the first one after `load_state_dict` starts
    where the state was taken. When it is exhausted, the epoch counts up, so that every pass has its
    own order; `set_epoch` chooses one.

    Sampler and iterator have ``state_dict()`` and ``load_state_dict()``, as torchdata's
    StatefulDataLoader expects. A state is a few integers, and may be loaded with another rank,
    world size or batch size: the rows go on where they stopped, none lost and none twice.
    """

    def __init__(
        self,
        length: int,
        batch_size: int | None,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        tail: str = "partial",
    ) -> None:
        self.world_size = integer("world_size", world_size, 1)
        self.rank = integer("rank", rank, 0, self.world_size - 1)
        self.batch_size = None if batch_size is None else integer("batch_size", batch_size, 1)
        if tail not in _TAILS:
            raise ValueError(f"tail: expected one of {', '.join(_TAILS)}, got {tail!r}")
        self.tail = tail
        self.seed = seed_or_epoch("seed", seed)
        self.length = length
        # Single rows are batches of one row a rank.
        self._rows_per_batch = self.world_size if self.batch_size is None else self.batch_size
        if self.world_size > self._rows_per_batch:
            raise ValueError(
                f"batch_size: expected at least one row for each of {self.world_size} ranks, got "
                f"{batch_size} (it counts the rows of all ranks)"
            )
        if self.batch_size is not None and self.batch_size > length:
            raise ValueError(
                f"batch_size: {self.batch_size} is larger than an epoch of {length} rows"
            )
        self._epoch = 0
        self._start = 0  # where the next iterator starts
        self._iterator: _Batches | None = None  # the one whose position is ours

    def rows(self, epoch: int, start: int, count: int) -> Indices:
        """The rows at positions start, start + 1, ... of an epoch, of all ranks together, int64."""
        raise NotImplementedError

    n: int  # rows that are sampled from

    @property
    def _on_gpu(self) -> bool:
        """Whether the rows can be computed on a GPU too. Those of a subclass may be others."""
        return False

    def _write(self, epoch: int, start: int, out: Array) -> None:
        """Computes what `rows` returns on a GPU, into an int64 tensor there."""
        raise NotImplementedError

    # --- batches ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Batches that a rank gets in a whole epoch, the same number for every rank.

        Of single rows some ranks get one more than others, unless ``tail`` drops or pads.
        """
        whole, rest = divmod(self.length, self._rows_per_batch)
        if self.tail == "drop" or rest == 0:
            return whole
        begin, end = self._share(whole * self._rows_per_batch)
        return whole + 1 if self.batch_size is not None or begin < end else whole

    def __iter__(self) -> Iterator[Any]:
        self._iterator = _Batches(self, self._epoch, self._start)
        self._start = 0
        return self._iterator

    def _batches_for_gpu(self, rows: int) -> Iterator[Any]:
        """``iter(self)`` for arrays of so many rows on a GPU: of `Span`, where rows can be computed
        there. (Where some may be outside the arrays, the host has to look at them.)"""
        if not self._on_gpu or self.batch_size is None or self.n > rows:
            return iter(self)
        self._iterator = _Batches(self, self._epoch, self._start, spans=True)
        self._start = 0
        return self._iterator

    def batch(self, step: int, *, epoch: int | None = None) -> Indices:
        """This rank's part of batch `step` of an epoch (default: the current one)."""
        step = integer("step", step, 0, len(self) - 1)
        epoch = self._epoch if epoch is None else seed_or_epoch("epoch", epoch)
        return self._part(epoch, step * self._rows_per_batch)

    def valid(self, step: int) -> npt.NDArray[np.bool_]:
        """Which rows of ``batch(step)`` are no padding (``tail="pad"`` repeats rows)."""
        step = integer("step", step, 0, len(self) - 1)
        begin, end = self._share(step * self._rows_per_batch)
        return np.arange(begin, end) < self.length

    def _share(self, position: int) -> tuple[int, int]:
        """This rank's positions in the batch that starts at `position`."""
        size = self._rows_per_batch
        if self.tail != "pad":
            size = min(size, self.length - position)
        begin = size * self.rank // self.world_size
        end = size * (self.rank + 1) // self.world_size
        return position + begin, position + end

    def _runs(self, position: int) -> list[tuple[int, int]]:
        """The same as runs of positions of the epoch: (start, count), one or two."""
        begin, end = self._share(position)
        if end <= self.length:
            return [(begin, end - begin)]
        # Padding: the epoch's first rows once more.
        runs = [(begin, self.length - begin)] if begin < self.length else []
        begin = max(begin, self.length) - self.length
        return [*runs, (begin, end - self.length - begin)]

    def _part(self, epoch: int, position: int) -> Indices:
        pieces = [self.rows(epoch, start, count) for start, count in self._runs(position)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _has_batch(self, position: int) -> bool:
        needed = self._rows_per_batch if self.tail == "drop" else 1
        return position + needed <= self.length

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: these continue where this one stands."""
        return {**self.__dict__, "_start": self.position, "_iterator": None}

    # --- state -----------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The epoch that the current or the next iterator goes through."""
        return self._epoch

    @property
    def position(self) -> int:
        """How many rows of the epoch all ranks together have been given."""
        return self._start if self._iterator is None else self._iterator.position

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iterator. The current one changes nothing: not the position
        either, so that training loops may call it after `load_state_dict`."""
        epoch = seed_or_epoch("epoch", epoch)
        if epoch != self._epoch:
            self._go_to(epoch, 0)

    def state_dict(self) -> dict[str, int]:
        """Where the epoch stands after the batches yielded so far, as a few integers."""
        return self._state(self._epoch, self.position)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues where `state` was taken: the next iterator yields what would have followed."""
        self._go_to(*self._check_state(state))

    def _state(self, epoch: int, position: int) -> dict[str, int]:
        return {"version": _VERSION, "seed": self.seed, "epoch": epoch, "position": position}

    def _check_state(self, state: dict[str, int]) -> tuple[int, int]:
        missing = {"version", "seed", "epoch", "position"} - set(state)
        if missing:
            raise ValueError(f"state: {', '.join(sorted(missing))} missing")
        if state["version"] != _VERSION:
            raise ValueError(f"state: expected version {_VERSION}, got {state['version']!r}")
        seed = seed_or_epoch("state['seed']", state["seed"])
        epoch = seed_or_epoch("state['epoch']", state["epoch"])
        position = integer("state['position']", state["position"], 0, self.length)
        self.seed = seed
        return epoch, position

    def _go_to(self, epoch: int, position: int) -> None:
        self._iterator = None
        self._epoch = epoch
        self._start = position

    def _finished(self, iterator: _Batches) -> None:
        if self._iterator is iterator:
            self._go_to(iterator.epoch + 1, 0)


@dataclass(frozen=True, slots=True)
class Span:
    """This rank's part of a batch, before its rows are computed."""

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


class _Batches:
    """One pass: this rank's batches from a position to the end of an epoch."""

    __slots__ = ("_chunk", "_next", "_sampler", "_spans", "epoch", "position")

    def __init__(self, sampler: Sampler, epoch: int, position: int, *, spans: bool = False) -> None:
        self._spans = spans
        self._sampler = sampler
        self.epoch = epoch
        self.position = position  # of all ranks, behind the last batch that was yielded
        self._chunk: Any = ()  # rows, or whole batches of them, computed ahead
        self._next = 0

    def __iter__(self) -> _Batches:
        return self

    def __next__(self) -> Any:
        sampler = self._sampler
        size = sampler._rows_per_batch
        while self._next == len(self._chunk):
            if not sampler._has_batch(self.position):
                sampler._finished(self)
                raise StopIteration
            self._fill(size)
            if len(self._chunk) == 0:  # single rows: none of the last ones is for this rank
                self.position = sampler.length
        item = self._chunk[self._next]
        self._next += 1
        self.position = min(self.position + size, sampler.length)
        return item

    def _fill(self, size: int) -> None:
        """Computes some batches ahead: as many whole ones as make a chunk, or else the next one."""
        sampler = self._sampler
        if self._spans:
            self._chunk = (Span(sampler, self.epoch, sampler._runs(self.position)),)
            self._next = 0
            return
        batches = min(max(_CHUNK // size, 1), (sampler.length - self.position) // size)
        self._next = 0
        if sampler.batch_size is None:
            if batches > 0:
                rows = sampler.rows(self.epoch, self.position, batches * size)
                self._chunk = rows[sampler.rank :: size].tolist()
            else:
                self._chunk = sampler._part(self.epoch, self.position).tolist()
        elif batches > 1 and sampler.world_size == 1:
            self._chunk = sampler.rows(self.epoch, self.position, batches * size).reshape(-1, size)
        else:
            self._chunk = (sampler._part(self.epoch, self.position),)

    def state_dict(self) -> dict[str, int]:
        return self._sampler._state(self.epoch, self.position)

    def load_state_dict(self, state: dict[str, int]) -> None:
        sampler = self._sampler
        self.epoch, self.position = sampler._check_state(state)
        self._chunk, self._next = (), 0
        if sampler._iterator is self:
            sampler._epoch = self.epoch
