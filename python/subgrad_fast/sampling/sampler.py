"""What all samplers share: batches of an order, and a rank's part of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt

from subgrad_fast._arguments import integer, one_of
from subgrad_fast._arrays import Array
from subgrad_fast.sampling._checks import Indices, seed_or_epoch
from subgrad_fast.sampling.passes import Pass, Span
from subgrad_fast.sampling.stateful import Stateful

Tail: TypeAlias = Literal["partial", "drop", "pad"]

_MOST_ROUNDS = 2**16  # of an epoch's rows in one padded batch
_CHUNK = 4096  # rows computed at a time where batches are small


class Sampler(Stateful):
    """Base of the samplers: an epoch is `length` rows in an order that a subclass defines.

    Iterating yields this rank's part of one batch after the other (int64 arrays), or single rows
    (ints) if `batch_size` is None. `as_torch` makes of it what torch's DataLoader takes.

    **A pass is an epoch.** Each ``iter()`` begins the next epoch, whether or not the pass before
    was gone through to its end, so every pass has its own order. The first one after construction,
    `set_epoch` or `load_state_dict` begins where these say. (An iterator that is never asked for
    anything counts for none.)

    Sampler and iterator have ``state_dict()`` and ``load_state_dict()``, as torchdata's
    StatefulDataLoader expects. A state is a few integers, and may be loaded with another rank,
    world size or batch size: the rows go on where they stopped, none lost and none twice. (Where
    the order of an epoch depends on the batches, a state of others is refused.)
    """

    def __init__(
        self,
        length: int,
        batch_size: int | None,
        *,
        seed: int | None = 0,
        rank: int = 0,
        world_size: int = 1,
        tail: Tail = "partial",
    ) -> None:
        self.world_size = integer("world_size", world_size, 1, 2**31)
        self.rank = integer("rank", rank, 0, self.world_size - 1)
        if batch_size is not None:
            batch_size = integer("batch_size", batch_size, 1, 2**63 - 1)
        self.batch_size = batch_size
        super().__init__(length, seed)
        if not hasattr(self, "n"):  # a subclass that samples from other rows has said so
            self.n = length
        # Single rows are batches of one row a rank.
        self._rows_per_batch = self.world_size if self.batch_size is None else self.batch_size
        if self.world_size > self._rows_per_batch:
            raise ValueError(
                f"batch_size: expected at least one row for each of {self.world_size} ranks, got "
                f"{batch_size} (it counts the rows of all ranks)"
            )
        self.tail: Tail = self._check_tail(tail)

    def _check_tail(self, tail: Tail) -> Tail:
        one_of("tail", tail, *get_args(Tail))
        if tail == "drop" and self._rows_per_batch > self.length:
            raise ValueError(
                f"batch_size: {self.batch_size} is larger than an epoch of {self.length} rows, and "
                "tail='drop' leaves nothing of it"
            )
        if tail == "pad" and self._rows_per_batch > self.length * _MOST_ROUNDS:
            raise ValueError(
                f"batch_size: {self.batch_size} rows, to which tail='pad' would fill up "
                f"{self.length}, expected at most {_MOST_ROUNDS} times as many"
            )
        return tail

    def rows(self, epoch: int, start: int, count: int) -> Indices:
        """The rows at positions start, start + 1, ... of an epoch, of all ranks together, int64."""
        raise NotImplementedError

    @property
    def _of_this_library(self) -> bool:
        """Whether its rows are those that the class says: a subclass may have others."""
        return type(self).rows.__module__.startswith(__name__.partition(".")[0] + ".")

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
        return self._begin(self._ahead)

    def _begin(self, fill: Callable[[int, int], Sequence[Any]]) -> Pass:
        """Begins a pass through what `fill` computes of an epoch and a position."""
        with self._turns:
            self._place = self._place.next()
        return Pass(self, fill)

    def _enter(self, iterator: Pass) -> None:
        """Tells a pass where it begins, when its first batch is asked for."""
        if self._place.progress is iterator.progress:
            return  # interrupted right behind the last line
        place = self._place.next()
        iterator.enter(place.epoch, place.start)
        self._place = place._replace(progress=iterator.progress)

    def _begin_for(self, rows: int, *, on_gpu: bool) -> Pass:
        """Begins a pass for arrays of so many rows. On a GPU it is one of `Span` where rows can be
        computed there. (Where some may be outside the arrays, the host has to look at them.)"""
        spans = on_gpu and self._on_gpu and self.batch_size is not None and self.n <= rows
        return self._begin(self._spans if spans else self._ahead)

    def as_torch(self, *, tail: Tail | None = None) -> Any:
        """A copy of this sampler for torch's world: one that yields lists of ints.

        ::

            sampler = subgrad_fast.BatchSampler(len(dataset), 64, seed=0)
            loader = torch.utils.data.DataLoader(dataset, batch_sampler=sampler.as_torch())

        It goes on where this one stands, and from then on the two have nothing to do with each
        other.

        Args:
            tail: as in `BatchSampler`. With ranks ``"partial"`` becomes ``"pad"`` unless it is
                given here: torch's loaders cannot make a batch of no rows, and its
                DistributedSampler pads.

        Returns:
            A ``torch.utils.data.BatchSampler`` with ``sampler``, ``batch_size`` (of this rank),
            ``drop_last``, ``set_epoch``, ``state_dict`` and ``load_state_dict``; of single rows a
            ``torch.utils.data.Sampler`` with the last three.

        Raises:
            ImportError: there is no torch.
            ValueError: `tail` is none of these.
        """
        faces = importlib.import_module("subgrad_fast.data.samplers")  # which needs torch
        return faces.as_torch(self, tail)

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
        """The same as runs of positions of the epoch: (start, count)."""
        begin, end = self._share(position)
        runs = []
        while True:  # padding: the epoch's rows once more, and again if they are few
            start = begin % self.length
            count = min(end - begin, self.length - start)
            runs.append((start, count))
            begin += count
            if begin == end:
                return runs

    def _part(self, epoch: int, position: int) -> Indices:
        pieces = [self.rows(epoch, start, count) for start, count in self._runs(position)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _ahead(self, epoch: int, position: int) -> Sequence[Any]:
        """What follows a position: as many whole batches as make a chunk, or else the next one."""
        size = self._rows_per_batch
        batches = min(max(_CHUNK // size, 1), (self.length - position) // size)
        if self.batch_size is None:
            if batches > 0:
                rows = self.rows(epoch, position, batches * size)[self.rank :: size]
            else:
                rows = self._part(epoch, position)
            return cast("list[int]", rows.tolist())
        if batches > 1 and self.world_size == 1:
            rows = self.rows(epoch, position, batches * size)
            return cast("Sequence[Any]", rows.reshape(-1, size))
        return (self._part(epoch, position),)

    def _spans(self, epoch: int, position: int) -> Sequence[Span]:
        """The same for a GPU: told and not computed."""
        return (Span(self, epoch, self._runs(position)),)

    def __repr__(self) -> str:
        epoch, position = self._place.where()
        rows = "single rows" if self.batch_size is None else f"batches of {self.batch_size}"
        rank = f", rank {self.rank} of {self.world_size}" if self.world_size > 1 else ""
        return (
            f"<{self._order_text()} in {rows}{rank}, seed {self.seed}: "
            f"epoch {epoch}, {position} of {self.length} rows given>"
        )
