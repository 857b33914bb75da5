"""Hugging Face data sets: gathered in torch and numpy format, else by torch's own code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch.utils.data as torchs

import subgrad_fast as sf
from subgrad_fast.data import DataLoader
from tests.clients import toy

datasets = toy.client("datasets")
pytestmark = [pytest.mark.torch, pytest.mark.clients]


def table(kind: str | None) -> Any:
    columns = {"x": toy.X.numpy(), "y": toy.Y[:, 0].numpy().astype(np.int64)}
    return datasets.Dataset.from_dict(columns).with_format(kind)


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_gathered(kind: str) -> None:
    def run(make: Any) -> Any:
        loader = make(table(kind))
        assert type(loader) is torchs.DataLoader or loader.handed_over is None
        return [list(loader) for _ in range(2)]

    batches = toy.compare(run, toy.with_ours, toy.with_torch)
    assert set(batches[0][0]) == {"x", "y"}
    toy.compare(run, toy.with_both, toy.with_lists)


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_through_as_torch(kind: str) -> None:
    toy.compare(lambda make: list(make(table(kind))), toy.with_as_torch, toy.with_lists)


def test_without_a_format() -> None:
    loader = DataLoader(table(None), toy.BATCH)
    assert loader.handed_over is not None
    assert "with_format('torch')" in loader.handed_over
    toy.assert_equal(list(loader), list(torchs.DataLoader(table(None), toy.BATCH)))


def test_in_a_batch_loader() -> None:
    with pytest.raises(TypeError, match=r"with_format\('numpy'\)\[:\]"):
        sf.BatchLoader(table("numpy"), toy.sampler())
    arrays = dict(table("numpy").with_format("numpy")[:])
    for batch, (x, y) in zip(sf.BatchLoader(arrays, toy.sampler()), toy.with_lists(), strict=True):
        assert (batch["x"] == x.numpy()).all()
        assert (batch["y"] == y[:, 0].numpy()).all()
