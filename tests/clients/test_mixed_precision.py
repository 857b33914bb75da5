"""Mixed precision with float16 on the CPU, by clients and by hand: as torch's default.

Losses overflow at some steps, the first one included. Weights, momentum and the scaler's own state
are compared bit for bit after every step.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from subgrad_fast.optim import SGD
from tests.clients import toy

pytestmark = [
    pytest.mark.torch,
    pytest.mark.clients,
    pytest.mark.filterwarnings("ignore"),  # of the clients
]

TERMS = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
OVERFLOWS = (0, 3, 4)
STEPS = 8


def scaler() -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", growth_interval=2)


def loss_at(step: int, model: torch.nn.Module) -> torch.Tensor:
    """In float16 as far as autocast goes; infinite at some steps."""
    rows = slice(toy.BATCH * (step % 4), toy.BATCH * (step % 4 + 1))
    with torch.autocast("cpu", torch.float16):
        loss = toy.loss_of(model(toy.X[rows]).float(), toy.Y[rows])
    return loss * (float("inf") if step in OVERFLOWS else 1.0)


def seen(model: torch.nn.Module, optimizer: Any, scaling: torch.amp.GradScaler) -> Any:
    state = [dict(slots) for slots in optimizer.state_dict()["state"].values()]
    buffers = [s["momentum_buffer"].clone() for s in state]
    return [p.detach().clone() for p in model.parameters()], buffers, scaling.state_dict()


def assert_equal(got: list[Any], want: list[Any]) -> None:
    assert len(got) == len(want) == STEPS
    for (weights, buffers, scale), (weights2, buffers2, scale2) in zip(got, want, strict=True):
        assert scale == scale2
        assert len(buffers) == len(buffers2)
        for a, b in zip([*weights, *buffers], [*weights2, *buffers2], strict=True):
            assert torch.equal(a, b)


def by_hand(cls: type) -> list[Any]:
    model, scaling, found = toy.model(), scaler(), []
    optimizer = cls(model.parameters(), **TERMS)
    for step in range(STEPS):
        optimizer.zero_grad()
        scaling.scale(loss_at(step, model)).backward()
        scaling.step(optimizer)
        scaling.update()
        found.append(seen(model, optimizer, scaling))
    return found


def test_by_hand() -> None:
    got, want = by_hand(SGD), by_hand(torch.optim.SGD)
    assert_equal(got, want)
    scales = [scale["scale"] for _, _, scale in got]
    assert len(set(scales)) > 2  # it went down and up: the overflows were met


def by_accelerate(cls: type) -> list[Any]:
    accelerate = toy.client("accelerate")
    from accelerate.optimizer import AcceleratedOptimizer

    accelerate.Accelerator(cpu=True)  # the state that its optimizers ask
    model, scaling, found = toy.model(), scaler(), []
    inner = cls(model.parameters(), **TERMS)
    optimizer = AcceleratedOptimizer(inner, device_placement=False, scaler=scaling)
    for step in range(STEPS):
        optimizer.zero_grad()
        scaling.scale(loss_at(step, model)).backward()
        optimizer.step()
        assert optimizer.step_was_skipped == (step in OVERFLOWS)
        found.append(seen(model, inner, scaling))
    return found


def test_accelerate() -> None:
    assert_equal(by_accelerate(SGD), by_accelerate(torch.optim.SGD))


def by_lightning(cls: type, folder: Path) -> list[Any]:
    lightning = toy.client("lightning.pytorch")
    from lightning.pytorch.plugins.precision import MixedPrecision

    scaling, found = scaler(), []

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = toy.model()

        def training_step(self, _: Any, step: int) -> torch.Tensor:
            return loss_at(step, self.inner)

        def configure_optimizers(self) -> Any:
            return cls(self.inner.parameters(), **TERMS)

        def on_train_batch_end(self, *_: Any) -> None:
            found.append(seen(self.inner, self.optimizers().optimizer, scaling))

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    lightning.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaling)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=1,
    ).fit(Module(), torch.utils.data.DataLoader(list(range(STEPS))))
    return found


def test_lightning(tmp_path: Path) -> None:
    assert_equal(by_lightning(SGD, tmp_path), by_lightning(torch.optim.SGD, tmp_path))
