"""A small model, its data, and the ways to load them that clients are compared by.

A client's result with a loader of this library must equal, bit for bit, the one with torch's
loader over the same order.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
import torch
import torch.utils.data as torchs

import subgrad_fast as sf
from subgrad_fast.data import DataLoader

N = 103
BATCH = 16
STEPS = -(-N // BATCH)
"""Batches of an epoch. The last one is smaller."""

_generator = torch.Generator().manual_seed(0)
X = torch.randn(N, 4, generator=_generator)
Y = (X.sum(1, keepdim=True) + torch.randn(N, 1, generator=_generator) > 0).float()


def client(name: str) -> Any:
    """A library, whose warnings while it is imported are its own; skips where it is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as missing:
            pytest.skip(f"{missing}; `make test-clients` installs it", allow_module_level=True)


def dataset() -> torchs.TensorDataset:
    return torchs.TensorDataset(X, Y)


def model() -> torch.nn.Linear:
    """The same in each call."""
    made = torch.nn.Linear(4, 1)
    with torch.no_grad():
        made.weight.copy_(torch.tensor([[0.1, -0.2, 0.3, -0.4]]))
        made.bias.fill_(0.5)
    return made


loss_of = torch.nn.functional.binary_cross_entropy_with_logits


def optimizer_of(made: torch.nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(made.parameters(), lr=0.1, momentum=0.9)


def weights_of(made: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in made.parameters()])


# --- ways to load -------------------------------------------------------------------------------


def sampler(**options: Any) -> sf.BatchSampler:
    return sf.BatchSampler(N, BATCH, seed=3, **options)


class Listed(torchs.BatchSampler):
    """The lists of rows that our sampler gives, epoch by epoch, without anything of ours in it."""

    def __init__(self, **options: Any) -> None:
        ours = sampler(**options)
        self.epochs = [[batch.tolist() for batch in ours] for _ in range(4)]
        self.epoch = 0
        super().__init__(range(N), len(self.epochs[0][0]), False)

    def __len__(self) -> int:
        return len(self.epochs[0])

    def __iter__(self) -> Iterator[list[int]]:
        self.epoch += 1
        return iter(self.epochs[self.epoch - 1])

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


# Options are those of the sampler, such as `rank` and `world_size`.


def with_torch(data: Any = None) -> torchs.DataLoader[Any]:
    return torchs.DataLoader(data or dataset(), BATCH, shuffle=True)


def with_ours(data: Any = None) -> DataLoader[Any]:
    return DataLoader(data or dataset(), BATCH, shuffle=True)


def with_batch_loader(data: Any = None, **options: Any) -> sf.BatchLoader[Any]:
    arrays = (X, Y) if data is None else data.datasets
    return sf.BatchLoader(arrays, sampler(**options))


def with_as_torch(data: Any = None, **options: Any) -> torchs.DataLoader[Any]:
    return torchs.DataLoader(data or dataset(), batch_sampler=sampler(**options).as_torch())


def with_both(data: Any = None, **options: Any) -> DataLoader[Any]:
    return DataLoader(data or dataset(), batch_sampler=sampler(**options).as_torch())


def with_lists(data: Any = None, **options: Any) -> torchs.DataLoader[Any]:
    return torchs.DataLoader(data or dataset(), batch_sampler=Listed(**options))


Way = Callable[..., Any]

PAIRS: dict[str, tuple[Way, Way]] = {
    "data.DataLoader": (with_ours, with_torch),
    "BatchLoader": (with_batch_loader, with_lists),
    "as_torch": (with_as_torch, with_lists),
    "data.DataLoader with as_torch": (with_both, with_lists),
}
"""A way to load, and torch's loader over the same order."""

STATEFUL = [with_ours, with_batch_loader, with_both]
"""Ways whose loader says where it is in an epoch."""

pairs = pytest.mark.parametrize(("way", "torchs_way"), PAIRS.values(), ids=PAIRS.keys())


def assert_equal(got: Any, expected: Any) -> None:
    """The same values, in the same structure of lists, tuples and dicts."""
    if isinstance(expected, torch.Tensor):
        assert torch.equal(got, expected), (got, expected)
    elif isinstance(expected, dict):
        assert list(got) == list(expected)
        assert_equal(list(got.values()), list(expected.values()))
    elif isinstance(expected, list | tuple):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_equal(one, other)
    else:
        assert got == expected


def compare(run: Callable[[Way], Any], way: Way, torchs_way: Way) -> Any:
    """Has `run` the same result with the loaders of both, from the same seed?"""
    results = []
    for make in (torchs_way, way):
        torch.manual_seed(7)
        results.append(run(make))
    assert_equal(results[1], results[0])
    return results[1]


# --- two processes ------------------------------------------------------------------------------


def on_two_ranks(job: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `job` returns in each of two processes that may form a gloo group on loopback.

    `job` is a function of a module's, and returns what can be pickled without sharing memory.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        # Neither is done before the other has begun, so none takes the place of both.
        begun = [pool.submit(_rank, job, rank, port, arguments) for rank in range(2)]
        return [one.result(timeout=120) for one in begun]


def _rank(job: Callable[..., Any], rank: int, port: int, arguments: tuple[Any, ...]) -> Any:
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE="2",
        LOCAL_WORLD_SIZE="2",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    return job(*arguments)
