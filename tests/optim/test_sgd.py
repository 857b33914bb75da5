"""optim.SGD against torch.optim.SGD's default, bit for bit: arguments, formula, groups."""

# ruff: noqa: E402
from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch.nn import Parameter

from subgrad_fast import _core
from subgrad_fast.optim import SGD
from tests.optim.torch_twins import (
    assert_same,
    assert_twins,
    parameters,
    train,
)

pytestmark = pytest.mark.torch

SHAPES = [(), (1,), (0,), (7,), (16,), (33,), (3, 5), (2, 3, 4, 5), (0, 4), (4097,)]


@pytest.fixture(params=["exchange", "attributes"])
def reach(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both ways of getting at a tensor's memory: torch >= 2.10's, and the older one."""
    old = _core.testing.use_exchange_api(request.param == "exchange")
    yield request.param
    _core.testing.use_exchange_api(old)


# --- the comparison itself -----------------------------------------------------------------------


def test_the_comparison_sees_one_ulp_in_one_element() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((100,))
        train(cls(params, lr=0.1), params)
        if cls is SGD:
            with torch.no_grad():
                params[0][41] = torch.nextafter(params[0][41], torch.tensor(9.0))
        yield params

    with pytest.raises(AssertionError, match="1 of 100 elements differ"):
        assert_twins(scenario)


def test_the_comparison_sees_the_sign_of_zero_but_not_a_nans_payload() -> None:
    with pytest.raises(AssertionError, match="1 of 1 elements differ"):
        assert_same(torch.tensor([0.0]), torch.tensor([-0.0]))
    other = torch.tensor([0x7FC01234], dtype=torch.int32).view(torch.float32)
    assert_same(other, torch.tensor([float("nan")]))


def test_the_comparison_sees_torchs_own_code() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((3,))
        train(cls(params, lr=0.1, foreach=False), params)
        yield params

    with pytest.raises(AssertionError, match="torch stepped 3 parameters"):
        assert_twins(scenario)


# --- construction --------------------------------------------------------------------------------


def test_it_is_a_torch_sgd_with_the_same_arguments() -> None:
    optimizer = SGD(parameters((3,)))
    assert isinstance(optimizer, torch.optim.SGD)
    ours, torchs = (inspect.signature(c.__init__).parameters for c in (SGD, torch.optim.SGD))
    # And ours behind them.
    assert [(p.name, p.kind, p.default) for p in ours.values()][: len(torchs)] == [
        (p.name, p.kind, p.default) for p in torchs.values()
    ]
    assert list(ours)[len(torchs) :] == [
        "l1",
        "max_norm",
        "max_norm_scope",
        "clip_value",
        "skip_nonfinite",
        "measure_norm",
        "ema_decay",
        "sparse_rows",
        "check_reads",
    ]
    assert repr(optimizer) == repr(torch.optim.SGD(parameters((3,))))


def test_positional_arguments() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((9,))
        optimizer = cls(params, 0.1, 0.9, 0.0, 0.01, True)
        train(optimizer, params)
        yield optimizer

    assert_twins(scenario)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"lr": -1.0},
        {"momentum": -0.1},
        {"weight_decay": -0.1},
        {"nesterov": True},
        {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
        {"lr": torch.tensor([0.1, 0.2])},
        {"lr": torch.tensor(-0.1)},
        {"fused": True, "differentiable": True},
        {"fused": True, "foreach": True},
        {"unknown": 1},
    ],
    ids=str,
)
def test_bad_arguments_raise_what_torch_raises(kwargs: dict[str, Any]) -> None:
    with pytest.raises((ValueError, RuntimeError, TypeError)) as torchs:
        torch.optim.SGD(parameters((3,)), **kwargs)
    with pytest.raises(torchs.type) as ours:
        SGD(parameters((3,)), **kwargs)
    assert str(ours.value) == str(torchs.value)


@pytest.mark.parametrize(
    "params", [[], torch.zeros(3), [1, 2], [torch.zeros(3, requires_grad=True) * 2]]
)
def test_bad_parameters_raise_what_torch_raises(params: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as torchs:
        torch.optim.SGD(params)
    with pytest.raises(torchs.type, match=r"."):
        SGD(params)


# --- the formula ---------------------------------------------------------------------------------


def grid() -> list[dict[str, Any]]:
    names = ("momentum", "dampening", "weight_decay", "nesterov", "maximize")
    values = ((0, 0.9), (0, 0.3), (0, 0.02), (False, True), (False, True))
    rows = [dict(zip(names, row, strict=True)) for row in itertools.product(*values)]
    return [r for r in rows if not r["nesterov"] or (r["momentum"] and not r["dampening"])]


@pytest.mark.parametrize(
    "kwargs", grid(), ids=lambda k: "-".join(f"{n}{v}" for n, v in k.items() if v)
)
def test_every_rule(reach: str, kwargs: dict[str, Any]) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters(*SHAPES) + parameters(*SHAPES, dtype=torch.float64)
        optimizer = cls(params, lr=0.1, **kwargs)
        for _ in range(4):
            train(optimizer, params, 1)
            yield params
        yield optimizer

    assert_twins(scenario)


def test_special_values() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        salt = torch.tensor(
            [float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-45, -1e-39, 3e38]
        )
        params = [Parameter(a.flatten()) for a in torch.meshgrid(salt, salt, indexing="ij")]
        optimizer = cls(params, lr=0.5, momentum=0.9, weight_decay=0.1)
        grads = [salt.repeat(8), salt.flip(0).repeat(8)]
        for _ in range(4):
            for p, g in zip(params, grads, strict=True):
                p.grad = g.clone()
            optimizer.step()
            yield optimizer

    assert_twins(scenario)


def test_flushed_denormals() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        p = Parameter(torch.full((40,), 1.2e-38))
        optimizer = cls([p], lr=0.3, momentum=0.5)
        for _ in range(3):
            p.grad = torch.full((40,), 1e-38)
            optimizer.step()
        yield optimizer

    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormals")
    try:
        assert_twins(scenario)
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"lr": torch.tensor(0.1)},
        {"lr": torch.tensor([0.1])},
        {"lr": torch.tensor([[0.1]], dtype=torch.float64)},
        {"lr": torch.tensor(1)},
        {"lr": 1, "momentum": 1, "weight_decay": 1},
        {"lr": 0.1, "weight_decay": torch.tensor(0.1)},
        {"lr": 0.1, "weight_decay": torch.tensor(0.0), "momentum": torch.tensor(0.9)},
        {"lr": 0.1, "momentum": 0.9, "dampening": torch.tensor(0.3)},
        {"lr": 0.0, "momentum": 0.9},
        {"lr": float("inf")},
    ],
    ids=str,
)
def test_numbers_and_tensors_as_hyperparameters(reach: str, kwargs: dict[str, Any]) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((41,)) + parameters((41,), dtype=torch.float64)
        optimizer = cls(params, **kwargs)
        train(optimizer, params)
        yield params

    assert_twins(scenario)


def test_a_tensor_learning_rate_is_read_at_every_step() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        lr = torch.tensor(0.1)
        params = parameters((41,))
        optimizer = cls(params, lr=lr)
        for _ in range(3):
            train(optimizer, params, 1)
            lr.mul_(0.3)
            yield params

    assert_twins(scenario)


def test_groups_with_their_own_hyperparameters_edited_in_training() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        a, b, c, d = parameters((40,), (41,), (5, 5), (3,))
        optimizer = cls(
            [
                {"params": [a]},
                {"params": [b], "lr": 0.5, "momentum": 0.5, "dampening": 0.1},
                {"params": [c], "weight_decay": 0.1, "maximize": True},
                {"params": [d], "nesterov": True},
                {"params": []},
            ],
            lr=0.1,
            momentum=0.9,
        )
        train(optimizer, [a, b, c, d])
        edits = [
            {"momentum": 0},
            {"momentum": 0.9},
            {"nesterov": True, "dampening": 0.3},  # the constructor would refuse these
            {"momentum": -0.5, "weight_decay": -0.3, "lr": -0.1},
            {"momentum": 0, "nesterov": True},
            {"momentum": 1, "maximize": 1, "lr": 1, "nesterov": False},
        ]
        for edit in edits:
            for group in optimizer.param_groups[:2]:
                group.update(edit)
            train(optimizer, [a, b, c, d])
            yield optimizer

    assert_twins(scenario)


def test_momentum_that_starts_in_mid_training() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((40,), (3, 3))
        optimizer = cls(params, lr=0.1, dampening=0.5)
        for momentum in (0, 0.9, 0, 0.5):
            optimizer.param_groups[0]["momentum"] = momentum
            train(optimizer, params)
            yield optimizer

    assert_twins(scenario)
