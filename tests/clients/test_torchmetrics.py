"""torchmetrics: keeps the batches it is given, which are the caller's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.clients import toy

torchmetrics = toy.client("torchmetrics")
ranking = toy.client("sklearn.metrics")
pytestmark = [pytest.mark.torch, pytest.mark.clients]


@toy.pairs
def test_a_metric_of_an_epoch(way: toy.Way, torchs_way: toy.Way) -> None:
    """AUROC holds every batch until it is asked: none may have been written over since."""
    model = toy.model()

    def run(make: toy.Way) -> Any:
        auroc = torchmetrics.classification.BinaryAUROC()
        direct = torchmetrics.classification.BinaryAUROC()
        loader = make()
        for x, y in loader:
            auroc.update(x[:, 0].sigmoid(), y[:, 0].int())
            direct.update(x[:, 1], y[:, 0].int())
        with torch.no_grad():
            for x, y in list(loader):
                auroc.update(model(x)[:, 0], y[:, 0].int())
        return auroc.compute(), direct.compute()

    _, got = toy.compare(run, way, torchs_way)
    expected = ranking.roc_auc_score(toy.Y[:, 0].numpy(), toy.X[:, 1].sigmoid().numpy())
    assert np.isclose(got.item(), expected, rtol=1e-6)
