"""optim.ThresholdSGD with gradients that it clips, measures or stops at."""

# ruff: noqa: E402
from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

import subgrad_fast as sf
from subgrad_fast.optim import SGD, ThresholdSGD
from tests.bits import assert_same_bits
from tests.optim.torch_twins import assert_same, give_gradients, parameters, snapshot, to_numpy
from tests.oracles.clip import coefficient, exact_norm, norm
from tests.oracles.threshold import at_least, threshold_step

pytestmark = pytest.mark.torch

SHAPES = ((20, 30), (7,), (3, 4, 5, 5))
RULE: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}


def two_groups(dtype: torch.dtype = torch.float32, **second: Any) -> tuple[Any, Any]:
    torch.manual_seed(1)
    params = parameters(*SHAPES, dtype=dtype)
    return params, [{"params": params[:2]}, {"params": params[2:], **second}]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scope", ["global", "group", "tensor"])
def test_against_the_formula(dtype: torch.dtype, scope: Any) -> None:
    params, groups = two_groups(dtype, max_norm=0.75, clip_value=0.2)
    optimizer = ThresholdSGD(groups, threshold=0.3, max_norm=2.0, max_norm_scope=scope, **RULE)
    assert [g.get("max_norm") for g in optimizer.param_groups] == [2.0, 0.75]
    assert [g.get("clip_value") for g in optimizer.param_groups] == [None, 0.2]
    bounds = [(2.0, math.inf)] * 2 + [(0.75, 0.2)]
    want = [(to_numpy(p), None, None) for p in params]
    for step in range(3):
        give_gradients(params)
        grads = [to_numpy(p.grad) for p in params]
        optimizer.step()
        found = optimizer.grad_norm
        assert found is not None and found.dtype == torch.float64 and found.ndim == 0
        assert found.item() == pytest.approx(exact_norm(grads), rel=1e-12)
        norms = {
            "global": [found.item()] * 3,
            "group": [norm(grads[:2])] * 2 + [norm(grads[2:])],
            "tensor": [norm([g]) for g in grads],
        }[scope]
        for i, p in enumerate(params):
            w, m, v = want[i]
            nothing = np.zeros(w.shape, np.float32)
            scale = coefficient(norms[i], bounds[i][0], np.float32)
            done = threshold_step(
                w,
                grads[i],
                nothing if m is None else m,
                nothing if v is None else v,
                at_least(0.3),
                scale=scale,
                limit=bounds[i][1],
                first_step=step == 0,
                **RULE,
            )
            want[i] = (done.w, done.m, done.v)
            assert_same_bits(to_numpy(p), done.w, f"{scope} {step} {i}")
            for name, expected in (("momentum_buffer", done.m), ("residual", done.v)):
                assert_same_bits(to_numpy(optimizer.state[p][name]), expected, name)


def test_a_norm_is_measured_only_where_it_is_asked_for() -> None:
    for asked, arguments in (
        (False, {}),
        (False, {"clip_value": 1.0}),
        (True, {"measure_norm": True}),
        (True, {"skip_nonfinite": True}),
        (True, {"max_norm": 1.0}),
    ):
        params = parameters(*SHAPES)
        optimizer = ThresholdSGD(params, density=0.1, **arguments)
        assert optimizer.grad_norm is None
        optimizer.step()
        assert optimizer.grad_norm is None, "there has been no gradient"
        give_gradients(params)
        optimizer.step()
        assert (optimizer.grad_norm is not None) == asked
        assert "grad_norm" not in str(optimizer.state_dict())


def test_measuring_changes_no_bits() -> None:
    results = []
    for arguments in ({}, {"measure_norm": True, "skip_nonfinite": True, "max_norm": 1e30}):
        torch.manual_seed(3)
        params = parameters(*SHAPES)
        optimizer = ThresholdSGD(params, density=0.1, **RULE, **arguments)
        for _ in range(3):
            give_gradients(params)
            optimizer.step()
        results.append(snapshot([params, [optimizer.state[p]["residual"] for p in params]]))
    assert_same(results[1], results[0])


# --- steps that are not taken --------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize("selector", ["exact", "sampled", "reused"])
def test_a_step_that_is_stopped_leaves_everything(selector: str, at: int) -> None:
    torch.manual_seed(4)
    params = parameters(*SHAPES)
    optimizer = ThresholdSGD(
        params, density=0.1, selector=selector, warmup=5, skip_nonfinite=True, **RULE
    )
    for _ in range(at):
        give_gradients(params)
        optimizer.step()
    before = copy.deepcopy(optimizer.state_dict())
    weights = snapshot([params])
    versions = [p._version for p in params]
    give_gradients(params)
    params[1].grad[3] = torch.inf  # type: ignore[index]
    optimizer.step()
    assert_same(snapshot([params]), weights)
    assert versions == [p._version for p in params]
    assert str(optimizer.state_dict()) == str(before), "an empty state stays empty"
    assert optimizer.grad_norm == torch.inf
    assert optimizer.last_result is not None and optimizer.last_result.density == 0.0
    # The control: the next one is taken, as if nothing had been.
    give_gradients(params)
    optimizer.step()
    assert optimizer.param_groups[0]["steps"] == at + 1
    assert {"momentum_buffer", "residual"} <= set(optimizer.state[params[0]])
    assert optimizer.grad_norm is not None and optimizer.grad_norm.isfinite()


def test_under_a_grad_scaler() -> None:
    results = []
    for scaled in (False, True):
        torch.manual_seed(5)
        params = parameters(*SHAPES)
        optimizer = ThresholdSGD(params, density=0.1, max_norm=1.0, **RULE)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
        for step in range(4):
            give_gradients(params)
            if scaled:
                scaler.scale(torch.zeros(()))  # so that the scaler has begun
                for p in params:
                    p.grad *= 1024.0
                if step == 2:
                    params[0].grad[0, 0] = torch.nan  # type: ignore[index]
            if scaled or step != 2:
                scaler.step(optimizer)
                assert step == 2 or optimizer.grad_norm is not None
            if scaled:
                scaler.update(1024.0)
        assert optimizer.param_groups[0]["steps"] == 3
        results.append(snapshot([params]))
    assert_same(results[1], results[0])


# --- groups and states ---------------------------------------------------------------------------


def test_groups_have_the_keys_only_where_they_are_used() -> None:
    plain = ThresholdSGD(parameters(*SHAPES), density=0.1)
    assert not {"max_norm", "clip_value"} & set(plain.param_groups[0])
    bounded = ThresholdSGD(parameters(*SHAPES), density=0.1, max_norm=1.0)
    assert set(bounded.param_groups[0]) - set(plain.param_groups[0]) == {"max_norm"}
    bounded.add_param_group({"params": parameters((3,)), "clip_value": 2.0})
    assert bounded.param_groups[1]["max_norm"] == 1.0
    assert bounded.param_groups[1]["clip_value"] == 2.0


def test_a_state_without_bounds_leaves_them_and_one_with_them_brings_them() -> None:
    plain = ThresholdSGD(parameters(*SHAPES), density=0.1)
    bounded = ThresholdSGD(parameters(*SHAPES), density=0.1, max_norm=1.0)
    bounded.param_groups[0]["max_norm"] = 3.0
    saved = copy.deepcopy(bounded.state_dict())
    bounded.load_state_dict(plain.state_dict())
    assert bounded.param_groups[0]["max_norm"] == 3.0
    plain.load_state_dict(saved)
    assert plain.param_groups[0]["max_norm"] == 3.0


def test_a_bound_that_is_changed_counts_from_the_next_step() -> None:
    params = parameters((50,))
    optimizer = ThresholdSGD(params, lr=1.0, threshold=0.0)
    for bound in (None, 0.5, None):
        optimizer.param_groups[0]["max_norm"] = bound
        give_gradients(params)
        before = params[0].detach().clone()
        optimizer.step()
        moved = (params[0].detach() - before).norm().item()
        assert moved == pytest.approx(0.5, rel=1e-4) if bound else moved > 2


def test_pickles_and_copies_go_on_clipping() -> None:
    torch.manual_seed(6)
    params = parameters(*SHAPES)
    optimizer = ThresholdSGD(
        params, density=0.1, max_norm=1.0, max_norm_scope="tensor", skip_nonfinite=True
    )
    others = [copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]
    torch.manual_seed(7)
    give_gradients(params)
    optimizer.step()
    for other in others:
        theirs = other.param_groups[0]["params"]
        torch.manual_seed(7)
        give_gradients(theirs)
        other.step()
        assert_same(snapshot([theirs]), snapshot([params]))
        assert other.grad_norm == optimizer.grad_norm
        theirs[0].grad[0] = torch.nan
        old = snapshot([theirs])
        other.step()
        assert_same(snapshot([theirs]), old)


def test_terms_of_other_optimizers_are_nothing_to_it() -> None:
    results = []
    for terms in ({}, {"l1": 0.5, "ema_decay": 0.9}):
        torch.manual_seed(8)
        params = parameters((60,))
        optimizer = ThresholdSGD([{"params": params, **terms}], lr=0.1, density=0.5)
        give_gradients(params)
        optimizer.step()
        results.append(snapshot([params]))
    assert_same(results[1], results[0])
    # As they come from a state of optim.SGD.
    other = SGD(parameters((60,)), lr=0.1, l1=0.5, max_norm=2.0)
    optimizer.load_state_dict(other.state_dict())
    give_gradients(params)
    optimizer.step()
    assert optimizer.grad_norm is not None


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"max_norm": -1.0}, ValueError, "max_norm: expected a number >= 0, got -1"),
        ({"clip_value": math.nan}, ValueError, "clip_value: expected a number >= 0"),
        ({"max_norm_scope": "all"}, ValueError, "max_norm_scope: expected 'global', 'group' or"),
    ],
    ids=str,
)
def test_what_is_refused(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ThresholdSGD(parameters((3,)), density=0.5, **changed)
    if "max_norm_scope" not in changed:
        optimizer = ThresholdSGD(parameters((3,)), density=0.5, max_norm=1.0)
        with pytest.raises(error, match=message):
            optimizer.add_param_group({"params": parameters((4,)), **changed})
        state = optimizer.state_dict()
        state["param_groups"][0].update(changed)
        with pytest.raises(error, match=message):
            optimizer.load_state_dict(state)


def test_the_function_and_the_optimizer_agree() -> None:
    torch.manual_seed(9)
    params = parameters(*SHAPES)
    optimizer = ThresholdSGD(params, lr=0.1, threshold=0.2, max_norm=0.5, clip_value=0.05)
    give_gradients(params)
    arrays = [to_numpy(p) for p in params]
    got = sf.threshold_step(
        arrays,
        [to_numpy(p.grad) for p in params],
        [a * 0 for a in arrays],
        lr=0.1,
        threshold=0.2,
        max_norm=0.5,
        clip_value=0.05,
        first_step=True,
    )
    optimizer.step()
    assert optimizer.grad_norm == got.grad_norm
    for p, a in zip(params, arrays, strict=True):
        assert_same_bits(to_numpy(p), a)
