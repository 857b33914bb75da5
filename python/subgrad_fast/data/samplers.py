"""Our samplers as torch's: lists of ints, where torch's code and its clients expect such."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch.utils.data

from subgrad_fast.sampling import Sampler
from subgrad_fast.sampling.sampler import Tail


class RowSampler(torch.utils.data.Sampler[int]):
    """The rows of one of our samplers, one by one: the ``sampler`` of a torch DataLoader."""

    def __init__(self, source: Sampler) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source) if self.source.batch_size is None else _rows_of_a_rank(self.source)

    def __iter__(self) -> Iterator[int]:
        if self.source.batch_size is None:
            return iter(self.source)
        return (row for batch in self.source for row in batch.tolist())

    def __repr__(self) -> str:
        return f"RowSampler({self.source!r})"

    def set_epoch(self, epoch: int) -> None:
        """As `subgrad_fast.sampling.Sampler.set_epoch`, which see."""
        self.source.set_epoch(epoch)

    def state_dict(self) -> dict[str, int]:
        """As `subgrad_fast.sampling.Sampler.state_dict`, which see."""
        return self.source.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """As `subgrad_fast.sampling.Sampler.load_state_dict`, which see."""
        self.source.load_state_dict(state)


class BatchSampler(torch.utils.data.BatchSampler):
    """This rank's batches of one of our samplers as lists of ints: torch's ``batch_sampler``.

    Args:
        sampler: a `RowSampler`, whose own batches these are; or, as in torch, any iterable of rows.
            (Lightning and accelerate make a new object with a sampler that is shared by ranks.)
        batch_size: rows in a batch of this rank.
        drop_last: whether an incomplete batch at the end is left out.
    """

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool) -> None:
        super().__init__(sampler, batch_size, drop_last)

    @property
    def source(self) -> Sampler | None:
        """The sampler of this library whose batches these are; None if torch's code makes them."""
        source = self.sampler.source if isinstance(self.sampler, RowSampler) else None
        if source is None or source.batch_size is None:
            return None
        same = (self.batch_size, self.drop_last) == (_batch_of_a_rank(source), _drops(source))
        return source if same else None

    def __iter__(self) -> Iterator[list[int]]:
        source = self.source
        return super().__iter__() if source is None else _Lists(iter(source))

    def __len__(self) -> int:
        source = self.source
        return super().__len__() if source is None else len(source)

    def __repr__(self) -> str:
        return f"BatchSampler({self.sampler!r}, {self.batch_size}, {self.drop_last})"

    def set_epoch(self, epoch: int) -> None:
        """Passes the epoch on to the sampler, if it has such."""
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    @property
    def state_dict(self) -> Callable[[], dict[str, int]]:
        """As `subgrad_fast.sampling.Sampler.state_dict`, which see. There is none where torch's
        code makes the batches, of rows that others may have been taken from."""
        return self._required().state_dict

    @property
    def load_state_dict(self) -> Callable[[dict[str, int]], None]:
        """As `subgrad_fast.sampling.Sampler.load_state_dict`, which see."""
        return self._required().load_state_dict

    def _required(self) -> Sampler:
        source = self.source
        if source is None:
            raise AttributeError("torch's code makes these batches, which keeps no state")
        return source


class _Lists(Iterator[list[int]]):
    """A pass whose batches are lists. Its state is that of the pass."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches
        self.state_dict = batches.state_dict
        self.load_state_dict = batches.load_state_dict

    def __next__(self) -> list[int]:
        return next(self._batches).tolist()  # type: ignore[no-any-return]


def as_torch(sampler: Sampler, tail: Tail | None) -> torch.utils.data.Sampler[Any]:
    """What `subgrad_fast.sampling.Sampler.as_torch` returns."""
    if tail is None:
        tail = "pad" if sampler.tail == "partial" and sampler.world_size > 1 else sampler.tail
    source = copy.copy(sampler)
    source.tail = source._check_tail(tail)
    rows = RowSampler(source)
    if source.batch_size is None:
        return rows
    return BatchSampler(rows, _batch_of_a_rank(source), _drops(source))


def _batch_of_a_rank(sampler: Sampler) -> int:
    return -(-sampler._rows_per_batch // sampler.world_size)


def _drops(sampler: Sampler) -> bool:
    return sampler.tail == "drop"


def _rows_of_a_rank(sampler: Sampler) -> int:
    size, rest = sampler._rows_per_batch, sampler.length % sampler._rows_per_batch
    whole = sampler.length - rest
    begin, end = sampler._share(0)
    rows = whole // size * (end - begin)
    if rest and sampler.tail != "drop":
        begin, end = sampler._share(whole)
        rows += end - begin
    return rows
