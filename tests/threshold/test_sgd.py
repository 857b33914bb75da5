"""optim.ThresholdSGD: the thresholded step as a torch user meets it."""

# ruff: noqa: E402
from __future__ import annotations

import gc
import itertools
import weakref
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch.nn import Parameter

import subgrad_fast as sf
from subgrad_fast.optim import ThresholdSGD
from tests.bits import assert_same_bits
from tests.optim.torch_twins import (
    assert_same,
    give_gradients,
    parameters,
    snapshot,
    to_numpy,
    train,
)
from tests.oracles.threshold import at_least, largest, threshold_step

pytestmark = pytest.mark.torch

SHAPES = ((20, 30), (7,), (3, 4, 5, 5))
RULES = [
    {"momentum": momentum, "nesterov": nesterov, "weight_decay": decay, "dampening": dampening,
     "maximize": maximize}
    for momentum, nesterov, decay, dampening, maximize in itertools.product(
        (0.0, 0.9), (False, True), (0.0, 0.02), (0.0, 0.3), (False, True)
    )
    if not (nesterov and (momentum == 0.0 or dampening)) and (momentum or not dampening)
]  # fmt: skip


# --- the formula, and equality with SGD ----------------------------------------------------------


@pytest.mark.parametrize("correction", [True, False])
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_density_1_is_sgd(dtype: torch.dtype, rule: dict[str, Any], correction: bool) -> None:
    for choice in ({"density": 1.0}, {"threshold": 0.0}, {"selector": sf.Exact(1.0)}):
        results = []
        for cls in (torch.optim.SGD, ThresholdSGD):
            torch.manual_seed(0)
            params = parameters(*SHAPES, dtype=dtype)
            more = choice | {"momentum_correction": correction, "momentum_masking": False}
            optimizer = cls(params, lr=0.1, **rule, **(more if cls is ThresholdSGD else {}))
            train(optimizer, params, 4)
            buffers = [optimizer.state[p].get("momentum_buffer") for p in params]
            results.append(snapshot([params, buffers]))
        assert_same(results[1], results[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mode", [{}, {"momentum_masking": False}, {"momentum_correction": False},
                                  {"error_feedback": False}], ids=str)  # fmt: skip
@pytest.mark.parametrize("choice", [{"density": 0.1}, {"threshold": 2.0}], ids=str)
def test_against_the_formula(
    dtype: torch.dtype, mode: dict[str, Any], choice: dict[str, Any]
) -> None:
    torch.manual_seed(1)
    params = parameters(*SHAPES, dtype=dtype)
    rule = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}
    optimizer = ThresholdSGD(params, **rule, **mode, **choice)
    wide = np.float32
    want = [(to_numpy(p), np.zeros(p.shape, wide), np.zeros(p.shape, wide)) for p in params]
    modes = {k: v for k, v in mode.items() if k != "error_feedback"}
    for step in range(4):
        give_gradients(params)
        optimizer.step()
        for i, p in enumerate(params):
            w, m, v = want[i]
            share = max(1, int(0.1 * w.size + 0.5))
            keep = at_least(2.0) if "threshold" in choice else largest(share)
            held = v if "error_feedback" not in mode else None
            assert p.grad is not None
            done = threshold_step(
                w, to_numpy(p.grad), m, held, keep, first_step=step == 0, **rule, **modes
            )
            assert done.m is not None
            want[i] = (done.w, done.m, v if done.v is None else done.v)
            assert_same_bits(to_numpy(p), done.w, "param")
            state = optimizer.state[p]
            assert_same_bits(to_numpy(state["momentum_buffer"]), done.m, "momentum")
            assert ("residual" in state) == (held is not None)
            if done.v is not None:
                assert_same_bits(to_numpy(state["residual"]), done.v, "residual")
            assert optimizer.last_result is not None
            assert optimizer.last_result.kept[i] == done.kept.sum()


def test_16_bit_parameters_keep_what_they_cannot_show() -> None:
    """Steps of less than half an ULP add up in the residual until they can be seen."""
    p = Parameter(torch.ones(8, dtype=torch.bfloat16))
    optimizer = ThresholdSGD([p], lr=1.0, threshold=0.01)
    for _ in range(1000):
        p.grad = torch.full_like(p, 1e-3)
        optimizer.step()
    assert p.abs().max() < 0.1  # each visible step still rounds
    # The control: torch's SGD does not move at all.
    stuck = Parameter(torch.ones(8, dtype=torch.bfloat16))
    plain = torch.optim.SGD([stuck], lr=1.0)
    for _ in range(1000):
        stuck.grad = torch.full_like(stuck, 1e-3)
        plain.step()
    assert (stuck == 1).all()


# --- groups, scopes, selectors -------------------------------------------------------------------


def test_groups_have_their_own_choice() -> None:
    a, b, c, d = parameters((1000,), (500, 2), (400,), (300,))
    optimizer = ThresholdSGD(
        [
            {"params": [a]},
            {"params": [b], "density": 0.5},
            {"params": [c], "threshold": 1e9},
            {"params": [d], "selector": sf.Exact(k=7), "lr": 0.0},
        ],
        lr=0.1,
        density=0.01,
    )
    before = d.detach().clone()
    train(optimizer, [a, b, c, d], 1)
    assert optimizer.last_result is not None
    assert optimizer.last_result.kept == [10, 500, 0, 7]
    assert torch.equal(d, before)
    optimizer.param_groups[0]["density"] = 0.1
    train(optimizer, [a, b, c, d], 1)
    assert optimizer.last_result.kept == [100, 500, 0, 7]
    names = [group["selector"] for group in optimizer.param_groups]
    assert names == ["exact", "exact", "absolute", "exact"]


def test_scopes() -> None:
    for scope in ("tensor", "global"):
        small, large = parameters((1000,), (1000,))
        optimizer = ThresholdSGD([small, large], lr=0.1, density=0.05, scope=scope)
        small.grad = 0.01 * torch.randn(1000)
        large.grad = 10 + torch.randn(1000)
        optimizer.step()
        assert optimizer.last_result is not None
        assert optimizer.last_result.kept == ([50, 50] if scope == "tensor" else [0, 100])


def test_a_global_scope_is_one_group() -> None:
    params = parameters((1000,), (1000,))
    optimizer = ThresholdSGD(
        [{"params": [p]} for p in params], lr=0.1, density=0.05, scope="global"
    )
    for p, scale in zip(params, (0.01, 10.0), strict=True):
        p.grad = scale * torch.randn(1000)
    optimizer.step()
    assert optimizer.last_result is not None
    assert optimizer.last_result.kept == [50, 50]


@pytest.mark.parametrize("scope", ["tensor", "global"])
@pytest.mark.parametrize("selector", ["sampled", "reused"])
def test_estimated_densities(selector: str, scope: str) -> None:
    torch.manual_seed(2)
    params = parameters((300, 100), (2000,))
    optimizer = ThresholdSGD(params, lr=0.01, density=0.05, selector=selector, scope=scope)
    densities = []
    for _ in range(30):
        train(optimizer, params, 1)
        assert optimizer.last_result is not None
        densities.append(optimizer.last_result.density)
    assert abs(np.mean(densities[5:]) / 0.05 - 1) < 0.3
    remembered = [optimizer.state[p].get("next_threshold") for p in params]
    of_group = optimizer.param_groups[0].get("next_threshold")
    assert (of_group is not None) == (selector == "reused" and scope == "global")
    assert any(r is not None for r in remembered) == (selector == "reused" and scope == "tensor")


def test_warmup_by_steps() -> None:
    p = Parameter(torch.zeros(10_000))
    optimizer = ThresholdSGD([p], lr=0.1, density=0.001, warmup=4)
    kept = []
    for _ in range(6):
        train(optimizer, [p], 1)
        assert optimizer.last_result is not None
        kept.append(optimizer.last_result.kept[0])
    assert kept == [2500, 629, 158, 40, 10, 10]  # 0.25 * 250 ** (-i / 4)


def test_warmup_by_densities() -> None:
    p = Parameter(torch.zeros(1000))
    optimizer = ThresholdSGD([p], lr=0.1, density=0.01, warmup=(0.5, 0.1), warmup_steps=2)
    kept = []
    for _ in range(5):
        train(optimizer, [p], 1)
        assert optimizer.last_result is not None
        kept.append(optimizer.last_result.kept[0])
    assert kept == [500, 500, 100, 100, 10]


def test_emitted_values_are_what_moved() -> None:
    p = Parameter(torch.zeros(50, 4))
    optimizer = ThresholdSGD([p], lr=0.5, density=0.1, emit="int32", measure=True)
    train(optimizer, [p], 1)
    assert optimizer.last_result is not None and optimizer.last_result.selections is not None
    indices, values, threshold = optimizer.last_result.selections[0]
    assert isinstance(indices, torch.Tensor) and indices.dtype == torch.int32
    moved = torch.zeros(200).index_put((indices.long(),), values)
    assert torch.equal(p.detach().flatten(), -0.5 * moved)
    assert values.abs().min() == threshold
    residual = optimizer.state[p]["residual"]
    assert optimizer.last_result.residual_norm == pytest.approx(float(residual.norm()), rel=1e-5)


# --- a torch user's expectations -----------------------------------------------------------------


def test_closure_scheduler_hooks_and_versions() -> None:
    model = torch.nn.Linear(8, 4)
    optimizer = ThresholdSGD(model.parameters(), lr=1.0, density=0.5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        assert torch.is_grad_enabled()
        loss = model(torch.ones(2, 8)).square().sum()
        loss.backward()
        return loss

    version = model.weight._version
    with torch.no_grad():
        loss = optimizer.step(closure)
    assert loss.item() > 0
    assert calls == ["before", "after"]
    assert model.weight._version > version
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.5
    optimizer.zero_grad()
    assert model.weight.grad is None


def test_autograd_sees_that_a_saved_parameter_changed() -> None:
    p = Parameter(torch.ones(3))
    loss = (p * p).sum()
    p.grad = torch.ones(3)
    ThresholdSGD([p], lr=0.1, threshold=0.0).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_parameters_without_a_gradient_and_unfrozen_late() -> None:
    a, b = parameters((5,), (6,))
    optimizer = ThresholdSGD([a, b], lr=0.1, momentum=0.9, density=1.0, momentum_masking=False)
    twin_a, twin_b = (Parameter(p.detach().clone()) for p in (a, b))
    twin = torch.optim.SGD([twin_a, twin_b], lr=0.1, momentum=0.9)
    optimizer.step()  # no gradient anywhere
    assert optimizer.last_result is None and not optimizer.state
    for step in range(4):
        for p, q in ((a, twin_a), (b, twin_b)):
            p.grad = q.grad = None if step < 2 and p is b else torch.randn(p.shape)
        optimizer.step()
        twin.step()
        assert (b in optimizer.state) == (step >= 2)
    assert_same(snapshot([a, b]), snapshot([twin_a, twin_b]))


def test_add_param_group() -> None:
    a, b = parameters((100,), (100,))
    optimizer = ThresholdSGD([a], lr=0.1, density=0.1, selector="sampled")
    train(optimizer, [a], 2)
    optimizer.add_param_group({"params": [b], "density": 0.5})
    train(optimizer, [a, b], 1)
    assert optimizer.last_result is not None
    assert optimizer.last_result.kept == [10, 50]
    assert [g["selector"] for g in optimizer.param_groups] == ["sampled", "sampled"]
    assert [g["steps"] for g in optimizer.param_groups] == [3, 1]


def test_memory_that_moves_between_steps() -> None:
    p = Parameter(torch.zeros(100))
    optimizer = ThresholdSGD([p], lr=1.0, momentum=0.9, density=0.1)
    train(optimizer, [p], 1)
    optimizer.state[p]["residual"].share_memory_()
    optimizer.state[p]["momentum_buffer"] = optimizer.state[p]["momentum_buffer"].clone()
    p.data = torch.ones(100)
    train(optimizer, [p], 1)
    assert int((p != 1).sum()) == 10
    assert optimizer.state[p]["residual"].is_shared()


def test_nothing_outlives_model_and_optimizer() -> None:
    model = torch.nn.Linear(3, 3)
    optimizer = ThresholdSGD(model.parameters(), lr=0.1, momentum=0.9, density=0.5)
    model.weight.optimizer = optimizer
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    alive = [weakref.ref(x) for x in (model.weight, optimizer)]
    del model, optimizer
    gc.collect()
    assert [ref() for ref in alive] == [None] * 2
