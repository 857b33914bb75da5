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
from benchmarks.harness import OURS, Contender

TAKE = "a loop of `numpy.take(out=)`"
SELECT = "a loop of `torch.index_select(out=)`"
DATA_LOADER = "`torch.utils.data.DataLoader(TensorDataset)`"

Array = npt.NDArray[Any]


def go_through(batches: Iterable[Any]) -> None:
    """Take every batch and do nothing with it."""
    for _ in batches:
        pass


def take_loop(arrays: tuple[Array, ...], size: int) -> Callable[[], None]:
    """Shuffle, then np.take into the same arrays; mode="clip" spares it a copy of them."""
    n, rng = len(arrays[0]), np.random.default_rng(0)
    outs = [np.empty((size, *a.shape[1:]), a.dtype) for a in arrays]

    def epoch() -> None:
        order = rng.permutation(n)
        for first in range(0, n, size):
            rows = order[first : first + size]
            for array, out in zip(arrays, outs, strict=True):
                np.take(array, rows, axis=0, out=out[: len(rows)], mode="clip")

    return epoch


def select_loop(tensors: tuple[torch.Tensor, ...], size: int) -> Callable[[], None]:
    """Shuffle, then index_select into the same tensors."""
    n = len(tensors[0])
    outs = [torch.empty((size, *t.shape[1:]), dtype=t.dtype) for t in tensors]

    def epoch() -> None:
        order = torch.randperm(n)
        for first in range(0, n, size):
            rows = order[first : first + size]
            whole = len(rows) == size
            for tensor, out in zip(tensors, outs, strict=True):
                torch.index_select(tensor, 0, rows, out=out if whole else out[: len(rows)])

    return epoch


def epochs(shape: tuple[int, ...], dtype: str, size: int, *, data_loader: bool) -> list[Contender]:
    """One epoch of batches of rows and their int64 labels, its shuffle included."""
    rng = np.random.default_rng(0)
    x = np.empty(shape, dtype)
    x.reshape(-1).view(np.uint8)[:] = 1  # so that the memory is there
    arrays = (x, rng.integers(0, 10, shape[0]))
    tensors = tuple(map(torch.from_numpy, arrays))
    ours = sf.BatchLoader(arrays, sf.BatchSampler(shape[0], size))
    contenders = [
        Contender(TAKE, take_loop(arrays, size)),
        Contender(SELECT, select_loop(tensors, size)),
        Contender(OURS, partial(go_through, ours)),
    ]
    if data_loader:
        theirs = DataLoader(TensorDataset(*tensors), batch_size=size, shuffle=True)
        contenders.append(Contender(DATA_LOADER, partial(go_through, theirs)))
    return contenders
