"""optim.SGD under strain: threads, memory, and steps that raise."""

# ruff: noqa: E402
from __future__ import annotations

import copy
import gc
import threading
import weakref
from typing import Any

import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch.nn import Parameter

from subgrad_fast import _core
from subgrad_fast.optim import SGD, ThresholdSGD
from tests.optim.torch_twins import (
    TorchSteps,
    assert_same,
    give_gradients,
    parameters,
    snapshot,
    train,
)
from tests.threads import run_threads

pytestmark = pytest.mark.torch

# --- threads and memory --------------------------------------------------------------------------


def test_two_optimizers_in_two_threads() -> None:
    jobs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        params = parameters((20_000,), (7,), (64, 64))
        give_gradients(params)
        jobs.append((params, SGD(params, lr=0.1, momentum=0.9)))

    def work(optimizer: SGD) -> None:
        for _ in range(20):
            optimizer.step()

    assert run_threads(*(lambda o=o: work(o) for _, o in jobs)) == []
    for seed, (params, _) in zip((1, 2), jobs, strict=True):
        torch.manual_seed(seed)
        alone = parameters((20_000,), (7,), (64, 64))
        give_gradients(alone)
        work(torch.optim.SGD(alone, lr=0.1, momentum=0.9))
        assert_same(snapshot(params), snapshot(alone))


@pytest.mark.parametrize("warm", [False, True])
def test_one_optimizer_in_two_threads_takes_turns(warm: bool) -> None:
    for _ in range(3):
        params = [Parameter(torch.zeros(30_000)), Parameter(torch.zeros(5))]
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer = SGD(params, lr=1.0, momentum=0.5)
        if warm:
            optimizer.step()

        def work(optimizer: SGD = optimizer) -> None:
            for _ in range(10):
                optimizer.step()

        alone = [Parameter(torch.zeros(30_000)), Parameter(torch.zeros(5))]
        for p in alone:
            p.grad = torch.ones_like(p)
        wanted = torch.optim.SGD(alone, lr=1.0, momentum=0.5)
        for _ in range(20 + warm):
            wanted.step()
        assert run_threads(work, work) == []
        assert_same(snapshot(optimizer), snapshot(wanted))


@pytest.mark.parametrize("cls", [SGD, ThresholdSGD])
def test_states_come_and_go_while_another_thread_steps(cls: type) -> None:
    """(Not gradients: to set ``p.grad`` while another thread reads it crashes torch 2.13 alone.)"""
    params = [Parameter(torch.zeros(50_000)), Parameter(torch.zeros(5))]
    for p in params:
        p.grad = torch.ones_like(p)
    own = {"threshold": 0.5} if cls is ThresholdSGD else {}
    optimizer = cls(params, lr=0.1, momentum=0.9, **own)
    optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    done = threading.Event()

    def steps() -> None:
        while not done.is_set():
            optimizer.step()

    def states() -> None:
        for i in range(60):
            optimizer.load_state_dict(state)
            if i % 3 == 0:
                optimizer.state.clear()
        done.set()

    assert run_threads(steps, states) == []
    assert all(p.isfinite().all() for p in params)


@pytest.mark.parametrize(
    ("buffer", "message"),
    [
        (torch.zeros(4), r"\['momentum_buffer'\]: expected shape \(3,\), got"),
        (2**64, r"\['momentum_buffer'\]: expected a tensor, got 18446744073709551616"),
        ([torch.zeros(3)], r"\['momentum_buffer'\]: expected a tensor, got list"),
    ],
    ids=["shape", "number", "list"],
)
def test_a_state_whose_buffer_is_none_of_its_parameter_is_not_loaded(
    buffer: Any, message: str
) -> None:
    params = parameters((5,), (3,))
    optimizer = SGD(params, lr=0.1, momentum=0.9)
    train(optimizer, params)
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0]["lr"] = 7.0
    state["state"][1]["momentum_buffer"] = buffer
    before = snapshot(optimizer)
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer.load_state_dict(state)
    assert_same(snapshot(optimizer), before)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_nothing_outlives_model_and_optimizer() -> None:
    model = torch.nn.Linear(3, 3)
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    grad = weakref.ref(model.weight.grad)
    optimizer.zero_grad()
    assert grad() is None
    things = [model.weight, optimizer, optimizer.state[model.weight]["momentum_buffer"]]
    alive = [weakref.ref(thing) for thing in things]
    del things, model, optimizer
    gc.collect()
    assert [ref() for ref in alive] == [None] * 3


@pytest.mark.parametrize("cls", [torch.optim.SGD, SGD])
def test_a_cycle_through_a_parameter_is_collected(cls: type) -> None:
    model = torch.nn.Linear(3, 3)
    optimizer = cls(model.parameters(), lr=0.1)
    model.weight.optimizer = optimizer
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    alive = [weakref.ref(model.weight), weakref.ref(optimizer)]
    del model, optimizer
    gc.collect()
    assert [ref() for ref in alive] == [None] * 2


# --- a step that raises --------------------------------------------------------------------------


def test_a_step_that_raises_changes_nothing_and_the_next_one_is_right() -> None:
    """Also on the very first step, whose momentum buffers are new."""

    class Unhelpful(torch.Tensor):
        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if not getattr(func, "__name__", "") == "__get__":
                raise ArithmeticError(func)
            return super().__torch_function__(func, types, args, kwargs or {})

    def scenario(cls: type, trouble: bool) -> tuple[list[Parameter], Any]:
        torch.manual_seed(0)
        a, b, c = parameters((40,), (3,), (2, 2))
        optimizer = cls([{"params": [a, b], "momentum": 0.9}, {"params": [c]}], lr=0.1)
        for i in range(5):
            give_gradients([a, b, c])
            if trouble and i % 2 == 0:
                for bad in (b, c) if i == 0 else (c,):  # torch decays b's buffer before it fails
                    good, bad.grad = bad.grad, torch.zeros(bad.shape).as_subclass(Unhelpful)
                    before = snapshot(optimizer)
                    keys = list(optimizer.state)
                    with pytest.raises(ArithmeticError):
                        optimizer.step()
                    assert_same(snapshot(optimizer), before)
                    assert len(optimizer.state) == len(keys)
                    bad.grad = good
            optimizer.step()
        return [a, b, c], optimizer

    got, want = scenario(SGD, True), scenario(torch.optim.SGD, False)
    assert_same(snapshot(got), snapshot(want))


@pytest.mark.parametrize("steps_before", [0, 2])
def test_a_gradient_of_another_shape_raises_and_changes_nothing(steps_before: int) -> None:
    params = parameters((5,), (3,))
    optimizer = SGD(params, lr=0.1)
    train(optimizer, params, steps_before)
    give_gradients(params)
    params[1].data = torch.zeros(4)
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match=r"grads\[1\]: expected shape \(4,\) like params\[1\]"):
        optimizer.step()
    assert_same(snapshot(optimizer), before)


def test_a_buffer_of_another_shape_raises_and_changes_nothing() -> None:
    params = parameters((5,), (3,))
    optimizer = SGD(params, lr=0.1, momentum=0.9)
    train(optimizer, params)
    optimizer.state[params[1]]["momentum_buffer"] = torch.zeros(4)
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match=r"momentum_buffers\[1\]: expected shape \(3,\)"):
        optimizer.step()
    assert_same(snapshot(optimizer), before)


@pytest.mark.parametrize("value", [None, "fast", torch.tensor([0.1, 0.2])], ids=str)
def test_a_hyperparameter_that_is_no_number(value: Any) -> None:
    params = parameters((5,))
    optimizer = SGD(params, lr=0.1, momentum=0.9)
    train(optimizer, params)
    before = snapshot(params)
    optimizer.param_groups[0]["lr"] = value
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        optimizer.step()
    assert_same(snapshot(params), before)


def test_torchs_code_is_not_entered_on_the_common_path() -> None:
    params = parameters((5,), (3, 3))
    optimizer = SGD(params, lr=0.1, momentum=0.9)
    with TorchSteps() as steps:
        train(optimizer, params, 4)
    assert not steps.kwargs


def test_a_plan_without_its_constructor_raises() -> None:
    plan = _core.optimizer.Plan.__new__(_core.optimizer.Plan)
    with pytest.raises(TypeError, match="__init__"):
        plan.step([], {})
