"""optim.SGD where others hold the loop: the losses of torch's optimizer, bit for bit."""

from __future__ import annotations

import importlib.util
import logging
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.data as torchs

from subgrad_fast.optim import SGD
from tests.clients import toy
from tests.optim.torch_twins import TorchSteps

pytestmark = [
    pytest.mark.torch,
    pytest.mark.clients,
    pytest.mark.filterwarnings("ignore"),  # of the libraries, about options of torch and workers
]

RULE = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}

Optimizer = type[torch.optim.SGD]
# Losses of the steps; then whatever else is to be the same.
Run = Callable[[Optimizer], tuple[list[torch.Tensor], Any]]


def compare(run: Run) -> None:
    """Losses and weights from both, the same bits; no parameter of ours is stepped by torch."""
    results = []
    for cls in (torch.optim.SGD, SGD):
        torch.manual_seed(7)
        with TorchSteps() as torchs_steps:
            losses, rest = run(cls)
        results.append(([loss.detach() for loss in losses], rest))
    assert not torchs_steps.params
    toy.assert_equal(results[1], results[0])
    found = [float(loss) for loss in results[0][0]]
    assert len(found) >= toy.STEPS and len({*found}) == len(found)


def model() -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


def loader() -> torchs.DataLoader[Any]:
    return torchs.DataLoader(toy.dataset(), toy.BATCH, shuffle=True)


def train(made: torch.nn.Module, optimizer: Any, after: Callable[[int], Any] = int) -> Any:
    """Two epochs of the plainest loop; `after` is told the number of each step."""
    losses = []
    for _ in range(2):
        for x, y in loader():
            optimizer.zero_grad()
            loss = toy.loss_of(made(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss)
            after(len(losses))
    return losses, toy.weights_of(made)


def test_lightning(tmp_path: Path) -> None:
    lightning = toy.client("lightning.pytorch")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self, cls: Optimizer) -> None:
            super().__init__()
            self.inner, self.cls, self.losses = model(), cls, []

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            loss = toy.loss_of(self.inner(batch[0]), batch[1])
            self.losses.append(loss)
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = self.cls(self.parameters(), **RULE)
            schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
            return [optimizer], [schedule]

    def run(cls: Optimizer) -> Any:
        module = Module(cls)
        lightning.Trainer(
            accelerator="cpu",
            default_root_dir=tmp_path,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            max_epochs=2,
            gradient_clip_val=0.1,
            accumulate_grad_batches=2,
        ).fit(module, loader())
        return module.losses, toy.weights_of(module)

    compare(run)


def test_accelerate() -> None:
    accelerate = toy.client("accelerate")

    def run(cls: Optimizer) -> Any:
        accelerator = accelerate.Accelerator(cpu=True)
        made = model()
        made, optimizer = accelerator.prepare(made, cls(made.parameters(), **RULE))
        batches = accelerator.prepare(loader())
        losses = []
        for _ in range(2):
            for x, y in batches:
                loss = toy.loss_of(made(x), y)
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(made.parameters(), 0.1)
                optimizer.step()
                optimizer.zero_grad()
                losses.append(loss)
        return losses, toy.weights_of(made)

    compare(run)


def test_transformers(tmp_path: Path) -> None:
    transformers = toy.client("transformers")

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.losses = model(), []

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.inner(x)
            self.losses.append(toy.loss_of(logits, labels))
            return {"loss": self.losses[-1], "logits": logits}

    def run(cls: Optimizer) -> Any:
        made = Net()
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path),
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            save_strategy="no",
            num_train_epochs=2,
            per_device_train_batch_size=toy.BATCH,
            max_grad_norm=0.1,
            seed=7,
        )
        optimizer = cls(made.parameters(), **RULE)
        schedule = transformers.get_linear_schedule_with_warmup(optimizer, 3, 2 * toy.STEPS)
        trainer = transformers.Trainer(
            made,
            arguments,
            train_dataset=torchs.StackDataset(x=toy.X, labels=toy.Y),
            optimizers=(optimizer, schedule),
        )
        trainer.log = lambda *_, **__: None  # which would print
        trainer.train()
        return made.losses, toy.weights_of(made)

    compare(run)


def test_skorch() -> None:
    skorch = toy.client("skorch")

    def run(cls: Optimizer) -> Any:
        net = skorch.NeuralNet(
            model(),
            torch.nn.BCEWithLogitsLoss,
            optimizer=cls,
            lr=RULE["lr"],
            **{f"optimizer__{name}": x for name, x in RULE.items() if name != "lr"},
            max_epochs=2,
            batch_size=toy.BATCH,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
        )
        net.fit(toy.X.numpy(), toy.Y.numpy())
        losses = [b["train_loss"] for epoch in net.history for b in epoch["batches"]]
        return [torch.tensor(x) for x in losses], toy.weights_of(net.module_)

    compare(run)


@contextmanager
def without_images(*packages: str) -> Iterator[None]:
    """Within the block the modules of these packages are loaded without what the packages load
    first: timm's models want torchvision, which loads beside one build of torch only."""
    before = dict(sys.modules)
    for name in packages:
        found = importlib.util.find_spec(name)
        if found is None:
            pytest.skip(f"No module named {name!r}; `make test-clients` installs it")
        bare = types.ModuleType(name)
        bare.__path__ = list(found.submodule_search_locations or [])
        sys.modules[name] = bare
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] in packages]:
            del sys.modules[name]
        sys.modules.update(before)


def test_timm() -> None:
    """Its schedulers write the groups, its Lookahead the parameters, its averages read them."""
    with without_images("timm", "timm.optim", "timm.scheduler", "timm.utils"):
        lookahead = toy.client("timm.optim.lookahead").Lookahead
        cosine = toy.client("timm.scheduler.cosine_lr").CosineLRScheduler
        ema = toy.client("timm.utils.model_ema").ModelEmaV3

    def run(cls: Optimizer) -> Any:
        made = model()
        inner = cls(made.parameters(), **RULE)
        optimizer = lookahead(inner, alpha=0.5, k=3)
        schedule = cosine(inner, 2 * toy.STEPS, t_in_epochs=False)
        averaged = ema(made, decay=0.9)

        def after(step: int) -> None:
            schedule.step_update(step)
            averaged.update(made, step)

        losses, weights = train(made, optimizer, after)
        return losses, [weights, toy.weights_of(averaged.module)]

    compare(run)


@pytest.mark.parametrize("name", ["Lookahead", "TRAC", "OrthoGrad", "ScheduleFreeWrapper"])
def test_pytorch_optimizer(name: str) -> None:
    """Wrappers that step the optimizer which they are given."""
    wrapper = getattr(toy.client("pytorch_optimizer"), name)

    def run(cls: Optimizer) -> Any:
        made = model()
        # ScheduleFreeWrapper has a momentum of its own, and asks for none here.
        rule = {"lr": 0.1} if name == "ScheduleFreeWrapper" else RULE
        optimizer = wrapper(cls(made.parameters(), **rule))
        if name == "ScheduleFreeWrapper":
            optimizer.train()
        return train(made, optimizer)

    compare(run)


def test_pytorch_optimizers_sam() -> None:
    """Two backward passes a step, the second away from where the optimizer is."""
    wrapper = toy.client("pytorch_optimizer").SAM

    def run(cls: Optimizer) -> Any:
        made = model()
        optimizer = wrapper(made.parameters(), base_optimizer=cls, rho=0.05, **RULE)
        losses = []
        for _ in range(2):
            for x, y in loader():
                loss = toy.loss_of(made(x), y)
                loss.backward()
                optimizer.first_step(zero_grad=True)
                toy.loss_of(made(x), y).backward()
                optimizer.second_step(zero_grad=True)
                losses.append(loss)
        return losses, toy.weights_of(made)

    compare(run)


def test_opacus() -> None:
    """Gradients of every example, clipped, with noise."""
    opacus = toy.client("opacus")

    def run(cls: Optimizer) -> Any:
        made = model()
        made, optimizer, batches = opacus.PrivacyEngine().make_private(
            module=made,
            optimizer=cls(made.parameters(), **RULE),
            data_loader=loader(),
            noise_multiplier=0.5,
            max_grad_norm=1.0,
            noise_generator=torch.Generator().manual_seed(5),
        )
        losses = []
        for _ in range(2):
            for x, y in batches:
                optimizer.zero_grad()
                loss = toy.loss_of(made(x), y)
                loss.backward()
                optimizer.step()
                losses.append(loss)
        return losses, toy.weights_of(made)

    compare(run)
