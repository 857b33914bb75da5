"""Rows drawn by class: in shares, in exact quotas, in groups."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from subgrad_fast import _core
from subgrad_fast._arguments import flag, integer, one_of
from subgrad_fast._arrays import Array
from subgrad_fast.sampling._checks import Indices, as_numpy, reals, stretch
from subgrad_fast.sampling.labels import LabelSampler, RowsByClass
from subgrad_fast.sampling.sampler import Tail


class ClassBalancedSampler(LabelSampler):
    """Rows whose classes come in equal shares, or in given ones, however rare they are in the data.

    A class is drawn by its share, then one of its rows, both with replacement.

    Args:
        labels, num_classes: see `StratifiedSampler`.
        batch_size: rows in a batch, of all ranks together; None yields single rows.
        shares: one number >= 0 a class, in any unit; by default 1 for every class that has rows.
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
        self._data = RowsByClass(labels, num_classes)
        self.n = self._data.n
        present = self._data.counts > 0
        given = present.astype(np.float64) if shares is None else self._check(shares)
        if (given[~present] > 0).any():
            empty = int(np.argmax((given > 0) & ~present))
            raise ValueError(f"shares[{empty}]: class {empty} has no rows")
        self._classes = _core.sampling.Weights(given, None)
        length = integer("num_samples", self._data.n if num_samples is None else num_samples, 1)
        super().__init__(length, batch_size, seed=seed, rank=rank, world_size=world_size, tail=tail)
        self._decisive = {"shares": given}

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
        epoch, start, count = stretch(epoch, start, count)
        classes = np.empty(count, np.int64)
        places = np.empty(count, np.int64)
        self._classes.draw(self.seed, epoch, start, True, classes)
        self._data.strata.members(self.seed, epoch, start, classes, places)
        return self._data.rows[places]


class StratifiedSampler(LabelSampler):
    """Batches that all have the same class counts.

    Without `quotas` every row comes once an epoch. A batch of b rows has of a class with m of the n
    rows exactly b * m / n where that is a whole number, and otherwise the next whole number below
    or above it, whatever the labels. Which of the two is random, and on average its share: shares
    are rounded without bias and with all sums kept (Cox, "A constructive procedure for unbiased
    controlled rounding", 1987). An epoch is drawn whole when its first batch is (some 0.1 s for a
    million rows, up to 0.7 s if all labels differ) and takes 8 bytes a row.

    With `quotas` every batch has exactly that many rows of each class. Rows of a class come in
    random order; when too few are left for a batch, a new order of that class begins, so that none
    is twice in one batch.

    Either way the rows of a batch are in random order: its positions, and so the ranks, have all
    classes alike. A state is for the same labels, `batch_size` and `quotas`.

    Args:
        labels: the label of every row, NumPy or torch: class numbers 0 .. num_classes - 1, bools,
            or text, whose classes are numbered in sorted order (`classes` has the labels).
        batch_size: rows in a batch, of all ranks together.
        quotas: rows of each class in a batch; must add up to `batch_size`.
        num_batches: with quotas: batches in an epoch, by default rows // batch_size (at least 1).
        num_classes: if not the largest class number + 1.
        seed, rank, world_size, tail: see `BatchSampler`.

    Raises TypeError or ValueError naming the argument.
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
        self._data = RowsByClass(labels, num_classes)
        self.n = self._data.n
        size = integer("batch_size", batch_size, 1)
        self._quotas = None if quotas is None else self._check(quotas, size)
        if self._quotas is None:
            if num_batches is not None:
                raise ValueError("num_batches: needs quotas")
            length = self.n
        else:
            if num_batches is None:
                num_batches = max(self.n // size, 1)
            length = integer("num_batches", num_batches, 1, (2**63 - 1) // size) * size
            # The rows of a batch before they are shuffled: their class, and which of it.
            self._classes = np.repeat(np.arange(self._data.classes), self._quotas)
            begins = np.cumsum(self._quotas) - self._quotas
            self._turns_in_batch = np.arange(size) - begins[self._classes]
        super().__init__(length, size, seed=seed, rank=rank, world_size=world_size, tail=tail)
        none = np.empty(0, np.int64)
        self._decisive = {
            "batch_size": size,
            "quotas": none if self._quotas is None else np.trim_zeros(self._quotas, "b"),
        }

    def _check(self, quotas: Array, batch_size: int) -> Indices:
        array = as_numpy("quotas", quotas)
        if array.dtype.kind not in "iu" or array.shape != (self._data.classes,):
            raise ValueError(
                f"quotas: expected an integer for each of {self._data.classes} classes, got "
                f"{array.dtype} of shape {array.shape}"
            )
        bad = (array < 0) | (array > self._data.counts)
        if bad.any():
            c = int(np.argmax(bad))
            raise ValueError(
                f"quotas[{c}]: expected 0 to {self._data.counts[c]}, the rows of class {c}, got "
                f"{array[c]}"
            )
        counts = array.astype(np.int64)
        if counts.sum() != batch_size:
            raise ValueError(f"quotas: add up to {counts.sum()}, expected batch_size, {batch_size}")
        return counts

    def _plan(self, seed: int, epoch: int) -> Indices:
        places = np.empty(self.n, np.int64)
        self._data.strata.spread(seed, epoch, min(self._rows_per_batch, self.n), places)
        return self._data.rows[places]

    def rows(self, epoch: int, start: int, count: int) -> Indices:
        epoch, start, count = stretch(epoch, start, count)
        if self._quotas is None:
            return self._planned(epoch)[start : start + count].copy()
        positions = np.empty(count, np.int64)
        size = self._rows_per_batch
        _core.sampling.shuffled_batches(self.seed, epoch, size, start, positions)
        batch, place = np.divmod(positions, size)
        classes = self._classes[place]
        quota, rows = self._quotas[classes], self._data.counts[classes]
        # An order of a class serves as many batches as it has whole quotas.
        order, in_order = np.divmod(batch, rows // quota)
        done = order * rows + in_order * quota
        turns = np.asarray(done + self._turns_in_batch[place], np.int64)
        places = np.empty(count, np.int64)
        self._data.strata.turns(self.seed, epoch, classes, turns, places)
        return self._data.rows[places]


Short: TypeAlias = Literal["error", "repeat", "skip"]


class GroupSampler(LabelSampler):
    """Batches of P different classes with K rows of each, as metric learning wants them.

    The classes and rows of every batch are drawn anew, all choices equally likely; a batch lists
    one class after the other. The K rows are different ones.

    A state is for the same labels and the same options from `classes_per_batch` to `short`.

    Args:
        labels, num_classes: see `StratifiedSampler`.
        classes_per_batch: P.
        rows_per_class: K.
        go_round: all classes come once, in random order, before any comes again (also in a batch in
            which one round ends and the next begins). Every epoch begins a new round.
        short: what becomes of classes with fewer than K rows: ``"error"``; ``"repeat"``, all their
            rows come, and again, until they are K; ``"skip"``, they are never drawn.
        num_batches: batches in an epoch, by default rows // (P * K), at least 1.
        seed, rank, world_size: see `BatchSampler`; a rank gets whole classes if `world_size`
            divides P.

    Raises TypeError or ValueError naming the argument.
    """

    def __init__(
        self,
        labels: Array,
        classes_per_batch: int,
        rows_per_class: int,
        *,
        go_round: bool = False,
        short: Short = "error",
        num_batches: int | None = None,
        num_classes: int | None = None,
        seed: int | None = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._data = RowsByClass(labels, num_classes)
        self.n = self._data.n
        self.go_round = flag("go_round", go_round)
        self._per_batch = integer("classes_per_batch", classes_per_batch, 1)
        self._per_class = integer("rows_per_class", rows_per_class, 1)
        self._listed = self._check(short)
        if self._per_batch > self._listed.size:
            least = "rows" if short == "repeat" else f"{self._per_class} rows or more"
            raise ValueError(
                f"classes_per_batch: {self._per_batch}, but only {self._listed.size} classes have "
                f"{least}"
            )
        size = self._per_batch * self._per_class
        if num_batches is None:
            num_batches = max(self.n // size, 1)
        length = integer("num_batches", num_batches, 1, (2**63 - 1) // size) * size
        super().__init__(length, size, seed=seed, rank=rank, world_size=world_size)
        self._decisive = {
            "classes_per_batch": self._per_batch,
            "rows_per_class": self._per_class,
            "go_round": int(self.go_round),
            "repeats": int(short == "repeat"),
        }

    def _check(self, short: Short) -> Indices:
        """The classes that are drawn."""
        one_of("short", short, *get_args(Short))
        counts = self._data.counts
        fewer = np.flatnonzero((counts > 0) & (counts < self._per_class))
        if short == "error" and fewer.size > 0:
            some = ", ".join(f"{self._data.names[c].item()!r} ({counts[c]})" for c in fewer[:5])
            raise ValueError(
                f"rows_per_class: {self._per_class}, but {fewer.size} classes have fewer rows: "
                f"{some}{', ...' if fewer.size > 5 else ''}; short='repeat' takes their rows more "
                "than once, short='skip' leaves them out"
            )
        return np.flatnonzero(counts >= (1 if short == "repeat" else self._per_class))

    def _plan(self, seed: int, epoch: int) -> Indices:
        size = self._per_batch * self._per_class
        chosen = np.empty((self.length // size, self._per_batch), np.int64)
        _core.sampling.groups_in_turn(seed, epoch, self._listed.size, chosen)
        return self._listed[chosen]

    def _groups(self, epoch: int, first: int, batches: int) -> Indices:
        """The classes of batches number first, first + 1, ..., a line for each."""
        if self.go_round:
            return self._planned(epoch)[first : first + batches]
        chosen = np.empty((batches, self._per_batch), np.int64)
        _core.sampling.groups_drawn(self.seed, epoch, self._listed.size, first, chosen)
        return self._listed[chosen]

    def rows(self, epoch: int, start: int, count: int) -> Indices:
        epoch, start, count = stretch(epoch, start, count)
        size = self._per_batch * self._per_class
        first, skipped = divmod(start, size)
        batches = -(-(skipped + count) // size)
        places = np.empty(batches * size, np.int64)
        groups = self._groups(epoch, first, batches)
        self._data.strata.groups(self.seed, epoch, first, groups, self._per_class, places)
        return self._data.rows[places[skipped : skipped + count]]
