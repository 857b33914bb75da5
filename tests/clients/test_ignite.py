"""ignite: its engines keep our loaders, the deterministic one too, and resume in an epoch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.utils.data as torchs

import subgrad_fast as sf
from subgrad_fast.data import DataLoader
from tests.clients import toy

engine = toy.client("ignite.engine")
metrics = toy.client("ignite.metrics")
deterministic = toy.client("ignite.engine.deterministic")
pytestmark = [pytest.mark.torch, pytest.mark.clients]

KINDS = [engine.Engine, deterministic.DeterministicEngine]


class Trained:
    """A model, and an engine that trains it."""

    def __init__(self, kind: Any) -> None:
        self.model = toy.model()
        self.seen: list[torch.Tensor] = []
        self.optimizer = toy.optimizer_of(self.model)
        self.engine = kind(self.step)

    def step(self, _: Any, batch: Any) -> float:
        x, y = batch
        self.seen.append(x[:, 0])
        self.optimizer.zero_grad()
        loss = toy.loss_of(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


@pytest.mark.parametrize("kind", KINDS)
@toy.pairs
def test_training_and_evaluating(way: toy.Way, torchs_way: toy.Way, kind: Any) -> None:
    def run(make: toy.Way) -> Any:
        loader, trained = make(), Trained(kind)
        trained.engine.run(loader, max_epochs=3)
        iterated = trained.engine.state.dataloader
        assert type(iterated) in (torchs.DataLoader, DataLoader, sf.BatchLoader)
        assert type(iterated) is type(loader)
        if isinstance(iterated, DataLoader):
            assert iterated.handed_over is None
        evaluator = engine.Engine(lambda _, batch: (trained.model(batch[0]), batch[1]))
        metrics.Loss(toy.loss_of).attach(evaluator, "loss")
        return trained.seen, toy.weights_of(trained.model), evaluator.run(make()).metrics

    toy.compare(run, way, torchs_way)


def test_the_deterministic_engine_resumes_in_the_middle() -> None:
    """As with torch's loader: without workers the rest of that epoch is of another order, since
    ignite puts the generators back before the order is drawn. The epochs behind it are the same."""

    def run(make: toy.Way) -> Any:
        whole, begun = (Trained(deterministic.DeterministicEngine) for _ in range(2))
        torch.manual_seed(7)  # of which the engine draws its seed
        whole.engine.run(make(), max_epochs=3)
        at = toy.STEPS + 3
        state: dict[str, Any] = {}

        @begun.engine.on(engine.Events.ITERATION_COMPLETED(once=at))
        def stop() -> None:
            state.update(begun.engine.state_dict())
            begun.engine.terminate()

        for _ in range(2):
            torch.manual_seed(7)
            begun.engine.run(make(), max_epochs=3)
            begun.engine = deterministic.DeterministicEngine(begun.step)
            begun.engine.load_state_dict(state)
        toy.assert_equal(begun.seen[:at], whole.seen[:at])
        toy.assert_equal(begun.seen[2 * toy.STEPS :], whole.seen[2 * toy.STEPS :])
        return begun.seen, toy.weights_of(begun.model)

    toy.compare(run, toy.with_ours, toy.with_torch)


@pytest.mark.parametrize("way", toy.STATEFUL)
def test_an_engine_resumes_with_the_loaders_state(way: toy.Way) -> None:
    """A plain engine is told how many batches are left; the loader knows which."""
    whole = Trained(engine.Engine)
    torch.manual_seed(7)
    whole.engine.run(way(), max_epochs=1)

    begun = Trained(engine.Engine)
    torch.manual_seed(7)
    loader = way()
    state: dict[str, Any] = {}

    @begun.engine.on(engine.Events.ITERATION_COMPLETED(once=3))
    def stop() -> None:
        state.update(loader.state_dict())
        begun.engine.terminate()

    begun.engine.run(loader, max_epochs=1)
    loader = way()
    loader.load_state_dict(state)
    begun.engine = engine.Engine(begun.step)
    begun.engine.run(loader, max_epochs=1, epoch_length=toy.STEPS - 3)
    toy.assert_equal(begun.seen, whole.seen)
    toy.assert_equal(toy.weights_of(begun.model), toy.weights_of(whole.model))
