"""An order of n rows that is computed where it is read, and draws without replacement from it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, overload

import numpy as np

from subgrad_fast import _core
from subgrad_fast._arguments import flag, integer
from subgrad_fast._arrays import Array, is_torch
from subgrad_fast.sampling._checks import (
    Indices,
    output,
    places,
    row_count,
    seed_or_epoch,
)

_CHUNK = 4096
_choose = _core.sampling.choose


class Permutation:
    """The rows 0 .. n-1 in the random order of (seed, epoch), by position: ``order[p]`` is a row.

    Takes a few hundred bytes for any n up to 2**63, and about as long for any position: there is no
    array. The same numbers on every processor, for any number of threads and however it is read.

    Below 64 rows every order is equally likely (Fisher and Yates). From 64 rows on, the order is a
    keyed 12-round Feistel network on the bits of the position, walked until it lands below n (Black
    and Rogaway, 2002); ``docs/statistics.md`` shows what it was tested for. Not for cryptography.

    Args:
        n: number of rows, 1 to 2**63.
        seed: which orders, 0 to 2**64 - 1.
        epoch: which of the seed's orders, 0 to 2**64 - 1. Seed s, epoch 1 has nothing to do with
            seed s + 1, epoch 0.
        reverse_pairs: epoch 2k + 1 is epoch 2k backwards, so that the rows seen last come first
            (antithetic pairs; their errors cancel to first order).
        block_size: rows that lie together on disk. Blocks come in random order, `blocks_together`
            at a time, and the rows of those are shuffled among each other: reading in order touches
            no more than that many blocks at a time and none of them twice. None: every row for
            itself. If it does not divide n, which row comes at which position is not uniform: the
            last block is shorter, and where it stands moves all behind it.
        blocks_together: how many blocks are shuffled together.

    CUDA tensors of positions give CUDA tensors of rows, the same ones, computed in torch's current
    stream. Nothing waits for the device, so there a position or row out of range is no error: the
    answer to it is -2**63, which nothing takes for an index.

    Raises TypeError or ValueError for anything else, and IndexError for positions and rows out of
    range.
    """

    __slots__ = ("_arguments", "_order", "n")

    def __init__(
        self,
        n: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        reverse_pairs: bool = False,
        block_size: int | None = None,
        blocks_together: int = 1,
    ) -> None:
        self.n = row_count("n", n)
        size = 0 if block_size is None else min(integer("block_size", block_size, 1), self.n)
        together = min(integer("blocks_together", blocks_together, 1), self.n)
        seed = seed_or_epoch("seed", seed)
        epoch = seed_or_epoch("epoch", epoch)
        self._arguments = (
            self.n,
            seed,
            epoch,
            flag("reverse_pairs", reverse_pairs),
            size,
            together,
        )
        self._order = _core.sampling.Order(*self._arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        n, seed, epoch, reverse_pairs, size, together = self._arguments
        return _rebuild, (n, seed, epoch, reverse_pairs, size or None, together)

    def __len__(self) -> int:
        return self.n

    @overload
    def __getitem__(self, position: int) -> int: ...
    @overload
    def __getitem__(self, position: slice | Array) -> Indices: ...
    def __getitem__(self, position: Any) -> Any:
        """The row at a position (an int), or those at a slice or array of positions (int64)."""
        if isinstance(position, slice):
            return self.slice(*position.indices(self.n))
        if isinstance(position, int | np.integer):
            return self._order.index_at(self._place("position", int(position)))
        return self.take(position)

    def __iter__(self) -> Iterator[int]:
        for start in range(0, self.n, _CHUNK):
            yield from self.slice(start, min(start + _CHUNK, self.n)).tolist()

    def slice(self, start: int, stop: int, step: int = 1, *, out: Array | None = None) -> Indices:
        """The rows at ``range(start, stop, step)``, int64; `out` is an array to write them to.

        A CUDA tensor as `out` is filled on the device, in torch's current stream.
        Positions must be in range: nothing is cut or counted from the end here.
        """
        if not type(start) is type(stop) is type(step) is int:
            start = integer("start", start, -(2**63))
            stop = integer("stop", stop, -(2**63), 2**63)
            step = integer("step", step, -(2**63))
        if step == 0:
            raise ValueError("step: expected an integer other than 0")
        positions = range(start, stop, step)
        if len(positions) > 0 and not (0 <= positions[0] < self.n and 0 <= positions[-1] < self.n):
            raise IndexError(f"{positions} is out of range for {self.n} rows")
        rows = output(out, len(positions))
        self._order.range(positions[0] if positions else 0, step, rows)
        return rows  # type: ignore[no-any-return]

    def take(self, positions: Array, *, out: Array | None = None) -> Indices:
        """The rows at an array of positions, int64 of its shape; `out` is 1-d, to write to."""
        rows = places("positions", positions, self.n)
        if out is None:
            self._order.indices(rows)
            return rows  # type: ignore[no-any-return]
        flat = rows.reshape(-1)
        written = output(out, len(flat))
        if _core.cuda.device_of(flat) != _core.cuda.device_of(written):
            raise ValueError("out: expected an array on the device of the positions")
        self._order.indices(flat)  # not in `out`, which another thread may change meanwhile
        if is_torch(written) and not is_torch(flat):
            flat = sys.modules["torch"].from_numpy(flat)
        written[...] = flat
        return written  # type: ignore[no-any-return]

    @overload
    def position(self, index: int) -> int: ...
    @overload
    def position(self, index: Array) -> Indices: ...
    def position(self, index: Any) -> Any:
        """Where a row comes in this order: the inverse, for an int or an array of rows."""
        if isinstance(index, int | np.integer):
            return self._order.position_of(self._place("index", int(index)))
        rows = places("index", index, self.n)
        self._order.positions(rows)
        return rows

    def _place(self, name: str, value: int) -> int:
        if not -self.n <= value < self.n:
            raise IndexError(f"{name}: {value} is out of range for {self.n} rows")
        return value + self.n if value < 0 else value


def _rebuild(
    n: int, seed: int, epoch: int, reverse_pairs: bool, size: int | None, together: int
) -> Permutation:
    return Permutation(
        n,
        seed=seed,
        epoch=epoch,
        reverse_pairs=reverse_pairs,
        block_size=size,
        blocks_together=together,
    )


def choose(n: int, k: int, *, seed: int = 0, draw: int = 0, out: Array | None = None) -> Indices:
    """k different rows of n, all subsets equally likely, in random order: O(k) time and memory.

    Args:
        n: number of rows, 1 to 2**63.
        k: how many are drawn, at most n.
        seed, draw: which draw: count `draw` up for the next one.
        out: int64 array of k elements to write to; on a GPU, drawn there in the current stream.
    """
    # As fast as it can be: this is called once a batch.
    if not (type(n) is int and 0 < n <= 2**63):
        n = row_count("n", n)
    if not (type(k) is int and 0 <= k <= n):
        k = integer("k", k, 0, n)
    if not type(seed) is type(draw) is int:
        seed, draw = seed_or_epoch("seed", seed), seed_or_epoch("draw", draw)
    rows = output(out, k)
    try:
        _choose(n, seed, draw, rows)
    except TypeError:  # beyond 64 bits
        _choose(n, seed_or_epoch("seed", seed), seed_or_epoch("draw", draw), rows)
    return rows  # type: ignore[no-any-return]
