"""optim.SGD under a GradScaler: step for step what torch's default does."""

# ruff: noqa: E402
from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch import Tensor, nn

from subgrad_fast.optim import SGD
from tests.optim.torch_twins import assert_same, snapshot

pytestmark = pytest.mark.torch

TERMS = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "dampening": 0.3}


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 20), nn.Tanh(), nn.Linear(20, 3)).to(dtype)


class Run:
    """A network, its optimizer and a scaler of its own."""

    def __init__(self, cls: type, **settings: Any) -> None:
        self.model = network()
        self.optimizer = cls(self.model.parameters(), **TERMS, **settings)
        self.scaler = torch.amp.GradScaler("cpu", growth_interval=3)

    def step(self, x: Tensor, *, overflow: bool, unscale: bool = False) -> None:
        self.optimizer.zero_grad()
        loss = (self.model(x) ** 2).sum()
        self.scaler.scale(loss * (float("inf") if overflow else 1.0)).backward()
        if unscale:
            self.scaler.unscale_(self.optimizer)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def seen(self) -> Any:
        state = self.optimizer.state_dict()["state"]
        return snapshot([list(self.model.parameters()), state, self.scaler.state_dict()])


@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("overflows", [(), (0,), (0, 3, 4), (0, 1)])
@pytest.mark.parametrize("settings", [{}, {"foreach": True}, {"fused": False}])
def test_as_torchs_default(
    overflows: tuple[int, ...], unscale: bool, settings: dict[str, Any]
) -> None:
    ours, torchs = Run(SGD, **settings), Run(torch.optim.SGD, foreach=False)
    for i in range(7):
        x = torch.randn(8, 10)
        for run in (ours, torchs):
            run.step(x, overflow=i in overflows, unscale=unscale)
        assert_same(ours.seen(), torchs.seen())


def test_an_overflow_leaves_no_momentum_and_no_version() -> None:
    run = Run(SGD, ema_decay=0.9)
    params = list(run.model.parameters())
    versions = [p._version for p in params]
    run.step(torch.randn(8, 10), overflow=True)
    assert run.optimizer.state_dict()["state"] == {}
    assert [p._version for p in params] == versions


def test_the_norm_is_that_of_unscaled_gradients() -> None:
    run, plain = Run(SGD, max_norm=1.0), Run(SGD, max_norm=1.0)
    for _ in range(3):
        x = torch.randn(8, 10)
        run.step(x, overflow=False)
        plain.optimizer.zero_grad()
        (plain.model(x) ** 2).sum().backward()
        plain.optimizer.step()
        assert run.optimizer.grad_norm == plain.optimizer.grad_norm
        assert_same(
            snapshot(list(run.model.parameters())), snapshot(list(plain.model.parameters()))
        )


def test_unscaled_by_hand_and_clipped() -> None:
    run, other = Run(SGD, max_norm=1.0), Run(SGD, max_norm=1.0)
    for _ in range(3):
        x = torch.randn(8, 10)
        run.step(x, overflow=False)
        other.step(x, overflow=False, unscale=True)
        assert_same(run.seen(), other.seen())


def test_several_optimizers_on_one_scaler() -> None:
    def train(cls: type) -> Any:
        models = [network(), network()]
        optimizers = [cls(m.parameters(), **TERMS) for m in models]
        scaler = torch.amp.GradScaler("cpu")
        torch.manual_seed(1)
        for i in range(4):
            for k, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
                optimizer.zero_grad()
                loss = (model(torch.randn(8, 10)) ** 2).sum()
                scaler.scale(loss * (float("inf") if (i, k) == (1, 1) else 1.0)).backward()
            for optimizer in optimizers:
                scaler.step(optimizer)
            scaler.update()
        return snapshot([list(m.parameters()) for m in models]), scaler.get_scale()

    assert_same(list(train(SGD)), list(train(torch.optim.SGD)))


def test_a_step_of_ones_own_sees_unscaled_gradients() -> None:
    class Own(SGD):
        def step(self, closure: Any = None) -> Any:
            seen.extend(p.grad.clone() for p in self.param_groups[0]["params"])
            return super().step(closure)

    seen: list[Tensor] = []
    ours, torchs = Run(Own), Run(torch.optim.SGD)
    x = torch.randn(8, 10)
    for run in (ours, torchs):
        run.step(x, overflow=False)
    assert_same(seen, [p.grad for p in torchs.model.parameters()])
    assert not ours.optimizer._step_supports_amp_scaling


def test_a_hook_sees_unscaled_gradients() -> None:
    ours, torchs = Run(SGD), Run(torch.optim.SGD)
    seen: dict[Any, list[Tensor]] = {}

    def look(optimizer: Any, *_: Any) -> None:
        seen[optimizer] = [p.grad.clone() for p in optimizer.param_groups[0]["params"]]

    x = torch.randn(8, 10)
    for run in (ours, torchs):
        run.optimizer.register_step_pre_hook(look)
        run.step(x, overflow=False)
    assert_same(seen[ours.optimizer], seen[torchs.optimizer])


def test_a_step_that_somebody_waits_for() -> None:
    """As accelerate does, which tells a skipped step by the call that did not come."""
    for cls in (SGD, torch.optim.SGD):
        run, called = Run(cls), []
        original = run.optimizer.step
        for overflow in (True, False):

            def patched(*arguments: Any, original: Any = original) -> Any:
                called.append(overflow)  # noqa: B023
                return original(*arguments)

            run.optimizer.step = patched
            run.step(torch.randn(8, 10), overflow=overflow)
            run.optimizer.step = original
        assert called == [False]
    torch.optim.lr_scheduler.StepLR(ours := Run(SGD).optimizer, 1)
    assert ours._step_supports_amp_scaling


def test_it_unscales_by_itself_else() -> None:
    run = Run(SGD)
    assert run.optimizer._step_supports_amp_scaling
    x = torch.randn(8, 10)
    run.step(x, overflow=False)
    assert max(p.grad.abs().max() for p in run.model.parameters()) > 1e4  # as they were: scaled
    assert not hasattr(run.optimizer, "grad_scale") and not hasattr(run.optimizer, "found_inf")
