"""skorch: takes our loader for its iterators, and any function that makes one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.utils.data as torchs

import subgrad_fast as sf
from subgrad_fast.data import DataLoader
from tests.clients import toy

skorch = toy.client("skorch")
pytestmark = [pytest.mark.torch, pytest.mark.clients]

made: list[Any] = []


def noted(loader: Any) -> Any:
    made.append(loader)
    return loader


def net(train: Any, valid: Any, **options: Any) -> Any:
    return skorch.NeuralNet(
        toy.model(),
        torch.nn.BCEWithLogitsLoss,
        optimizer=torch.optim.SGD,
        lr=0.1,
        max_epochs=2,
        batch_size=toy.BATCH,
        iterator_train=train,
        iterator_valid=valid,
        train_split=None,
        verbose=0,
        **options,
    )


def shuffled(kind: Any) -> Any:
    return lambda data, **options: noted(kind(data, shuffle=True, **options))


def listed(data: Any, **_: Any) -> Any:
    return noted(toy.with_lists())


def as_torch(data: Any, **_: Any) -> Any:
    return noted(toy.with_as_torch())


def batch_loader(data: Any, **_: Any) -> Any:
    return noted(sf.BatchLoader((toy.X, toy.Y), toy.sampler()))


@pytest.mark.parametrize(
    ("way", "torchs_way", "kind"),
    [
        (shuffled(DataLoader), shuffled(torchs.DataLoader), DataLoader),
        (batch_loader, listed, sf.BatchLoader),
        (as_torch, listed, torchs.DataLoader),
    ],
    ids=["data.DataLoader", "BatchLoader", "as_torch"],
)
def test_fit_and_predict(way: Any, torchs_way: Any, kind: Any) -> None:
    results = []
    for train in (torchs_way, way):
        torch.manual_seed(7)
        trained = net(train, DataLoader if train is way else torchs.DataLoader)
        trained.fit(toy.dataset(), None)
        iterated = made[-1]
        results.append((toy.weights_of(trained.module_), trained.predict(toy.X).tolist()))
    assert type(iterated) is kind
    assert kind is not DataLoader or iterated.handed_over is None
    toy.assert_equal(results[1], results[0])


def test_as_an_option() -> None:
    """What skorch makes of arrays is a data set of its own, whose batches torch's code makes."""
    results = []
    for kind in (torchs.DataLoader, DataLoader):
        torch.manual_seed(7)
        trained = net(kind, kind, iterator_train__shuffle=True)
        trained.fit(toy.X.numpy(), toy.Y.numpy())
        results.append((toy.weights_of(trained.module_), trained.predict(toy.X).tolist()))
        loader = trained.get_iterator(trained.get_dataset(toy.X, toy.Y), training=True)
        assert type(loader) is kind
    assert "Dataset" in loader.handed_over
    toy.assert_equal(results[1], results[0])
