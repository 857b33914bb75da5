"""One object's calls come one after the other: a second waits until the first is over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from tests.threads import run_threads

PATIENCE = 60.0
ONES = np.ones(3, np.float32)


class Gate:
    """Where the first thread that comes by stays until it is let on."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def pass_by(self) -> None:
        if not self.entered.is_set():
            self.entered.set()
            assert self.opened.wait(PATIENCE)


def waits(gate: Gate, first: Callable[[], object], second: Callable[[], object]) -> bool:
    """Whether `second` is over only when `first`, which stays at the gate, is let on."""
    over, seen = threading.Event(), []

    def call() -> None:
        gate.entered.wait(PATIENCE)
        second()
        over.set()

    def let_on() -> None:
        gate.entered.wait(PATIENCE)
        seen.append(over.wait(0.2))
        gate.opened.set()

    assert run_threads(first, call, let_on) == []
    return seen == [False] and over.is_set()


def test_calls_on_other_objects_do_not_wait() -> None:
    """The negative control."""
    gate = Gate()
    assert not waits(gate, gate.pass_by, lambda: sf.FusedSGD(ONES.copy(), lr=0.1)(ONES))


# --- FusedSGD ------------------------------------------------------------------------------------


class Producer:
    """A gradient whose own code runs in the middle of the step."""

    def __init__(self, run: Callable[[], object]) -> None:
        self.run = run

    def __dlpack_device__(self) -> tuple[int, int]:
        self.run()
        return (1, 0)

    def __dlpack__(self, **kwargs: Any) -> Any:
        return ONES.__dlpack__(**kwargs)


FUSED: dict[str, Callable[[sf.FusedSGD], object]] = {
    "step": lambda step: step(ONES),
    "state_dict": lambda step: step.state_dict(),
    "load_state_dict": lambda step: step.load_state_dict(
        {"momentum_buffers": [np.zeros(3)], "first_step": True}
    ),
}


@pytest.mark.parametrize("call", FUSED)
def test_fused_sgd(call: str) -> None:
    gate, step = Gate(), sf.FusedSGD(ONES.copy(), lr=0.1, momentum=0.9)
    assert waits(gate, lambda: step(Producer(gate.pass_by)), lambda: FUSED[call](step))


def test_a_gradient_that_lets_go_of_another() -> None:
    """Memory of that size goes back to the system at once: to read it then ends the process."""
    w = np.zeros(9_000_000, np.float32)
    step = sf.FusedSGD([w, ONES.copy()], lr=1.0)
    grads: list[Any] = []
    grads += [np.ones_like(w), Producer(grads.clear)]
    step(grads)
    assert grads == []
    assert (w == -1).all()


def test_a_gradient_that_loads_the_state_of_its_own_optimizer() -> None:
    w = [np.zeros(5000, np.float32), np.zeros(3, np.float32)]
    step = sf.FusedSGD(w, lr=1.0, momentum=0.5)
    start = step.state_dict()
    for _ in range(20):
        step([np.ones(5000, np.float32), Producer(lambda: step.load_state_dict(start))])
    assert all((x < 0).all() for x in w)


# --- samplers and loaders ------------------------------------------------------------------------

SAMPLER: dict[str, Callable[[Any, Any], object]] = {
    "next": lambda _, iterator: next(iterator),
    "state_dict": lambda sampler, _: sampler.state_dict(),
    "iterator's state_dict": lambda _, iterator: iterator.state_dict(),
    "load_state_dict": lambda sampler, _: sampler.load_state_dict(
        sf.WeightedSampler(np.ones(50), 4).state_dict()
    ),
    "set_epoch": lambda sampler, _: sampler.set_epoch(3),
    "iter": lambda sampler, _: iter(sampler),
    "draw": lambda sampler, _: sampler.draw(5),
    "update": lambda sampler, _: sampler.update([1], [2.0]),
    "pickle": lambda sampler, _: sampler.__getstate__(),
}


@pytest.mark.parametrize("call", SAMPLER)
def test_samplers(call: str) -> None:
    gate = Gate()

    class Gated(sf.WeightedSampler):
        def rows(self, epoch: int, start: int, count: int) -> Any:
            gate.pass_by()
            return super().rows(epoch, start, count)

        def _order_key(self) -> int:
            return sf.WeightedSampler(np.ones(50), 4)._order_number

    sampler = Gated(np.ones(50), 4)
    iterator = iter(sampler)
    assert waits(gate, lambda: next(iterator), lambda: SAMPLER[call](sampler, iterator))


def test_rows_that_ask_the_iterator_that_asks_for_them() -> None:
    asked: list[Any] = []

    class Asking(sf.BatchSampler):
        def rows(self, epoch: int, start: int, count: int) -> Any:
            while asked:
                next(asked.pop())
            return super().rows(epoch, start, count)

    iterator = iter(Asking(9, 9))
    asked.append(iterator)
    with pytest.raises(RuntimeError, match=r"^rows: uses the very iterator"):
        next(iterator)
    assert np.array_equal(next(iterator), next(iter(sf.BatchSampler(9, 9))))


@pytest.mark.parametrize("call", ["next", "close"])
def test_loaders(call: str) -> None:
    gate = Gate()

    class Batches:
        def __iter__(self) -> Any:
            for rows in ([1, 2], [3], [4, 5]):
                gate.pass_by()
                yield rows

    loader = sf.BatchLoader(np.arange(10), Batches())
    iterator = iter(loader)
    second = loader.close if call == "close" else lambda: next(iterator)
    assert waits(gate, lambda: next(iterator), second)


# --- torch's optimizers --------------------------------------------------------------------------


def gradient_that(run: Callable[[], object], value: Any) -> Any:
    """A parameter whose gradient's own code runs in the middle of the step."""
    torch = pytest.importorskip("torch")

    class Gated(torch.nn.Parameter):  # type: ignore[name-defined,misc]
        @property
        def grad(self) -> Any:
            run()
            return value

    return Gated(torch.ones(3))


@pytest.mark.torch
@pytest.mark.parametrize("call", ["step", "load_state_dict"])
@pytest.mark.parametrize("kind", ["SGD", "ThresholdSGD"])
def test_optimizers(kind: str, call: str) -> None:
    torch = pytest.importorskip("torch")
    from subgrad_fast import optim

    gate = Gate()
    params = [torch.nn.Parameter(torch.ones(3)), gradient_that(gate.pass_by, None)]
    options = {"density": 0.5} if kind == "ThresholdSGD" else {}
    optimizer = getattr(optim, kind)(params, lr=0.1, **options)
    state = optimizer.state_dict()
    second = optimizer.step if call == "step" else lambda: optimizer.load_state_dict(state)
    assert waits(gate, optimizer.step, second)


@pytest.mark.torch
def test_a_gradient_that_lets_go_of_another_of_torchs() -> None:
    torch = pytest.importorskip("torch")
    from subgrad_fast.optim import SGD

    w = torch.nn.Parameter(torch.zeros(9_000_000))
    second = gradient_that(lambda: setattr(w, "grad", None), torch.ones(3))
    optimizer = SGD([w, second], lr=1.0)
    for _ in range(2):
        w.grad = torch.ones_like(w)
        optimizer.step()
    assert w.grad is None
    assert (w == -2).all()


@pytest.mark.torch
def test_a_gradient_that_steps_its_own_optimizer() -> None:
    torch = pytest.importorskip("torch")
    from subgrad_fast.optim import SGD

    steps: list[Callable[[], object]] = []
    w = torch.nn.Parameter(torch.zeros(3))
    second = gradient_that(lambda: steps.pop()() if steps else None, torch.ones(3))
    optimizer = SGD([w, second], lr=1.0)
    w.grad = torch.ones(3)
    for _ in range(2):
        optimizer.step()
    steps.append(optimizer.step)
    with pytest.raises(RuntimeError, match=r"^step: called from within itself"):
        optimizer.step()
    assert (w == -2).all()
    optimizer.step()
    assert (w == -3).all()
