"""What all samplers share: batches of an order, a rank's part of them, where an epoch stands."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt

from subgrad_fast._arguments import integer
from subgrad_fast._arrays import Array
from subgrad_fast._core import Turns
from subgrad_fast.sampling._checks import Indices, drawn_seed, seed_or_epoch
from subgrad_fast.sampling.passes import Pass, Place, Span

Tail: TypeAlias = Literal["partial", "drop", "pad"]

_VERSION = 2
_MOST_ROUNDS = 2**16  # of an epoch's rows in one padded batch
_CHUNK = 4096  # rows computed at a time where batches are small


class Sampler:
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
        self._turns = Turns()
        self._place = Place(drawn_seed() if seed is None else seed_or_epoch("seed", seed))
        self.length = integer("length", length, 1, 2**63)
        if not hasattr(self, "n"):
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
        if tail not in get_args(Tail):
            raise ValueError(f"tail: expected one of {', '.join(get_args(Tail))}, got {tail!r}")
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

    n: int  # rows that are sampled from: `length`, unless a subclass has said otherwise

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

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: these continue where this one stands."""
        with self._turns:
            return {**self.__dict__, "_place": self._place.kept(), "_turns": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({**state, "_turns": Turns()})

    # --- state -----------------------------------------------------------------------------------

    @property
    def seed(self) -> int:
        """Which orders."""
        return self._place.seed

    @property
    def epoch(self) -> int:
        """The epoch that the current pass goes through, or the next one if that has ended."""
        return self._place.where()[0]

    @property
    def position(self) -> int:
        """How many rows of the epoch all ranks together have been given."""
        return self._place.where()[1]

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next pass, which begins at its start.

        A state that was loaded, and a pass under way, keep their position if it is their epoch: so
        training loops may call this after `load_state_dict`, and before or after ``iter()``.
        """
        epoch = seed_or_epoch("epoch", epoch)
        with self._turns:
            self._place = self._place.moved(epoch)

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
        return {
            "version": _VERSION,
            "seed": self.seed,
            "epoch": epoch,
            "position": position,
            "n": self.n,
            "order": self._order_number,
        }

    def _load(self, state: Mapping[str, int], iterator: Pass | None) -> None:
        """Takes over a state, for the next iterator or for a running one.

        All of it is checked before anything changes.
        """
        place, own = self._check_state(state), self._own_state(state)
        if iterator is not None:
            ours = not iterator.begun or iterator.progress is self._place.progress
            iterator.go_to(place.epoch, place.start)
            if ours:
                place = place._replace(progress=iterator.progress)
            else:
                place = self._place._replace(seed=place.seed)
        self.__dict__.update(own, _place=place)  # at once, whatever interrupts

    def _check_state(self, state: Mapping[str, int]) -> Place:
        if not isinstance(state, Mapping):
            raise TypeError(f"state: expected a dict, got {type(state).__name__}")
        missing = {"version", "seed", "epoch", "position", "n", "order"} - set(state)
        if missing:
            raise ValueError(f"state: {', '.join(sorted(missing))} missing")
        if state["version"] != _VERSION:
            raise ValueError(f"state: expected version {_VERSION}, got {state['version']!r}")
        if integer("state['n']", state["n"], 1, 2**63) != self.n:
            raise ValueError(
                f"state['n']: taken with {state['n']} rows of data, but there are {self.n}"
            )
        if integer("state['order']", state["order"], 0, 2**32 - 1) != self._order_number:
            raise ValueError(
                "state['order']: taken with other data or options than those of this sampler, "
                f"{self._order_text()}"
            )
        seed = seed_or_epoch("state['seed']", state["seed"])
        epoch = seed_or_epoch("state['epoch']", state["epoch"])
        return Place(seed, epoch, integer("state['position']", state["position"], 0, self.length))

    def _own_state(self, state: Mapping[str, int]) -> dict[str, Any]:  # noqa: ARG002
        """The attributes that hold what a subclass has added to a state; it checks it."""
        return {}

    @cached_property
    def _order_number(self) -> int:
        return self._order_key()

    def _order_key(self) -> int:
        """What the order depends on, apart from seed, epoch and position: 32 bits."""
        return zlib.crc32(self._order_text().encode())

    def _order_text(self) -> str:
        """What it depends on, in words."""
        return f"{type(self).__name__} of {self.n} rows"

    def __repr__(self) -> str:
        epoch, position = self._place.where()
        rows = "single rows" if self.batch_size is None else f"batches of {self.batch_size}"
        rank = f", rank {self.rank} of {self.world_size}" if self.world_size > 1 else ""
        return (
            f"<{self._order_text()} in {rows}{rank}, seed {self.seed}: "
            f"epoch {epoch}, {position} of {self.length} rows given>"
        )
