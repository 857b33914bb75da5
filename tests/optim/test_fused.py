"""Where torch 2.13's fused CPU step breaks: ours, asked for with fused=True, must not."""

# ruff: noqa: E402
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch.nn import Parameter

from subgrad_fast.optim import SGD
from tests.cases import RULE
from tests.optim.torch_twins import (
    assert_same,
    assert_twins,
    parameters,
    snapshot,
    strided,
    train,
)

pytestmark = pytest.mark.torch


def fused_and_default(
    make: Callable[[], list[Any]], work: Callable[[Any, list[Any]], None]
) -> None:
    """`work` on our fused=True optimizer gives torch's default bits."""

    def scenario(cls: type) -> Iterator[Any]:
        params = make()
        optimizer = cls(params, **RULE, **({"fused": True} if cls is SGD else {}))
        work(optimizer, params)
        yield params, [optimizer.state[p] for p in params]

    assert_twins(scenario)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_fused_writes_all_of_a_16_bit_tensor(dtype: Any) -> None:
    """pytorch#191763: full SIMD blocks were never written."""
    for n in (1, 15, 16, 31, 32, 64, 1000):
        p = Parameter(torch.ones(n, dtype=dtype))
        p.grad = torch.ones_like(p)
        SGD([p], lr=0.5, fused=True).step()
        assert (p == 0.5).all(), n


@pytest.mark.parametrize("layout", ["channels last", "transposed", "sliced", "expanded"])
def test_fused_reads_gradients_with_strides_of_their_own(layout: str) -> None:
    def work(optimizer: Any, params: list[Any]) -> None:
        for _ in range(2):
            params[0].grad = strided(layout, (4, 3, 5, 7), torch.float32)
            optimizer.step()

    fused_and_default(lambda: parameters((4, 3, 5, 7)), work)


def test_fused_takes_a_parameter_unfrozen_late() -> None:
    def work(optimizer: Any, params: list[Any]) -> None:
        train(optimizer, params[:1])
        train(optimizer, params)

    fused_and_default(lambda: parameters((5,), (6,)), work)


def test_fused_tails_are_the_defaults() -> None:
    fused_and_default(lambda: parameters(*((n,) for n in range(1, 70))), train)


def scaled_step(optimizer: Any, params: list[Any], bad: bool) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(sum(p.sum() for p in params)).backward()
    if bad:
        params[0].grad[0] = float("inf")
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()


def test_fused_keeps_no_momentum_of_a_first_step_with_inf() -> None:
    params = parameters((100,), (5,))
    optimizer = SGD(params, **RULE, fused=True)
    before = snapshot(params)
    scaled_step(optimizer, params, bad=True)
    assert_same(snapshot(params), before)
    assert not optimizer.state
    scaled_step(optimizer, params, bad=False)
    assert optimizer.state[params[1]]["momentum_buffer"].isfinite().all()


def test_fused_takes_an_unfused_checkpoint_under_a_grad_scaler() -> None:
    def work(optimizer: Any, params: list[Any]) -> None:
        other = torch.optim.SGD(parameters((40,), (5,)), **RULE, fused=False)
        optimizer.load_state_dict(other.state_dict())
        for bad in (False, True, False):
            scaled_step(optimizer, params, bad)

    fused_and_default(lambda: parameters((40,), (5,)), work)


def test_fused_takes_sparse_gradients() -> None:
    p = parameters((4, 2))[0]
    before = p.detach().clone()
    p.grad = torch.ones(4, 2).to_sparse(1)
    SGD([p], lr=0.5, fused=True).step()
    assert_same(p.detach(), before - 0.5)
