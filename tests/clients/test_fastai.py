"""fastai: its Learner goes through any loaders that are in its DataLoaders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.clients import toy

learner = toy.client("fastai.learner")
core = toy.client("fastai.data.core")
optimizer = toy.client("fastai.optimizer")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.clients,
    pytest.mark.filterwarnings("ignore"),  # of fastai's, about options of torch
]


@toy.pairs
def test_fit_and_validate(way: toy.Way, torchs_way: toy.Way, tmp_path: Path) -> None:
    def run(make: toy.Way) -> Any:
        loaders = core.DataLoaders(make(), make(), path=tmp_path, device=torch.device("cpu"))
        learning = learner.Learner(
            loaders,
            toy.model(),
            loss_func=torch.nn.BCEWithLogitsLoss(),
            opt_func=optimizer.SGD,
            lr=0.1,
        )
        with learning.no_logging():
            learning.fit(2)
            assert learning.dls.train is loaders.train
            return toy.weights_of(learning.model), list(learning.validate())

    toy.compare(run, way, torchs_way)
