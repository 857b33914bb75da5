"""accelerate: makes torch's own loader of a prepared one; saves and loads ours as they are."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.data as torchs

from subgrad_fast.data import DataLoader
from tests.clients import toy

accelerate = toy.client("accelerate")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.clients,
    pytest.mark.filterwarnings("ignore"),  # of accelerate's, about options of torch
]


def train(
    accelerator: Any, made: Any, optimizer: Any, batches: Any, stop: int | None = None
) -> list[torch.Tensor]:
    """One epoch, or `stop` batches of it; which rows it saw."""
    seen = []
    for x, y in batches:
        seen.append(x[:, 0])
        optimizer.zero_grad()
        accelerator.backward(toy.loss_of(made(x), y))
        optimizer.step()
        if len(seen) == stop:
            break
    return seen


def begin(way: toy.Way) -> tuple[Any, ...]:
    """An accelerator, model and optimizer that are prepared, and a loader that is not."""
    accelerator = accelerate.Accelerator(cpu=True)
    inner = toy.model()
    made, optimizer = accelerator.prepare(inner, toy.optimizer_of(inner))
    return accelerator, made, optimizer, way()


@pytest.mark.parametrize("prepared", [True, False])
@toy.pairs
def test_training(way: toy.Way, torchs_way: toy.Way, prepared: bool) -> None:
    def run(make: toy.Way) -> Any:
        accelerator, made, optimizer, loader = begin(make)
        if prepared and isinstance(loader, torchs.DataLoader):
            loader = accelerator.prepare(loader)
            assert type(loader.base_dataloader) is torchs.DataLoader
        seen = [train(accelerator, made, optimizer, loader) for _ in range(2)]
        return seen, toy.weights_of(made)

    toy.compare(run, way, torchs_way)


def test_what_prepare_makes_of_a_batch_loader() -> None:
    loader = toy.with_batch_loader()
    assert accelerate.Accelerator(cpu=True).prepare(loader) is loader


@pytest.mark.parametrize("prepared", [True, False])
@pytest.mark.parametrize("way", [toy.with_ours, toy.with_as_torch, toy.with_both])
def test_skip_first_batches(way: toy.Way, prepared: bool) -> None:
    accelerator = accelerate.Accelerator(cpu=True)
    torch.manual_seed(7)
    whole = list(way())
    torch.manual_seed(7)
    loader = way()
    rest = accelerator.skip_first_batches(accelerator.prepare(loader) if prepared else loader, 3)
    assert isinstance(rest, torchs.DataLoader)
    assert not isinstance(rest, DataLoader)
    toy.assert_equal(list(rest), whole[3:])


@pytest.mark.parametrize("way", toy.STATEFUL)
def test_saved_and_loaded_in_the_middle_of_an_epoch(way: toy.Way, tmp_path: Path) -> None:
    """A loader that is not prepared is registered, and its state is saved with the rest."""
    torch.manual_seed(7)
    accelerator, made, optimizer, loader = begin(way)
    whole = [*train(accelerator, made, optimizer, loader)]
    whole += train(accelerator, made, optimizer, loader)
    expected = toy.weights_of(made)

    torch.manual_seed(7)
    accelerator, made, optimizer, loader = begin(way)
    accelerator.register_for_checkpointing(loader)
    seen = train(accelerator, made, optimizer, loader)
    seen += train(accelerator, made, optimizer, loader, stop=3)
    accelerator.save_state(str(tmp_path))

    torch.manual_seed(1234)
    accelerator, made, optimizer, loader = begin(way)
    accelerator.register_for_checkpointing(loader)
    accelerator.load_state(str(tmp_path))
    seen += train(accelerator, made, optimizer, loader)
    toy.assert_equal(seen, whole)
    toy.assert_equal(toy.weights_of(made), expected)


def in_a_process() -> dict[str, Any]:
    """Rows and weights of a rank, by way to load."""
    out = {}
    rank = accelerate.PartialState(cpu=True).process_index

    mine = {"rank": rank, "world_size": 2, "tail": "pad"}
    for name, way, prepared in [
        ("torch", toy.with_torch, True),
        ("data.DataLoader", toy.with_ours, True),
        ("lists", toy.with_lists, True),
        ("as_torch", toy.with_as_torch, True),
        ("lists of a rank", partial(toy.with_lists, **mine), False),
        ("BatchLoader", partial(toy.with_batch_loader, **mine), False),
    ]:
        torch.manual_seed(7)
        accelerator, made, optimizer, loader = begin(way)
        loader = accelerator.prepare(loader) if prepared else loader
        seen = [torch.cat(train(accelerator, made, optimizer, loader)).tolist() for _ in range(2)]
        out[name] = {"seen": seen, "weights": toy.weights_of(made).tolist()}
    return out


def test_two_processes() -> None:
    ranks = toy.on_two_ranks(in_a_process)
    for rank in ranks:
        assert rank["data.DataLoader"] == rank["torch"]
        assert rank["as_torch"] == rank["lists"]
        assert rank["BatchLoader"] == rank["lists of a rank"]
    for name in ranks[0]:
        assert ranks[0][name]["weights"] == ranks[1][name]["weights"]
        for epoch in range(2):
            assert {*ranks[0][name]["seen"][epoch], *ranks[1][name]["seen"][epoch]} == {
                *toy.X[:, 0].tolist()
            }
