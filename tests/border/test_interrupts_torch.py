"""KeyboardInterrupt in a torch optimizer's step: weights that moved have their momentum stored."""

# ruff: noqa: E402
from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch.nn import Parameter

from subgrad_fast.optim import SGD, ThresholdSGD
from tests.interrupts import at_each_bytecode

pytestmark = pytest.mark.torch

Made = tuple[Any, list[Parameter]]


def with_gradients(optimizer: Any, params: list[Parameter]) -> Made:
    for p in params:
        p.grad = torch.ones_like(p)
    return optimizer, params


def assert_whole(made: Made, buffers: tuple[str, ...]) -> bool:
    """Whether the step was taken, of which all must then be there, and else nothing."""
    optimizer, params = made
    moved = {bool((p != 0).any()) for p in params}
    assert len(moved) == 1
    (taken,) = moved
    for p in params:
        slots = optimizer.state.get(p, {})
        assert [name in slots for name in buffers] == [taken] * len(buffers), slots
    return taken


@pytest.mark.parametrize("steps_before", [0, 1, 2])
def test_sgd(steps_before: int) -> None:
    def make() -> Made:
        params = [Parameter(torch.zeros(4)), Parameter(torch.zeros(3, 2))]
        optimizer = SGD(params, lr=1.0, momentum=0.5)
        made = with_gradients(optimizer, params)
        for _ in range(steps_before):
            optimizer.step()
        return made

    wanted = [-1.0, -2.5, -4.25, -6.125]  # after so many steps
    count = 0
    for made in at_each_bytecode(make, lambda made: made[0].step()):
        count += 1
        optimizer, params = made
        taken = assert_whole(made, ("momentum_buffer",)) if steps_before == 0 else None
        if taken is None:
            taken = bool(params[0][0] != wanted[steps_before - 1])
        optimizer.step()
        for p in params:
            assert (p == wanted[steps_before + taken]).all()
    assert count > 20


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_threshold_sgd(scope: str) -> None:
    def make() -> Made:
        params = [Parameter(torch.zeros(4)), Parameter(torch.zeros(3, 2))]
        optimizer = ThresholdSGD(
            params, lr=1.0, momentum=0.5, density=0.5, selector="reused", scope=scope
        )
        return with_gradients(optimizer, params)

    count = 0
    for made in at_each_bytecode(make, lambda made: made[0].step()):
        count += 1
        optimizer, params = made
        taken = assert_whole(made, ("momentum_buffer", "residual"))
        group = optimizer.param_groups[0]
        assert group["steps"] == taken
        memory = group if scope == "global" else optimizer.state.get(params[0], {})
        assert ("next_threshold" in memory) == taken
        optimizer.step()
    assert count > 50
