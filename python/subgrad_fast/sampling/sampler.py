"""What all samplers share: batches of an order, a rank's part of them, where an epoch stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from subgrad_fast._arrays import Array
from subgrad_fast._core import Turns
from subgrad_fast._core.sampling import Cursor
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
        self._turns = Turns()
        self._place = _Place(seed_or_epoch("seed", seed))
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
        return self._begin(_Batches)

    def _begin(self, kind: type[_Batches]) -> _Batches:
        with self._turns:
            place = self._place
            iterator = kind(self, place.epoch, place.start)
            self._place = place._replace(start=0, iterator=iterator)
        return iterator

    def _batches_for_gpu(self, rows: int) -> Iterator[Any]:
        """``iter(self)`` for arrays of so many rows on a GPU: of `Span`, where rows can be computed
        there. (Where some may be outside the arrays, the host has to look at them.)"""
        if not self._on_gpu or self.batch_size is None or self.n > rows:
            return iter(self)
        return self._begin(_Spans)

    def batch(self, step: int, *, epoch: int | None = None) -> Indices:
        """This rank's part of batch `step` of an epoch (default: the current one)."""
        step = integer("step", step, 0, len(self) - 1)
        epoch = self.epoch if epoch is None else seed_or_epoch("epoch", epoch)
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
        place = self._place._replace(start=self.position, iterator=None)
        return {**self.__dict__, "_place": place, "_turns": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({**state, "_turns": Turns()})

    # --- state -----------------------------------------------------------------------------------

    @property
    def seed(self) -> int:
        """Which orders."""
        return self._place.seed

    @property
    def epoch(self) -> int:
        """The epoch that the current or the next iterator goes through."""
        iterator = self._place.iterator
        return self._place.epoch if iterator is None else iterator.epoch

    @property
    def position(self) -> int:
        """How many rows of the epoch all ranks together have been given."""
        place = self._place
        return place.start if place.iterator is None else place.iterator.position

    def _start(self) -> int:
        """The position that the next iterator starts at."""
        return self._place.start

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iterator. The current one changes nothing: not the position
        either, so that training loops may call it after `load_state_dict`."""
        epoch = seed_or_epoch("epoch", epoch)
        with self._turns:
            if epoch != self.epoch:
                self._place = _Place(self.seed, epoch)

    def state_dict(self) -> dict[str, int]:
        """Where the epoch stands after the batches yielded so far, as a few integers."""
        with self._turns:
            return self._state(self.epoch, self.position)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues where `state` was taken: the next iterator yields what would have followed.

        Raises:
            TypeError, ValueError: the state is incomplete, of another version, or not one of this
                sampler's. Nothing has changed then.
        """
        with self._turns:
            self._load(state, None)

    def _state(self, epoch: int, position: int) -> dict[str, int]:
        return {"version": _VERSION, "seed": self.seed, "epoch": epoch, "position": position}

    def _load(self, state: dict[str, int], iterator: _Batches | None) -> None:
        """Takes over a state, for the next iterator or for a running one.

        All of it is checked before anything changes.
        """
        place, own = self._check_state(state), self._own_state(state)
        if iterator is not None:
            iterator.go_to(place.epoch, place.start)
            place = self._place._replace(seed=place.seed)
        self.__dict__.update(own, _place=place)  # at once, whatever interrupts

    def _check_state(self, state: dict[str, int]) -> _Place:
        if not isinstance(state, Mapping):
            raise TypeError(f"state: expected a dict, got {type(state).__name__}")
        missing = {"version", "seed", "epoch", "position"} - set(state)
        if missing:
            raise ValueError(f"state: {', '.join(sorted(missing))} missing")
        if state["version"] != _VERSION:
            raise ValueError(f"state: expected version {_VERSION}, got {state['version']!r}")
        seed = seed_or_epoch("state['seed']", state["seed"])
        epoch = seed_or_epoch("state['epoch']", state["epoch"])
        return _Place(seed, epoch, integer("state['position']", state["position"], 0, self.length))

    def _own_state(self, state: dict[str, int]) -> dict[str, Any]:  # noqa: ARG002
        """The attributes that hold what a subclass has added to a state; it checks it."""
        return {}

    def _finished(self, iterator: _Batches) -> None:
        if self._place.iterator is iterator:
            self._place = _Place(self.seed, (iterator.epoch + 1) % 2**64)


class _Place(NamedTuple):
    """Where a sampler stands, in one value: it changes all at once, whatever interrupts."""

    seed: int
    epoch: int = 0
    start: int = 0  # where the next iterator starts
    iterator: _Batches | None = None  # the one whose position is ours


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


class _Batches(Cursor):
    """One pass: this rank's batches from a position to the end of an epoch."""

    def __init__(self, sampler: Sampler, epoch: int, position: int) -> None:
        self._sampler = sampler
        size = sampler._rows_per_batch
        super().__init__(sampler._turns, self._fill, epoch, position, size, sampler.length)

    def _fill(self, epoch: int, position: int) -> Sequence[Any] | None:
        """What follows a position; None at the end, when the sampler's next epoch begins."""
        sampler = self._sampler
        if sampler._has_batch(position):
            return self._ahead(epoch, position)
        sampler._finished(self)
        return None

    def _ahead(self, epoch: int, position: int) -> Sequence[Any]:
        """Some batches: as many whole ones as make a chunk, or else the next one."""
        sampler = self._sampler
        size = sampler._rows_per_batch
        batches = min(max(_CHUNK // size, 1), (sampler.length - position) // size)
        if sampler.batch_size is None:
            if batches > 0:
                rows = sampler.rows(epoch, position, batches * size)[sampler.rank :: size]
            else:
                rows = sampler._part(epoch, position)
            return cast("list[int]", rows.tolist())
        if batches > 1 and sampler.world_size == 1:
            rows = sampler.rows(epoch, position, batches * size)
            return cast("Sequence[Any]", rows.reshape(-1, size))
        return (sampler._part(epoch, position),)

    def state_dict(self) -> dict[str, int]:
        """Where this pass stands."""
        with self._sampler._turns:
            return self._sampler._state(self.epoch, self.position)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on where `state` was taken."""
        with self._sampler._turns:
            self._sampler._load(state, self)


class _Spans(_Batches):
    """A pass whose batches are told and not computed."""

    def _ahead(self, epoch: int, position: int) -> Sequence[Any]:
        return (Span(self._sampler, epoch, self._sampler._runs(position)),)
