"""Rows drawn by class: in shares, in exact quotas, in groups."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from subgrad_fast import _core
from subgrad_fast._arrays import Array
from subgrad_fast.sampling._checks import Indices, as_numpy, integer, labels, reals
from subgrad_fast.sampling.sampler import Sampler, Tail


class _ByClass:
    """The rows sorted by class."""

    def __init__(self, values: Array, num_classes: int | None) -> None:
        numbers, self.classes = labels(values, num_classes)
        # Small integers are sorted in linear time.
        keys = numbers.astype(np.uint16) if self.classes <= 2**16 else numbers
        self.rows: Indices = np.argsort(keys, kind="stable")
        self.counts: Indices = np.bincount(numbers, minlength=self.classes)
        self.starts: Indices = np.concatenate([[0], np.cumsum(self.counts)])
        self.strata = _core.sampling.Strata(self.starts.astype(np.uint64))

    @property
    def n(self) -> int:
        return self.rows.size


def _interleave(counts: Indices) -> tuple[Indices, Indices]:
    """counts[c] entries of class c, evenly spread: the classes, and how many each had before.

    Entry j of a class with m entries stands at (j + 1/2) / m. So every stretch of the sequence has
    nearly its share of each class, and exactly its share where that is a whole number.
    """
    starts = np.cumsum(counts) - counts
    classes = np.repeat(np.arange(counts.size), counts)
    turns = np.arange(classes.size) - starts[classes]
    order = np.argsort((turns + 0.5) / counts[classes], kind="stable")
    return classes[order], turns[order]


class ClassBalancedSampler(Sampler):
    """Rows whose classes come in equal shares, or in given ones, however rare they are in the data.

    A class is drawn by its share, then one of its rows, both with replacement.

    Args:
        labels: class number of every row, 0 .. num_classes - 1, NumPy or torch.
        batch_size: rows in a batch, of all ranks together; None yields single rows.
        shares: one number >= 0 a class, in any unit; by default 1 for every class that has rows.
        num_classes: if not the largest label + 1.
        seed, rank, world_size, tail: see `BatchSampler`.
        num_samples: rows in an epoch, by default as many as there are labels.
    """

    def __init__(
        self,
        labels: Array,
        batch_size: int | None = None,
        *,
        shares: Array | None = None,
        num_classes: int | None = None,
        seed: int | None = 0,
        num_samples: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        tail: Tail = "partial",
    ) -> None:
        self._data = _ByClass(labels, num_classes)
        self.n = self._data.n
        present = self._data.counts > 0
        given = present.astype(np.float64) if shares is None else self._check(shares)
        if (given[~present] > 0).any():
            empty = int(np.argmax((given > 0) & ~present))
            raise ValueError(f"shares[{empty}]: class {empty} has no rows")
        self._classes = _core.sampling.Weights(given, None)
        length = integer("num_samples", self._data.n if num_samples is None else num_samples, 1)
        super().__init__(length, batch_size, seed=seed, rank=rank, world_size=world_size, tail=tail)

    def _check(self, shares: Array) -> npt.NDArray[np.float64]:
        array = reals("shares", shares)
        if array.shape != (self._data.classes,):
            raise ValueError(
                f"shares: expected one for each of {self._data.classes} classes, got {array.shape}"
            )
        bad = ~(np.isfinite(array) & (array >= 0))
        if bad.any():
            at = int(np.argmax(bad))
            raise ValueError(f"shares[{at}]: expected a finite number >= 0, got {array[at]}")
        if not array.any():
            raise ValueError("shares: all are zero, no class can be drawn")
        return array

    def rows(self, epoch: int, start: int, count: int) -> Indices:
        classes = np.empty(count, np.int64)
        places = np.empty(count, np.int64)
        self._classes.draw(self.seed, epoch, start, True, classes)
        self._data.strata.members(self.seed, epoch, start, classes, places)
        return self._data.rows[places]


class StratifiedSampler(Sampler):
    """Batches that all have the same class counts.

    Without `quotas` every row comes once an epoch, and every batch has its share of each class:
    exactly where that is a whole number, else within two of it.

    With `quotas` every batch has exactly that many rows of each class. Rows of a class come in
    random order; when too few are left for a batch, a new order of that class begins, so that none
    is twice in one batch.

    Args:
        labels: class number of every row, 0 .. num_classes - 1, NumPy or torch.
        batch_size: rows in a batch, of all ranks together.
        quotas: rows of each class in a batch; must add up to `batch_size`.
        num_batches: with quotas: batches in an epoch, by default rows // batch_size (at least 1).
        num_classes: if not the largest label + 1.
        seed, rank, world_size, tail: see `BatchSampler`.
    """

    def __init__(
        self,
        labels: Array,
        batch_size: int,
        *,
        quotas: Array | None = None,
        num_batches: int | None = None,
        num_classes: int | None = None,
        seed: int | None = 0,
        rank: int = 0,
        world_size: int = 1,
        tail: Tail = "partial",
    ) -> None:
        self._data = _ByClass(labels, num_classes)
        self.n = self._data.n
        batch_size = integer("batch_size", batch_size, 1)
        self._quotas: Indices | None = None
        if quotas is None:
            if num_batches is not None:
                raise ValueError("num_batches: needs quotas")
            length = self._data.n
            counts = self._data.counts
        else:
            counts = self._quotas = self._check(quotas, batch_size)
            if num_batches is None:
                num_batches = max(self._data.n // batch_size, 1)
            length = integer("num_batches", num_batches, 1) * batch_size
        super().__init__(length, batch_size, seed=seed, rank=rank, world_size=world_size, tail=tail)
        self._pattern, self._before = _interleave(counts)

    def _check(self, quotas: Array, batch_size: int) -> Indices:
        array = as_numpy("quotas", quotas)
        if array.dtype.kind not in "iu" or array.shape != (self._data.classes,):
            raise ValueError(
                f"quotas: expected an integer for each of {self._data.classes} classes, got "
                f"{array.dtype} of shape {array.shape}"
            )
        counts = array.astype(np.int64)
        for c in np.flatnonzero((counts < 0) | (counts > self._data.counts)):
            raise ValueError(
                f"quotas[{c}]: expected 0 to {self._data.counts[c]}, the rows of class {c}, got "
                f"{counts[c]}"
            )
        if counts.sum() != batch_size:
            raise ValueError(f"quotas: add up to {counts.sum()}, expected batch_size, {batch_size}")
        return counts

    def rows(self, epoch: int, start: int, count: int) -> Indices:
        if self._quotas is None:
            classes = self._pattern[start : start + count]
            turns = self._before[start : start + count]
        else:
            batch, place = np.divmod(np.arange(start, start + count), self._pattern.size)
            classes = self._pattern[place]
            quota, size = self._quotas[classes], self._data.counts[classes]
            # An order of a class serves as many batches as it has whole quotas.
            order, in_order = np.divmod(batch, size // quota)
            turns = np.asarray(order * size + in_order * quota + self._before[place], np.int64)
        places = np.empty(count, np.int64)
        self._data.strata.turns(self.seed, epoch, classes, turns, places)
        return self._data.rows[places]


class GroupSampler(Sampler):
    """Batches of P different classes with K different rows of each, as metric learning wants them.

    The classes and rows of every batch are drawn anew, all choices equally likely; a batch lists
    one class after the other.

    Args:
        labels: class number of every row, 0 .. num_classes - 1, NumPy or torch.
        classes_per_batch: P.
        rows_per_class: K; classes with fewer rows are never drawn.
        num_batches: batches in an epoch, by default rows // (P * K), at least 1.
        num_classes: if not the largest label + 1.
        seed, rank, world_size: see `BatchSampler`; a rank gets whole classes if `world_size`
            divides P.
    """

    def __init__(
        self,
        labels: Array,
        classes_per_batch: int,
        rows_per_class: int,
        *,
        num_batches: int | None = None,
        num_classes: int | None = None,
        seed: int | None = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._data = _ByClass(labels, num_classes)
        self.n = self._data.n
        self._per_class = integer("rows_per_class", rows_per_class, 1)
        self._listed: Indices = np.flatnonzero(self._data.counts >= self._per_class)
        self._per_batch = integer("classes_per_batch", classes_per_batch, 1)
        if self._per_batch > self._listed.size:
            raise ValueError(
                f"classes_per_batch: {self._per_batch}, but only {self._listed.size} classes have "
                f"{self._per_class} rows or more"
            )
        size = self._per_batch * self._per_class
        if num_batches is None:
            num_batches = max(self._data.n // size, 1)
        length = integer("num_batches", num_batches, 1) * size
        super().__init__(length, size, seed=seed, rank=rank, world_size=world_size)

    def rows(self, epoch: int, start: int, count: int) -> Indices:
        size = self._per_batch * self._per_class
        first, skipped = divmod(start, size)
        batches = -(-(skipped + count) // size)
        places = np.empty(batches * size, np.int64)
        self._data.strata.groups(
            self.seed, epoch, self._listed, first, self._per_batch, self._per_class, places
        )
        return self._data.rows[places[skipped : skipped + count]]
