"""Lightning: keeps our loaders, trains, validates and predicts with them, resumes in an epoch."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.data as torchs

from subgrad_fast.data import DataLoader
from tests.clients import toy

lightning = toy.client("lightning.pytorch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.clients,
    pytest.mark.filterwarnings("ignore"),  # of Lightning, that there might be more workers
]


class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.inner = toy.model()
        self.seen: list[torch.Tensor] = []

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        x, y = batch
        self.seen.append(x[:, 0])
        return toy.loss_of(self.inner(x), y)

    def validation_step(self, batch: Any, _: int) -> None:
        x, y = batch
        self.log("loss", toy.loss_of(self.inner(x), y), batch_size=len(x))

    def predict_step(self, batch: Any, _: int) -> torch.Tensor:
        return self.inner(batch[0])  # type: ignore[no-any-return]

    def configure_optimizers(self) -> torch.optim.SGD:
        return toy.optimizer_of(self.inner)


def trainer(folder: Path, **options: Any) -> Any:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return lightning.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **{"max_epochs": 2, **options},
    )


@toy.pairs
def test_fit_and_validate(way: toy.Way, torchs_way: toy.Way, tmp_path: Path) -> None:
    def run(make: toy.Way) -> Any:
        module, training, loader = Module(), trainer(tmp_path), make()
        training.fit(module, loader, make())
        assert training.train_dataloader is loader
        validated = training.validate(module, loader, verbose=False)
        assert training.val_dataloaders is loader
        return toy.weights_of(module), validated

    toy.compare(run, way, torchs_way)


IN_ORDER = {
    "torch": lambda: torchs.DataLoader(toy.dataset(), toy.BATCH),
    "data.DataLoader": lambda: DataLoader(toy.dataset(), toy.BATCH),
    "BatchLoader": lambda: toy.with_batch_loader(shuffle=False),
    "as_torch": lambda: toy.with_as_torch(shuffle=False),
    "data.DataLoader with as_torch": lambda: toy.with_both(shuffle=False),
    # Lightning takes torch's sampler of all rows for a batch sampler's own.
    "as_torch in random order": toy.with_as_torch,
}


@pytest.mark.parametrize("name", IN_ORDER)
def test_predict(name: str, tmp_path: Path) -> None:
    """For predictions Lightning makes loaders anew, of the same class, that note the rows."""
    loader, training = IN_ORDER[name](), trainer(tmp_path)
    predicted = training.predict(Module(), loader)
    assert type(training.predict_dataloaders) is type(loader)
    with torch.no_grad():
        toy.assert_equal(predicted, [toy.model()(x) for x in toy.X.split(toy.BATCH)])


def test_predict_in_random_order(tmp_path: Path) -> None:
    toy.compare(
        lambda make: trainer(tmp_path).predict(Module(), make()), toy.with_ours, toy.with_torch
    )


@toy.pairs
def test_limited_batches(way: toy.Way, torchs_way: toy.Way, tmp_path: Path) -> None:
    """A pass of three steps is an epoch: the next begins with others."""

    def run(make: toy.Way) -> Any:
        module = Module()
        trainer(tmp_path, limit_train_batches=3, limit_val_batches=2).fit(module, make(), make())
        assert len(module.seen) == 6
        return toy.weights_of(module), module.seen

    toy.compare(run, way, torchs_way)


class Interrupted(lightning.Callback):  # type: ignore[misc, name-defined]
    """Saves a checkpoint in the middle of the second epoch, and stops there."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_train_batch_end(self, training: Any, *_: Any) -> None:
        if training.global_step == toy.STEPS + 3:
            training.save_checkpoint(self.file)
            raise KeyboardInterrupt


@pytest.mark.parametrize("way", toy.STATEFUL)
def test_resumed_in_the_middle_of_an_epoch(way: toy.Way, tmp_path: Path) -> None:
    torch.manual_seed(7)
    whole = Module()
    trainer(tmp_path, max_epochs=3).fit(whole, way())

    torch.manual_seed(7)
    begun, file = Module(), tmp_path / "middle.ckpt"
    with pytest.raises(SystemExit):
        trainer(tmp_path, max_epochs=3, callbacks=[Interrupted(file)]).fit(begun, way())
    random = torch.get_rng_state()
    torch.manual_seed(1234)
    resumed = Module()
    torch.set_rng_state(random)
    trainer(tmp_path, max_epochs=3).fit(resumed, way(), ckpt_path=file)
    toy.assert_equal(begun.seen + resumed.seen, whole.seen)
    toy.assert_equal(toy.weights_of(resumed), toy.weights_of(whole))


def in_a_process(folder: str) -> dict[str, Any]:
    """Kind of the loader, rows and weights of a rank, by way to load."""
    out = {}
    mine = {"rank": int(os.environ["RANK"]), "world_size": 2, "tail": "pad"}
    for name, loader, inject in [
        ("torch", toy.with_torch(), True),
        ("data.DataLoader", toy.with_ours(), True),
        ("as_torch", toy.with_as_torch(), True),
        ("lists of a rank", toy.with_lists(**mine), False),
        ("BatchLoader", toy.with_batch_loader(**mine), True),
        ("as_torch of a rank", toy.with_as_torch(**mine), False),
        ("data.DataLoader of a rank", toy.with_both(**mine), False),
    ]:
        module = Module()
        options = {"strategy": "ddp", "devices": 2, "use_distributed_sampler": inject}
        training = trainer(Path(folder), **options)
        training.fit(module, loader)
        out[name] = {
            "kind": type(training.train_dataloader).__module__,
            "seen": [batch.tolist() for batch in module.seen],
            "weights": toy.weights_of(module).tolist(),
        }
    return out


def test_two_processes(tmp_path: Path) -> None:
    """Lightning puts torch's DistributedSampler into torch's loaders and ours, whatever was in
    them, unless told not to. It leaves BatchLoader alone."""
    ranks = toy.on_two_ranks(in_a_process, str(tmp_path))
    for rank in ranks:
        for name in ("data.DataLoader", "as_torch"):
            assert {**rank[name], "kind": 0} == {**rank["torch"], "kind": 0}
        for name in ("BatchLoader", "as_torch of a rank", "data.DataLoader of a rank"):
            assert {**rank[name], "kind": 0} == {**rank["lists of a rank"], "kind": 0}
        assert rank["data.DataLoader"]["kind"] == "subgrad_fast.data.loader"
        assert rank["BatchLoader"]["kind"] == "subgrad_fast.loading.loader"
    for name in ranks[0]:
        one, other = ranks[0][name], ranks[1][name]
        assert one["weights"] == other["weights"]
        steps = len(one["seen"]) // 2
        for epoch in range(2):
            batches = [r["seen"][steps * epoch : steps * (epoch + 1)] for r in (one, other)]
            assert {x for rank in batches for batch in rank for x in batch} == {
                *toy.X[:, 0].tolist()
            }
