"""optim.SGD in training loops: schedules, closures, hooks, late parameters, AMP, torch.compile."""

# ruff: noqa: E402
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from subgrad_fast.optim import SGD
from tests.optim.torch_twins import (
    assert_same,
    assert_twins,
    give_gradients,
    parameters,
    snapshot,
    train,
)

pytestmark = pytest.mark.torch

# --- in a training loop --------------------------------------------------------------------------


def schedulers() -> dict[str, Any]:
    lrs = torch.optim.lr_scheduler
    return {
        "step": lambda o: lrs.StepLR(o, 2, 0.3),
        "one_cycle": lambda o: lrs.OneCycleLR(o, 1.0, total_steps=8, cycle_momentum=True),
        "cosine": lambda o: lrs.CosineAnnealingLR(o, 5),
        "lambda": lambda o: lrs.LambdaLR(o, lambda i: 1 / (i + 1)),
    }


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)], ids=["float", "tensor"])
@pytest.mark.parametrize("name", schedulers())
def test_schedulers(name: str, lr: Any) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 1))
        rate = lr.clone() if isinstance(lr, torch.Tensor) else lr
        optimizer = cls(model.parameters(), lr=rate, momentum=0.9, weight_decay=1e-3)
        scheduler = schedulers()[name](optimizer)
        for _ in range(6):
            optimizer.zero_grad()
            model(torch.randn(4, 5)).pow(2).sum().backward()
            optimizer.step()
            scheduler.step()
            yield list(model.parameters())
        yield optimizer

    assert_twins(scenario)


def test_closures() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        model = torch.nn.Linear(3, 1)
        optimizer = cls(model.parameters(), lr=0.1, momentum=0.9)
        x = torch.randn(5, 3)

        def closure() -> torch.Tensor:
            assert torch.is_grad_enabled()
            optimizer.zero_grad()
            loss = model(x).pow(2).mean()
            loss.backward()
            return loss

        with torch.no_grad():
            for _ in range(3):
                yield optimizer.step(closure)
                assert not torch.is_grad_enabled()
        yield optimizer.step(closure=closure)
        yield optimizer.step()
        yield optimizer

    assert_twins(scenario)


def test_a_closure_that_raises() -> None:
    params = parameters((3,))
    optimizer = SGD(params, lr=0.1, momentum=0.9)
    give_gradients(params)
    before = snapshot(optimizer)
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: 1 / 0)
    assert_same(snapshot(optimizer), before)


@pytest.mark.parametrize("foreach", [None, False, True])
def test_hooks_run_once(foreach: bool | None) -> None:
    calls: list[str] = []
    params = parameters((3,), (2,))
    optimizer = SGD(params, lr=0.1, foreach=foreach)
    give_gradients(params)
    params[1].grad = torch.ones(2).to_sparse()  # torch's own code takes part
    handles = [
        optimizer.register_step_pre_hook(lambda *_: calls.append("pre")),
        optimizer.register_step_post_hook(lambda *_: calls.append("post")),
        register_optimizer_step_pre_hook(lambda *_: calls.append("all pre")),
        register_optimizer_step_post_hook(lambda *_: calls.append("all post")),
    ]
    optimizer.step()
    for handle in handles:
        handle.remove()
    optimizer.step()
    assert calls == ["all pre", "pre", "post", "all post"]


@pytest.mark.parametrize("overrides", [False, True])
def test_hooks_of_a_subclass_run_once(overrides: bool) -> None:
    class Plain(SGD):
        pass

    class Overriding(SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    calls: list[str] = []
    params = parameters((3,))
    optimizer = (Overriding if overrides else Plain)(params, lr=0.1)
    SGD(parameters((2,)))  # an instance of the base class changes nothing
    optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
    optimizer.register_step_post_hook(lambda *_: calls.append("post"))
    train(optimizer, params, 2)
    assert calls == ["pre", "post"] * 2


def test_the_profiler_sees_the_step() -> None:
    params = parameters((3,))
    optimizer = SGD(params, lr=0.1)
    with torch.autograd.profiler.profile() as profile:
        train(optimizer, params, 2)
    names = [event.name for event in profile.function_events]
    assert names.count("Optimizer.step#SGD.step") == 2


def test_a_pre_hook_that_passes_another_closure() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((3,))
        optimizer = cls(params, lr=0.1)
        optimizer.register_step_pre_hook(lambda *_: ((optimizer, lambda: 7), {}))
        give_gradients(params)
        yield optimizer.step()
        yield params

    assert_twins(scenario)


def test_gradients_that_come_and_go() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((40,), (1,), (3, 3), (5,))
        optimizer = cls(params, lr=0.1, momentum=0.9, dampening=0.2)
        optimizer.step()  # none at all
        yield optimizer
        for i in range(8):
            for j, p in enumerate(params):
                p.grad = torch.randn_like(p) if (i >> (j % 3)) & 1 or j == i else None
            optimizer.step()
            yield optimizer
        for set_to_none in (True, False):
            give_gradients(params)
            optimizer.zero_grad(set_to_none=set_to_none)
            optimizer.step()
            yield optimizer

    assert_twins(scenario)


def test_a_parameter_unfrozen_late_and_a_group_added_late() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        model = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(3)))
        model[0].requires_grad_(False)
        optimizer = cls(list(model[:2].parameters()), lr=0.1, momentum=0.9)
        for i in range(9):
            if i == 3:
                model[0].requires_grad_(True)
            if i == 6:
                optimizer.add_param_group({"params": model[2].parameters(), "lr": 0.3})
            optimizer.zero_grad()
            model(torch.randn(2, 4)).pow(2).sum().backward()
            optimizer.step()
            yield optimizer

    assert_twins(scenario)


def test_lazy_modules() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        model = torch.nn.LazyLinear(3)
        optimizer = cls(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(2, 4)).pow(2).sum().backward()
            optimizer.step()
            yield list(model.parameters())

    assert_twins(scenario, routed=None)


def test_inference_mode() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        with torch.inference_mode():
            params = parameters((5,))
            optimizer = cls(params, lr=0.1, momentum=0.9)
            train(optimizer, params)
            yield [p.clone() for p in params]

    assert_twins(scenario)


@pytest.mark.parametrize("momentum", [0, 0.9])
def test_autograd_notices_the_step(momentum: float) -> None:
    a, b, unused = parameters((40,), (2, 2), (3,))
    optimizer = SGD([a, b, unused], lr=0.1, momentum=momentum)
    for step in range(1, 4):
        versions = a._version, b._version, unused._version
        a.grad, b.grad = torch.randn(40), torch.randn(2, 2) if step > 1 else None
        optimizer.step()
        assert a._version == versions[0] + 1
        assert b._version == versions[1] + (step > 1)
        assert unused._version == versions[2]
    loss = (a * a).sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# --- GradScaler ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad_step", [None, 0, 2])
@pytest.mark.parametrize("fused", [None, True])
def test_grad_scaler(fused: bool | None, bad_step: int | None) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        model = torch.nn.Linear(4, 2)
        optimizer = cls(model.parameters(), lr=0.1, momentum=0.9)
        if cls is SGD:
            optimizer = cls(model.parameters(), lr=0.1, momentum=0.9, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        for i in range(4):
            optimizer.zero_grad()
            scaler.scale(model(torch.randn(3, 4)).pow(2).sum()).backward()
            if i == bad_step:
                model.weight.grad[0, 0] = float("inf")
            scaler.step(optimizer)
            scaler.update()
            yield list(model.parameters()), scaler.get_scale()
            yield [optimizer.state[p] for p in model.parameters() if p in optimizer.state]

    assert_twins(scenario)


# --- torch.compile -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo's
@pytest.mark.parametrize("whole_step", [False, True], ids=["model", "train_step"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compile(backend: str, whole_step: bool) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        torch._dynamo.reset()
        model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        optimizer = cls(model.parameters(), lr=0.1, momentum=0.9)
        forward = model if whole_step else torch.compile(model, backend=backend)

        def train_step(x: torch.Tensor) -> torch.Tensor:
            optimizer.zero_grad()
            loss = forward(x).pow(2).sum()
            loss.backward()
            optimizer.step()
            return loss

        if whole_step:
            train_step = torch.compile(train_step, backend=backend)
        for _ in range(3):
            yield train_step(torch.randn(2, 3)), list(model.parameters())

    import torch._dynamo

    # A compiled step of torch's own may take its foreach path: eager torch is the twin.
    def eager(cls: type) -> Iterator[Any]:
        with torch.compiler.set_stance("force_eager"):
            yield from scenario(cls)

    assert_twins(lambda cls: scenario(cls) if cls is SGD else eager(cls), routed=False)
