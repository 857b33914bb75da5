"""transformers' Trainer: trains, evaluates, predicts and resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.data as torchs

from subgrad_fast.data import DataLoader
from tests.clients import toy

transformers = toy.client("transformers")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.clients,
    pytest.mark.filterwarnings("ignore"),  # of accelerate's, about options of torch
]

SAVED_AT = toy.STEPS + 3


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = toy.model()
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.training:
            self.seen.append(x[:, 0])
        logits = self.inner(x)
        return {"loss": toy.loss_of(logits, labels), "logits": logits}


class Trainer(transformers.Trainer):  # type: ignore[misc, name-defined]
    """Trains on the loader it is given, prepared by accelerate or not."""

    def __init__(self, way: toy.Way, folder: Path, *, prepared: bool, **options: Any) -> None:
        self.way, self.prepared = way, prepared
        self.made: list[Any] = []
        arguments = transformers.TrainingArguments(
            output_dir=str(folder),
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            **{"save_strategy": "no", **options},
            num_train_epochs=3,
            per_device_train_batch_size=toy.BATCH,
            optim="sgd",
            learning_rate=0.1,
            lr_scheduler_type="constant",
            seed=7,
        )
        super().__init__(model=Net(), args=arguments)

    def get_train_dataloader(self) -> Any:
        loader = self.way(torchs.StackDataset(x=toy.X, labels=toy.Y))
        if self.prepared:
            loader = self.accelerator.prepare(loader)
        self.made.append(loader)
        return loader

    def get_eval_dataloader(self, _: Any = None) -> Any:
        return self.get_train_dataloader()

    def get_test_dataloader(self, _: Any) -> Any:
        return self.get_train_dataloader()

    def log(self, *_: Any, **__: Any) -> None:
        """Which would print."""


@pytest.mark.parametrize(
    ("way", "torchs_way", "prepared"),
    [
        (*toy.PAIRS[name], prepared)
        for name in toy.PAIRS
        for prepared in (False, True)
        if not (prepared and name == "BatchLoader")
    ],
)
def test_train_evaluate_and_predict(
    way: toy.Way, torchs_way: toy.Way, prepared: bool, tmp_path: Path
) -> None:
    def run(make: toy.Way) -> Any:
        trainer = Trainer(make, tmp_path, prepared=prepared)
        trainer.train()
        iterated = trainer.made[0]
        if prepared:
            assert type(iterated.base_dataloader) is torchs.DataLoader
        elif isinstance(iterated, DataLoader):
            assert iterated.handed_over is None
        evaluated = trainer.evaluate()["eval_loss"]
        predicted = trainer.predict(None).predictions.tolist()
        return trainer.model.seen, toy.weights_of(trainer.model), evaluated, predicted

    toy.compare(run, way, torchs_way)


@pytest.mark.parametrize("way", [toy.with_torch, toy.with_ours, toy.with_as_torch])
def test_resumed_as_trainer_does(way: toy.Way, tmp_path: Path) -> None:
    whole = Trainer(way, tmp_path, prepared=True, save_strategy="steps", save_steps=SAVED_AT)
    whole.train()
    resumed = Trainer(way, tmp_path, prepared=True)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{SAVED_AT}"))
    toy.assert_equal(resumed.model.seen, whole.model.seen[SAVED_AT:])
    toy.assert_equal(toy.weights_of(resumed.model), toy.weights_of(whole.model))


class Saving(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
    """Keeps the state of the loader with the checkpoint."""

    def __init__(self) -> None:
        self.trainer: Any = None

    def on_save(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        if state.global_step == SAVED_AT:
            self.state = self.trainer.made[0].state_dict()


@pytest.mark.parametrize("way", toy.STATEFUL)
def test_resumed_with_the_loaders_state(way: toy.Way, tmp_path: Path) -> None:
    """Trainer skips batches by making torch's own loader anew, or is told to leave that."""
    whole = Trainer(way, tmp_path, prepared=False, save_strategy="steps", save_steps=SAVED_AT)
    saving = Saving()
    saving.trainer = whole
    whole.add_callback(saving)
    whole.train()

    def loaded(data: Any) -> Any:
        loader = way(data)
        loader.load_state_dict(saving.state)
        return loader

    resumed = Trainer(loaded, tmp_path, prepared=False, ignore_data_skip=True)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{SAVED_AT}"))
    rest = whole.model.seen[SAVED_AT:]
    toy.assert_equal(resumed.model.seen[: len(rest)], rest)
