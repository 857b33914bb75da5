"""The contenders: our loader, and the loops that one writes with NumPy and torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, TensorDataset

import subgrad_fast as sf
from subgrad_fast.bench.harness import OURS, Contender
from subgrad_fast.data import DataLoader as OurDataLoader

TAKE_INTO = "a loop of `numpy.take(out=)`"
SELECT_INTO = "a loop of `torch.index_select(out=)`"
TAKE = "a loop of `numpy.take`"
SELECT = "a loop of `torch.index_select`"
INDEX = "a loop of `x[rows], y[rows]`"
DATA_LOADER = "`torch.utils.data.DataLoader(TensorDataset)`"

Array = npt.NDArray[Any]


def go_through(batches: Iterable[Any]) -> None:
    """Take every batch and do nothing with it."""
    for _ in batches:
        pass


def take_loop(arrays: tuple[Array, ...], size: int, *, fresh: bool) -> Callable[[], None]:
    """Shuffle, then np.take, into the same arrays or new ones. (mode="clip" spares it a copy.)"""
    n, rng = len(arrays[0]), np.random.default_rng(0)
    outs = [np.empty((size, *a.shape[1:]), a.dtype) for a in arrays]

    def epoch() -> None:
        order = rng.permutation(n)
        for first in range(0, n, size):
            rows = order[first : first + size]
            if fresh:
                _ = [np.take(array, rows, axis=0) for array in arrays]
                continue
            for array, out in zip(arrays, outs, strict=True):
                np.take(array, rows, axis=0, out=out[: len(rows)], mode="clip")

    return epoch


def select_loop(tensors: tuple[torch.Tensor, ...], size: int, *, fresh: bool) -> Callable[[], None]:
    """Shuffle, then index_select, into the same tensors or new ones."""
    n = len(tensors[0])
    outs = [torch.empty((size, *t.shape[1:]), dtype=t.dtype) for t in tensors]

    def epoch() -> None:
        order = torch.randperm(n)
        for first in range(0, n, size):
            rows = order[first : first + size]
            if fresh:
                _ = [torch.index_select(tensor, 0, rows) for tensor in tensors]
                continue
            whole = len(rows) == size
            for tensor, out in zip(tensors, outs, strict=True):
                torch.index_select(tensor, 0, rows, out=out if whole else out[: len(rows)])

    return epoch


def index_loop(tensors: tuple[torch.Tensor, ...], size: int) -> Callable[[], None]:
    """Shuffle, then index as everybody does."""
    n = len(tensors[0])

    def epoch() -> None:
        order = torch.randperm(n)
        for first in range(0, n, size):
            rows = order[first : first + size]
            _ = [tensor[rows] for tensor in tensors]

    return epoch


def _data(shape: tuple[int, ...], dtype: str) -> tuple[tuple[Array, ...], tuple[torch.Tensor, ...]]:
    """Rows and their int64 labels, as arrays and as tensors of the same memory."""
    x = np.empty(shape, dtype)
    x.reshape(-1).view(np.uint8)[:] = 1  # so that the memory is there
    arrays = (x, np.random.default_rng(0).integers(0, 10, shape[0]))
    return arrays, tuple(map(torch.from_numpy, arrays))


def epochs(shape: tuple[int, ...], dtype: str, size: int) -> list[Contender]:
    """One epoch of batches, its shuffle included."""
    arrays, tensors = _data(shape, dtype)
    ours = sf.BatchLoader(arrays, sf.BatchSampler(shape[0], size))
    return [
        Contender(TAKE_INTO, take_loop(arrays, size, fresh=False)),
        Contender(SELECT_INTO, select_loop(tensors, size, fresh=False)),
        Contender(TAKE, take_loop(arrays, size, fresh=True)),
        Contender(SELECT, select_loop(tensors, size, fresh=True)),
        Contender(OURS, partial(go_through, ours)),
    ]


def torch_epochs(shape: tuple[int, ...], dtype: str, size: int) -> list[Contender]:
    """The same of tensors: the two classes of one name, and indexing by hand."""
    _, tensors = _data(shape, dtype)
    dataset = TensorDataset(*tensors)
    ours = OurDataLoader(dataset, batch_size=size, shuffle=True)
    theirs = DataLoader(dataset, batch_size=size, shuffle=True)
    return [
        Contender(INDEX, index_loop(tensors, size)),
        Contender(SELECT, select_loop(tensors, size, fresh=True)),
        Contender(DATA_LOADER, partial(go_through, theirs)),
        Contender(OURS, partial(go_through, ours)),
    ]
