"""Where a contender's batches come from, each source with random numbers of its own.

torch's loaders draw their order from torch's global generator, and so do layers like dropout. Here
each source and each model has a stream of its own, begun from the same seed, so that contenders
that take turns meet the numbers that they would meet alone.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

Batch = Any
HASHED_BYTES = 1 << 20
"""Of each tensor of a batch so much is looked at to tell whether contenders saw the same."""


class Stream:
    """A state of torch's global generators that belongs to one model or source."""

    def __init__(self, seed: int) -> None:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            self._state = self._read()

    @staticmethod
    def _read() -> list[torch.Tensor]:
        return [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]

    @staticmethod
    def _write(state: list[torch.Tensor]) -> None:
        torch.set_rng_state(state[0])
        if len(state) > 1:
            torch.cuda.set_rng_state_all(state[1:])

    def __enter__(self) -> None:
        self._outer = self._read()
        self._write(self._state)

    def __exit__(self, *_: object) -> None:
        self._state = self._read()
        self._write(self._outer)


def is_batch(value: Any) -> bool:
    """Whether this is one batch: a tensor, a mapping, a tuple, or a list of tensors."""
    if isinstance(value, torch.Tensor | Mapping | tuple):
        return True
    return isinstance(value, list) and any(isinstance(item, torch.Tensor) for item in value)


def tensors_of(batch: Batch) -> list[torch.Tensor]:
    """The tensors of a batch, in their order."""
    if isinstance(batch, torch.Tensor):
        return [batch]
    if isinstance(batch, Mapping):
        batch = batch.values()
    elif not isinstance(batch, tuple | list):
        return []
    return [tensor for part in batch for tensor in tensors_of(part)]


def fingerprint(batch: Batch) -> int:
    """A number that tells batches apart."""
    found = 0
    for tensor in tensors_of(batch):
        found = zlib.crc32(f"{tensor.dtype}{list(tensor.shape)}".encode(), found)
        if tensor.layout == torch.strided and tensor.device.type == "cpu":
            flat = tensor.detach().reshape(-1)[: HASHED_BYTES // tensor.element_size()]
            found = zlib.crc32(flat.contiguous().view(torch.uint8).numpy().tobytes(), found)
    return found


def described(batch: Batch) -> str:
    """A batch in words: the types and shapes of its tensors."""
    found = (f"{str(t.dtype).partition('.')[2]}{list(t.shape)}" for t in tensors_of(batch))
    return ", ".join(found) or type(batch).__name__


class Source:
    """A loader, or one batch over and over.

    `take` returns a batch and the nanoseconds that it took. Several contenders may share a source:
    each batch is taken once, and what it took counts for all of them.
    """

    def __init__(self, name: str, given: Any, seed: int) -> None:
        if callable(given) and not isinstance(given, Iterable):
            given = given()
        self.fixed = is_batch(given)
        if not self.fixed and not isinstance(given, Iterable):
            raise TypeError(
                f"{name}: expected a batch (a tensor, a tuple, a dict) or an iterable of batches, "
                f"got {type(given).__name__}"
            )
        self._name, self._given = name, given
        self._stream = None if self.fixed else Stream(seed)
        self._batches = self._for_ever()
        self._taken: list[tuple[Batch, int]] = []
        self.prints: list[int] = []

    def _for_ever(self) -> Iterator[Batch]:
        """Pass after pass of the loader."""
        while True:
            empty = True
            for batch in [self._given] if self.fixed else self._given:
                empty = False
                yield batch
            if empty:
                raise ValueError(f"{self._name}: has no batch")

    def begin_block(self) -> None:
        """Forgets what was taken: the next block has batches of its own."""
        self._taken.clear()

    def take(self, index: int, synchronize: Callable[[], object]) -> tuple[Batch, int]:
        """The batch of that number in the block."""
        if index == len(self._taken):
            if self._stream is None:
                self._taken.append((self._given, 0))
            else:
                with self._stream:
                    start = time.perf_counter_ns()
                    batch = next(self._batches)
                    synchronize()
                    elapsed = time.perf_counter_ns() - start
                self._taken.append((batch, elapsed))
                self.prints.append(fingerprint(batch))
        return self._taken[index]
