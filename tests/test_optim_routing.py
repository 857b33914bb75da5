"""optim.SGD where the kernels end: what goes to torch's own code, and what must not.

Every scenario is compared with torch.optim.SGD's default; `routed` says who did the work.
"""

# ruff: noqa: E402
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch.nn import Parameter
from torch_twins import (
    TorchSteps,
    assert_same,
    assert_twins,
    give_gradients,
    parameters,
    snapshot,
    train,
)

from subgrad_fast.optim import SGD

pytestmark = pytest.mark.torch

KWARGS: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}


class Tagged(torch.Tensor):
    """A subclass that does nothing of its own."""


# --- flags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags", [{"fused": False}, {"foreach": True}, {"foreach": False}], ids=str
)
def test_explicit_flags_run_torchs_path(flags: dict[str, Any]) -> None:
    params = parameters((40,), (3, 5))
    optimizer = SGD(params, **KWARGS, **flags)
    with TorchSteps() as steps:
        train(optimizer, params, 1)
    assert len(steps.params) == 2
    assert {k: steps.kwargs[0][k] for k in flags} == flags

    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((40,), (3, 5))
        optimizer = cls(params, **KWARGS, **flags)
        train(optimizer, params)
        yield optimizer

    assert_twins(scenario, routed=True)


def test_fused_true_runs_ours() -> None:
    params = parameters((40,))
    optimizer = SGD(params, **KWARGS, fused=True)
    with TorchSteps() as steps:
        train(optimizer, params)
    assert not steps.kwargs


def test_differentiable() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        start = torch.randn(5, requires_grad=True)
        scale = torch.tensor(2.0, requires_grad=True)
        p = start.clone().detach().requires_grad_()
        optimizer = cls([p], **KWARGS, differentiable=True)
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


# Row-sparse gradients, which the kernels have, are in test_optim_rows.py.


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
    optimizer = SGD(params, **KWARGS | {"weight_decay": 0})
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
        optimizer = cls(params, **KWARGS)
        train(optimizer, params)
        yield optimizer

    assert_twins(scenario, routed=True)


def test_tensor_subclasses_as_parameters_and_gradients() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        plain, tagged = torch.randn(40, requires_grad=True), torch.randn(4).as_subclass(Tagged)
        params = [plain, tagged.requires_grad_(), *parameters((3,))]
        optimizer = cls(params, **KWARGS)
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
        optimizer = cls(params, **KWARGS)
        train(optimizer, params)
        yield params[1], optimizer.state[params[1]]
        yield str(optimizer.state[params[0]]["momentum_buffer"].device)

    assert_twins(scenario, routed=True)


# --- memory that is shared ----------------------------------------------------------------------


def aliases() -> dict[str, Callable[[], list[Parameter]]]:
    base = torch.linspace(-1, 1, 24)

    def views(*slices: Any) -> Callable[[], list[Parameter]]:
        def make() -> list[Parameter]:
            memory = base.clone()
            return [Parameter(memory[s]) for s in slices]

        return make

    return {
        "same": views(slice(0, 20), slice(0, 20)),
        "overlap": views(slice(0, 14), slice(10, 24)),
        "inside": views(slice(0, 24), slice(5, 9)),
        "strided overlap": views(slice(0, 24, 2), slice(4, 20, 4)),
        "halves": views(slice(0, 12), slice(12, 24)),
        "interleaved": views(slice(0, 24, 2), slice(1, 24, 2)),
        "three": views(slice(0, 24, 3), slice(1, 24, 3), slice(2, 24, 3)),
    }


@pytest.mark.parametrize("kind", aliases())
def test_parameters_that_share_memory(kind: str) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = aliases()[kind]() + parameters((3,))
        optimizer = cls(params, **KWARGS)
        train(optimizer, params)
        yield optimizer

    assert_twins(scenario, routed=kind in ("same", "overlap", "inside", "strided overlap"))


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
def test_one_parameter_twice() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((5,), (3,))
        optimizer = cls([params[0], *params], **KWARGS)
        for _ in range(3):
            give_gradients(params)
            optimizer.step()
            yield params, [optimizer.state[p] for p in params]

    assert_twins(scenario, routed=True)
    with pytest.raises(ValueError, match="more than one parameter group"):
        SGD([{"params": (p := parameters((3,)))}, {"params": p}])


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("size", [20, 3000, 10_000])  # in bytes: a line or two, pages, large
@pytest.mark.parametrize(
    "kind", ["other parameter", "own, shifted", "other momentum", "own", "own momentum"]
)
def test_gradients_that_are_written_memory(kind: str, size: int, weight_decay: float) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        memory = torch.linspace(-1, 1, size + 4)
        a, b = Parameter(memory[:size]), Parameter(torch.ones(size))
        optimizer = cls([a, b], lr=0.1, momentum=0.9, weight_decay=weight_decay)
        train(optimizer, [a, b], 3)
        for _ in range(3):
            a.grad = {
                "other parameter": b.data,
                "own, shifted": memory[4:],
                "other momentum": optimizer.state[b]["momentum_buffer"],
                "own": a.data,
                "own momentum": optimizer.state[a]["momentum_buffer"],
            }[kind]
            optimizer.step()
            yield optimizer

    assert_twins(scenario, routed=kind != "own")


@pytest.mark.parametrize("seed", range(30))
def test_a_gradient_among_parameters(seed: int) -> None:
    """Parameters with gaps between them; a gradient fits into a gap, or meets some of them."""
    rng = np.random.default_rng(seed)
    cuts = [0, *np.sort(rng.choice(np.arange(1, 200_000), 29, replace=False)).tolist(), 30_000]
    spans = list(zip(cuts[:-1:2], cuts[1::2], strict=True))
    gaps = list(zip(cuts[1:-1:2], cuts[2::2], strict=True))
    which = int(rng.integers(len(spans)))
    size = spans[which][1] - spans[which][0]
    fitting = [at for a, b in gaps if b - a >= size for at in (a, b - size)]
    inside = fitting and seed % 2
    start = int(rng.choice(fitting) if inside else rng.integers(0, 200_000 - size))
    meets = any(a < start + size and start < b for a, b in spans)
    assert not (inside and meets)

    def scenario(cls: type) -> Iterator[Any]:
        memory = torch.linspace(-1, 1, 200_000)
        params = [Parameter(memory[a:b]) for a, b in spans]
        optimizer = cls(params, **KWARGS)
        train(optimizer, params, 3)
        give_gradients(params)
        params[which].grad = memory[start : start + size]
        optimizer.step()
        yield optimizer

    assert_twins(scenario, routed=meets)


def test_one_gradient_for_two_parameters() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        a, b = parameters((20,), (20,))
        optimizer = cls([a, b], **KWARGS)
        a.grad = b.grad = torch.randn(20)
        for _ in range(3):
            optimizer.step()
            yield optimizer

    assert_twins(scenario)


def test_an_expanded_parameter_raises_and_changes_nothing() -> None:
    params = [*parameters((3,)), Parameter(torch.ones(1).expand(5))]
    optimizer = SGD(params, **KWARGS)
    give_gradients(params)
    before = snapshot(params)
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        optimizer.step()
    assert_same(snapshot(params), before)
    assert not optimizer.state
