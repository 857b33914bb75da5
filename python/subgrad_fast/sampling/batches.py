"""Batches of uniformly drawn rows."""

from __future__ import annotations

from collections.abc import Sized

import numpy as np

from subgrad_fast import _core
from subgrad_fast._arguments import flag
from subgrad_fast._arrays import Array
from subgrad_fast.sampling._checks import Indices, row_count, seed_or_epoch, stretch
from subgrad_fast.sampling.permutation import Permutation
from subgrad_fast.sampling.sampler import Sampler, Tail


class BatchSampler(Sampler):
    """Batches of row numbers, 0 .. n-1: every row once an epoch, or drawn with replacement.

    ::

        sampler = BatchSampler(len(x), 128, seed=1)
        for epoch in range(10):
            for rows in sampler:            # int64, 128 of them
                step(x[rows], y[rows])

    Args:
        n: number of rows, 1 to 2**63.
        batch_size: rows in a batch, of all ranks together, so that batches do not change with the
            number of ranks. None yields single rows.
        seed: which orders; None draws one from torch's global generator, or from NumPy's if torch
            has not been imported, so that ``manual_seed`` and the like count.
        shuffle: a new random order each epoch; else 0, 1, 2, ...
        replacement: every row of a batch is drawn from all n.
        num_samples: rows in an epoch with replacement, by default n.
        rank, world_size: which part of each batch this process gets. Parts are contiguous; their
            sizes differ by at most one (by none if `world_size` divides `batch_size`).
        tail: what becomes of the last n % batch_size rows: ``"partial"``, a smaller batch (of which
            a rank may get nothing, an empty array: all ranks make the same number of steps);
            ``"drop"``, left out of this epoch; ``"pad"``, filled up with the first rows of the
            epoch (`valid` tells them apart).
        reverse_pairs, block_size, blocks_together: see `Permutation`.

    A batch that is larger than an epoch is one partial batch; with ``tail="drop"`` it is an error.

    Raises TypeError or ValueError naming the argument.
    """

    def __init__(
        self,
        n: int,
        batch_size: int | None,
        *,
        seed: int | None = 0,
        shuffle: bool = True,
        replacement: bool = False,
        num_samples: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        tail: Tail = "partial",
        reverse_pairs: bool = False,
        block_size: int | None = None,
        blocks_together: int = 1,
    ) -> None:
        if isinstance(n, Sized) and getattr(n, "ndim", 1) > 0:
            kind = type(n).__name__
            raise TypeError(f"n: expected a number of rows, got {kind}; did you mean its len()?")
        self.n = row_count("n", n)
        self.shuffle = flag("shuffle", shuffle)
        self.replacement = replacement = flag("replacement", replacement)
        reverse_pairs = flag("reverse_pairs", reverse_pairs)
        if replacement and not shuffle:
            raise ValueError("replacement: needs shuffle=True")
        if (reverse_pairs or block_size is not None) and (replacement or not shuffle):
            raise ValueError("reverse_pairs, block_size: need shuffle=True without replacement")
        if num_samples is not None:
            num_samples = row_count("num_samples", num_samples)
        if num_samples is not None and not replacement:
            raise ValueError("num_samples: needs replacement=True")
        length = self.n if num_samples is None else num_samples
        super().__init__(length, batch_size, seed=seed, rank=rank, world_size=world_size, tail=tail)
        self._options = (reverse_pairs, block_size, blocks_together)
        self._order: tuple[tuple[int, int], Permutation] | None = None  # of (seed, epoch)
        self.order(0)  # so that wrong options are errors here

    def order(self, epoch: int) -> Permutation:
        """The shuffled order of an epoch."""
        if type(epoch) is not int:
            epoch = seed_or_epoch("epoch", epoch)
        known, key = self._order, (self.seed, epoch)  # another thread may put another order there
        if known is None or known[0] != key:
            reverse_pairs, block_size, together = self._options
            order = Permutation(
                self.n,
                seed=key[0],
                epoch=epoch,
                reverse_pairs=reverse_pairs,
                block_size=block_size,
                blocks_together=together,
            )
            self._order = known = (key, order)
        return known[1]

    def rows(self, epoch: int, start: int, count: int) -> Indices:
        epoch, start, count = stretch(epoch, start, count)
        if not self.shuffle:
            return np.arange(start, start + count)
        if not self.replacement:
            return self.order(epoch).slice(start, start + count)
        out = np.empty(count, np.int64)
        _core.sampling.uniform_draws(self.n, self.seed, epoch, start, out)
        return out

    def _order_text(self) -> str:
        if not self.shuffle:
            return f"{type(self).__name__} of {self.n} rows in order"
        if self.replacement:
            return f"{type(self).__name__} of {self.n} rows with replacement"
        reverse_pairs, block_size, together = self._options
        blocks = "" if block_size is None else f", {together} blocks of {block_size} together"
        pairs = ", every second order the one before it backwards" if reverse_pairs else ""
        return f"{type(self).__name__} of {self.n} rows shuffled{blocks}{pairs}"

    @property
    def _on_gpu(self) -> bool:
        return self.shuffle and type(self).rows is BatchSampler.rows

    def _write(self, epoch: int, start: int, out: Array) -> None:
        if self.replacement:
            _core.sampling.uniform_draws(self.n, self.seed, epoch, start, out)
        else:
            self.order(epoch)._order.range(start, 1, out)
