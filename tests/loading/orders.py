"""Samplers for the tests of BatchLoader, and data to load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

N = 1000
"""Rows of the data and of the samplers' orders."""


class Order:
    """A sampler: the same shuffled batches in every epoch."""

    def __init__(self, n: int = N, batch_size: int = 32, seed: int = 0) -> None:
        order = np.random.default_rng(seed).permutation(n)
        self.batches = [order[i : i + batch_size] for i in range(0, n, batch_size)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class StatefulOrder(Order):
    """... that can be resumed: a new iteration goes on where the last one or a loaded state was."""

    epoch = position = 0

    def __iter__(self) -> Iterator[Any]:
        while self.position < len(self.batches):
            self.position += 1
            yield (self.batches[self.position - 1] + self.epoch) % N
        self.epoch, self.position = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]

    def set_epoch(self, epoch: int) -> None:
        self.epoch, self.position = epoch, 0


def numbers(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Random bytes as an array of any dtype, NaN and all."""
    size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(np.random.default_rng(0).bytes(size_bytes), dtype).reshape(shape)
