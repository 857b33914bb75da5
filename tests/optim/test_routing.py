"""optim.SGD where the kernels end: what goes to torch's own code, and what must not.

Every scenario is compared with torch.optim.SGD's default; `routed` says who did the work.
"""

# ruff: noqa: E402
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch.nn import Parameter

from subgrad_fast.optim import SGD
from tests.cases import RULE
from tests.optim.torch_twins import (
    TorchSteps,
    assert_twins,
    give_gradients,
    parameters,
    train,
)

pytestmark = pytest.mark.torch


class Tagged(torch.Tensor):
    """A subclass that does nothing of its own."""


# --- flags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags", [{"fused": False}, {"foreach": True}, {"foreach": False}], ids=str
)
def test_explicit_flags_run_torchs_path(flags: dict[str, Any]) -> None:
    params = parameters((40,), (3, 5))
    optimizer = SGD(params, **RULE, **flags)
    with TorchSteps() as steps:
        train(optimizer, params, 1)
    assert len(steps.params) == 2
    assert {k: steps.kwargs[0][k] for k in flags} == flags

    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((40,), (3, 5))
        optimizer = cls(params, **RULE, **flags)
        train(optimizer, params)
        yield optimizer

    assert_twins(scenario, routed=True)


def test_fused_true_runs_ours() -> None:
    params = parameters((40,))
    optimizer = SGD(params, **RULE, fused=True)
    with TorchSteps() as steps:
        train(optimizer, params)
    assert not steps.kwargs


def test_differentiable() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        start = torch.randn(5, requires_grad=True)
        scale = torch.tensor(2.0, requires_grad=True)
        p = start.clone().detach().requires_grad_()
        optimizer = cls([p], **RULE, differentiable=True)
        p = optimizer.param_groups[0]["params"][0] = start.clone()
        p.retain_grad()
        p.grad = start.detach() * scale
        optimizer.step()
        p.sum().backward()
        yield p, start.grad, scale.grad

    assert_twins(scenario, routed=True)


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True to a scalar")
@pytest.mark.parametrize("name", ["lr", "weight_decay"])
def test_hyperparameters_that_want_a_gradient(name: str) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        a, b = parameters((40,), (3,))
        groups = [{"params": [a], name: torch.tensor(0.1, requires_grad=True)}, {"params": [b]}]
        optimizer = cls(groups, lr=0.2, momentum=0.9)
        train(optimizer, [a, b])
        yield a, b

    assert_twins(scenario, routed=True)


def test_a_learning_rate_that_wants_a_gradient_gives_no_warning() -> None:
    params = parameters((3,))
    optimizer = SGD(params, lr=torch.tensor(0.1, requires_grad=True))
    torch.set_warn_always(True)
    try:
        train(optimizer, params)
    finally:
        torch.set_warn_always(False)


# --- layouts and types the kernels do not have --------------------------------------------------


# Row-sparse gradients, which the kernels have, are in tests/rows/test_optim.py.


@pytest.mark.parametrize(
    "kwargs", [{"lr": 0.1}, {"lr": 0.1, "momentum": 0.9}, {"lr": 0.1, "maximize": True}]
)
@pytest.mark.parametrize("shape", [(6, 3), (7,)], ids=["two sparse dimensions", "a sparse vector"])
def test_sparse_gradients(shape: tuple[int, ...], kwargs: dict[str, Any]) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        p, other = parameters(shape, (40,))
        optimizer = cls([p, other], **kwargs)
        for _ in range(4):
            give_gradients([p, other])
            p.grad = (p.grad * (torch.rand(shape) < 0.5)).to_sparse()
            optimizer.step()
            yield p, other

    assert_twins(scenario, routed=True)


@pytest.mark.parametrize(
    ("momentum", "pattern"),
    # With momentum torch cannot take a dense gradient after a sparse first one.
    [(0, "sdsdd"), (0, "dsdss"), (0.9, "sss"), (0.9, "dsdss"), (0.9, "ddssd")],
)
def test_sparse_and_dense_gradients_in_turn(momentum: float, pattern: str) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        p, other = parameters((6, 3), (40,))
        optimizer = cls([p, other], lr=0.1, momentum=momentum)
        for kind in pattern:
            give_gradients([p, other])
            if kind == "s":
                p.grad = p.grad.to_sparse()
            optimizer.step()
            yield optimizer

    assert_twins(scenario, routed=True)


def test_only_what_must_be_goes_to_torch() -> None:
    table, complex_, tagged, plain, late = parameters((6, 3), (4,), (5,), (40,), (2,))
    complex_ = Parameter(torch.randn(4, dtype=torch.complex64))
    tagged = torch.randn(5).as_subclass(Tagged).requires_grad_()
    params = [table, complex_, tagged, plain, late]
    optimizer = SGD(params, **RULE | {"weight_decay": 0})
    with TorchSteps() as steps:
        for i in range(3):
            give_gradients(params)
            table.grad = table.grad.to_sparse()
            late.grad = late.grad.as_subclass(Tagged) if i == 2 else late.grad
            optimizer.step()
            assert steps.had(late) == (i == 2)
    assert steps.had(table) and steps.had(complex_) and steps.had(tagged)
    assert not steps.had(plain)


def complexes() -> list[Parameter]:
    return [Parameter(torch.randn(5, dtype=t)) for t in (torch.complex64, torch.complex128)]


def test_complex_parameters() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = [*complexes(), *parameters((5,))]
        optimizer = cls(params, **RULE)
        train(optimizer, params)
        yield optimizer

    assert_twins(scenario, routed=True)


def test_tensor_subclasses_as_parameters_and_gradients() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        plain, tagged = torch.randn(40, requires_grad=True), torch.randn(4).as_subclass(Tagged)
        params = [plain, tagged.requires_grad_(), *parameters((3,))]
        optimizer = cls(params, **RULE)
        train(optimizer, params)
        for kind in (Tagged, Parameter, torch.Tensor):
            for p in params:
                p.grad = torch.randn(p.shape).as_subclass(kind)
            optimizer.step()
            yield [type(p) for p in params], params
            yield [optimizer.state[p]["momentum_buffer"].as_subclass(torch.Tensor) for p in params]

    assert_twins(scenario, routed=True)


def test_meta_tensors() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = [Parameter(torch.empty(3, device="meta")), *parameters((4,))]
        optimizer = cls(params, **RULE)
        train(optimizer, params)
        yield params[1], optimizer.state[params[1]]
        yield str(optimizer.state[params[0]]["momentum_buffer"].device)

    assert_twins(scenario, routed=True)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_gradients_that_are_negated_views(shape: tuple[int, ...], momentum: float) -> None:
    """Autograd makes them of complex numbers: torch resolves them, the kernels do not."""
    negated = []

    def scenario(cls: type) -> Iterator[Any]:
        param = Parameter(torch.full(shape, 1.5))
        others = parameters((20,), (1,))
        optimizer = cls([others[0], param, others[1]], lr=0.1, momentum=momentum)
        for _ in range(4):
            optimizer.zero_grad()
            z = torch.complex(torch.tensor(0.5), param.squeeze())
            (z.conj() * (1 + 2j)).abs().square().backward()
            give_gradients(others)
            assert param.grad is not None
            negated.append(param.grad.is_neg())
            optimizer.step()
            yield optimizer

    assert_twins(scenario, routed=True)
    assert all(negated)  # else this tests nothing


def test_one_element_anywhere_in_memory() -> None:
    """Where the imaginary part of a number would be, too."""

    def scenario(cls: type) -> Iterator[Any]:
        params = parameters(*[(1,)] * 8)
        optimizer = cls(params, **RULE)
        for _ in range(3):
            for i, param in enumerate(params):
                param.grad = torch.randn(8)[i : i + 1]
            optimizer.step()
            yield optimizer

    assert_twins(scenario)
