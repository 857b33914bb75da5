"""optim.SGD under modes and transforms, which are to see torch's operations; what it explains."""

# ruff: noqa: E402
from __future__ import annotations

import os
import subprocess
import sys
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from subgrad_fast.optim import SGD
from tests.optim.torch_twins import TorchSteps, assert_twins, give_gradients, parameters, train

pytestmark = pytest.mark.torch


class Sees(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class SeesAbove(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("warm", [0, 3])
@pytest.mark.parametrize("mode", [Sees, SeesAbove])
def test_modes_see_every_operation(mode: type, warm: int) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((5,), (3, 3))
        optimizer = cls(params, lr=0.1, momentum=0.9)
        train(optimizer, params, warm)
        give_gradients(params)
        with mode() as sees:
            optimizer.step()
            operations = [name for name in sees.seen if "add" in name or "mul" in name]
            optimizer.zero_grad(set_to_none=False)
            zeros = sum("zero" in name for name in sees.seen)
        yield operations, zeros
        yield params
        train(optimizer, params)
        yield params

    assert_twins(scenario, routed=True)


def test_a_default_device_is_no_mode_to_be_seen() -> None:
    params = parameters((5,))
    optimizer = SGD(params, lr=0.1, momentum=0.9)
    with torch.device("cpu"), TorchSteps() as steps:
        train(optimizer, params)
    assert not steps.params


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_within_vmap(momentum: float) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        def inner(p: Any, g: Any) -> Any:
            p = p.clone()
            optimizer = cls([p], lr=1.0, momentum=momentum)
            p.grad = g
            optimizer.step()
            optimizer.step()
            return p

        yield torch.func.vmap(inner)(torch.zeros(2, 3), torch.randn(2, 3))

    assert_twins(scenario, routed=True)


def test_traced_by_make_fx() -> None:
    def graph(cls: type) -> list[str]:
        def inner(p: Any, g: Any, m: Any) -> Any:
            optimizer: Any = cls([p], lr=1.0, momentum=0.5)
            optimizer.state[p]["momentum_buffer"] = m
            p.grad = g
            optimizer.step()
            return p, m

        traced = make_fx(inner)(*torch.randn(3, 4))
        return [str(node.target) for node in traced.graph.nodes]

    assert graph(SGD) == graph(torch.optim.SGD)
    assert any("add_" in target for target in graph(SGD))


def test_fake_tensors_and_real_weights() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    params = parameters((4,))
    optimizer = SGD(params, lr=0.1, momentum=0.5)
    train(optimizer, params)
    give_gradients(params)
    before = params[0].detach().clone()
    with pytest.raises(Exception, match=r"[Ff]ake"), FakeTensorMode():  # as torch's own step
        optimizer.step()
    assert torch.equal(params[0], before)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_gradients_that_are_zeros_without_memory(momentum: float) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        p, other = parameters((3,), (4,))
        optimizer = cls([p, other], lr=1.0, momentum=momentum)
        for _ in range(3):
            p.grad, other.grad = torch._efficientzerotensor(3), torch.randn(4)
            optimizer.step()
            yield p, other

    assert_twins(scenario, routed=True)


def test_a_step_that_raises_lets_go_of_gradients() -> None:
    params = [Parameter(torch.zeros(1000)) for _ in range(2)]
    optimizer = SGD(params, lr=0.1)
    for i in range(3):
        give_gradients(params)
        if i < 2:
            optimizer.step()
    first = weakref.ref(params[0].grad)
    params[1].grad.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match=r"grads\[1\]: has no memory of its own"):
        optimizer.step()
    optimizer.zero_grad()
    assert first() is None


# --- what it says of itself ----------------------------------------------------------------------


class Tagged(torch.Tensor):
    pass


def test_explain_names_tensors_and_reasons() -> None:
    params = [*parameters((5,), (4,)), Parameter(torch.zeros(2, dtype=torch.float8_e4m3fn))]
    params.append(torch.randn(5).as_subclass(Tagged).requires_grad_())
    optimizer = SGD([{"params": params[:2]}, {"params": params[2:]}], lr=0.1, momentum=0.9)
    params[1].grad = torch._neg_view(torch.ones(4))
    assert optimizer.explain() == [
        "param_groups[0]['params'][1] is stepped by torch: the gradient is a negated view",
        (
            "param_groups[1]['params'][0] is stepped by torch: "
            "the parameter is of dtype torch.float8_e4m3fn"
        ),
        (
            "param_groups[1]['params'][1] is stepped by torch: "
            "the parameter is of the class Tagged, whose own code torch calls"
        ),
    ]
    plain = SGD(parameters((5,)), lr=0.1)
    assert plain.explain() == []
    assert "foreach" in SGD(parameters((5,)), foreach=True).explain()[0]
    shared = torch.zeros(5)
    both = [Parameter(shared), Parameter(shared)]
    optimizer = SGD(both, lr=0.1)
    give_gradients(both)
    optimizer.step()
    assert optimizer.explain() == [
        "all parameters are stepped by torch: memory that a step writes is shared"
    ]
    with Sees():
        assert "a mode" in plain.explain()[0]


def test_what_explain_says_is_what_happens() -> None:
    """A parameter that torch steps is named, and no other."""
    params = [*parameters((5,), (4, 4), (6,)), Parameter(torch.randn(2, 2).half())]
    optimizer = SGD(params, lr=0.1, momentum=0.9)
    for i in range(4):
        give_gradients(params)
        if i % 2:
            params[1].grad = params[1].grad.to_sparse()
            params[2].grad = params[2].grad.as_subclass(Tagged)
        said = " ".join(optimizer.explain())
        with TorchSteps() as steps:
            optimizer.step()
        for place, p in enumerate(params):
            assert (f"[{place}]" in said.replace("groups[0]", "")) == steps.had(p), said


def test_steps_explain_themselves_once_where_that_is_asked_for() -> None:
    code = """
import warnings, torch
from subgrad_fast.optim import SGD
p = torch.nn.Parameter(torch.zeros(3))
o = SGD([p], lr=0.1)
p.grad = torch._neg_view(torch.ones(3))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    o.step(); o.step()
print(len(said), said[0].message if said else "")
"""
    for asked, wanted in (("1", "1 param_groups[0]['params'][0] is stepped by torch"), ("", "0")):
        out = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "SUBGRAD_FAST_EXPLAIN": asked},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert out.startswith(wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p = parameters((3,))
        p[0].grad = torch._neg_view(torch.ones(3))
        SGD(p).step()
