"""torchdata: its StatefulDataLoader over our samplers, and nodes over samplers and BatchLoader."""

from __future__ import annotations

from typing import Any

import pytest
import torch.utils.data as torchs

from subgrad_fast.data import DataLoader
from tests.clients import toy

stateful = toy.client("torchdata.stateful_dataloader")
nodes = toy.client("torchdata.nodes")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.clients,
    pytest.mark.filterwarnings("ignore"),  # of torchdata's, about torch and fork()
]


def loader_of_torchdata(workers: int) -> Any:
    return stateful.StatefulDataLoader(
        toy.dataset(), batch_sampler=toy.sampler().as_torch(), num_workers=workers
    )


def node_of_a_sampler() -> Any:
    """Gathers what a sampler names."""
    rows = nodes.SamplerWrapper(toy.sampler().as_torch())
    return nodes.Loader(nodes.Mapper(rows, lambda batch: [toy.X[batch], toy.Y[batch]]))


def node_of_a_loader(kind: Any) -> Any:
    return nodes.Loader(nodes.IterableWrapper(kind()))


WAYS: dict[str, Any] = {
    "StatefulDataLoader": lambda: loader_of_torchdata(0),
    "StatefulDataLoader with workers": lambda: loader_of_torchdata(2),
    "a node of a sampler": node_of_a_sampler,
    "a node of BatchLoader": lambda: node_of_a_loader(toy.with_batch_loader),
    "a node of data.DataLoader": lambda: node_of_a_loader(toy.with_both),
}


def epochs_of(loader: Any, n: int) -> list[Any]:
    return [[list(batch) for batch in loader] for _ in range(n)]


@pytest.mark.parametrize("name", WAYS)
def test_batches(name: str) -> None:
    toy.assert_equal(epochs_of(WAYS[name](), 2), epochs_of(toy.with_lists(), 2))


@pytest.mark.parametrize("name", WAYS)
def test_resumed_in_the_middle_of_an_epoch(name: str) -> None:
    first, second = epochs_of(toy.with_lists(), 2)
    loader = WAYS[name]()
    toy.assert_equal(epochs_of(loader, 1), [first])
    begun = iter(loader)
    seen = [list(next(begun)) for _ in range(3)]
    state = loader.state_dict()
    loader = WAYS[name]()
    loader.load_state_dict(state)
    toy.assert_equal(seen + [list(batch) for batch in loader], second)


def test_the_state_is_that_of_torchdata() -> None:
    """Both loaders, asked in the middle, go on with the same batches."""
    rest = []
    for kind in (stateful.StatefulDataLoader, DataLoader):
        loader = kind(toy.dataset(), batch_sampler=toy.sampler().as_torch())
        begun = iter(loader)
        next(begun)
        state = loader.state_dict()
        loader = kind(toy.dataset(), batch_sampler=toy.sampler().as_torch())
        loader.load_state_dict(state)
        rest.append([list(batch) for batch in loader])
    assert len(rest[0]) == toy.STEPS - 1
    toy.assert_equal(rest[1], rest[0])
    assert issubclass(stateful.StatefulDataLoader, torchs.DataLoader)
