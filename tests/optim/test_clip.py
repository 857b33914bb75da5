"""optim.SGD that clips, skips and measures in its step, beside torch's calls one by one."""

# ruff: noqa: E402
from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch import Tensor
from torch.nn import Parameter

from subgrad_fast.optim import SGD
from tests.optim.torch_twins import assert_same, parameters, snapshot, strided

pytestmark = pytest.mark.torch

SHAPES = [(), (7,), (33,), (3, 5), (64, 65), (5000,)]
TERMS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}


def twins(dtype: torch.dtype = torch.float32) -> tuple[list[Parameter], list[Parameter]]:
    torch.manual_seed(0)
    ours = parameters(*SHAPES, dtype=dtype)
    return ours, copy.deepcopy(ours)


def give_same_gradients(*lists: list[Parameter]) -> None:
    for params in zip(*lists, strict=True):
        grad = torch.randn_like(params[0])
        for p in params:
            p.grad = grad.clone()


def coefficient(norm: float, max_norm: float, dtype: torch.dtype) -> Tensor:
    """What clip_grad_norm_ multiplies by, computed by torch from a norm of this dtype."""
    total = torch.tensor(norm, dtype=torch.float64).to(dtype)
    return torch.clamp(max_norm / (total + 1e-6), max=1.0)


def norm_of(params: list[Parameter]) -> float:
    return math.sqrt(
        math.fsum(float(x) ** 2 for p in params if p.grad is not None for x in p.grad.flatten())
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e9])
def test_given_the_norm_the_bits_are_torchs(dtype: torch.dtype, max_norm: float) -> None:
    ours, theirs = twins(dtype)
    optimizer = SGD(ours, max_norm=max_norm, **TERMS)
    torchs = torch.optim.SGD(theirs, foreach=False, **TERMS)
    for _ in range(4):
        give_same_gradients(ours, theirs)
        given = snapshot([p.grad for p in ours])
        optimizer.step()
        assert_same([p.grad for p in ours], given)  # gradients stay as they are
        norm = optimizer.grad_norm.item()
        assert norm == pytest.approx(norm_of(theirs), rel=1e-14)
        for p in theirs:
            p.grad.mul_(coefficient(norm, max_norm, dtype))
        torchs.step()
        assert_same([p.detach() for p in ours], [p.detach() for p in theirs])
    assert_same(
        [optimizer.state[p]["momentum_buffer"] for p in ours],
        [torchs.state[p]["momentum_buffer"] for p in theirs],
    )


def test_another_coefficient_has_other_bits() -> None:
    ours, theirs = twins()
    optimizer, torchs = SGD(ours, max_norm=0.5, **TERMS), torch.optim.SGD(theirs, **TERMS)
    give_same_gradients(ours, theirs)
    optimizer.step()
    for p in theirs:
        p.grad.mul_(coefficient(optimizer.grad_norm.item() * (1 + 1e-5), 0.5, torch.float32))
    torchs.step()
    assert not torch.equal(ours[-1], theirs[-1])


@pytest.mark.parametrize("empty", [False, True])
def test_the_type_of_a_norm(empty: bool) -> None:
    """It is float64 with a float64 gradient, even one without elements, and not with a parameter of
    that type that has no gradient."""
    types = [torch.float64, torch.float32] if empty else [torch.float32, torch.float64]
    others_differ = False
    for seed in range(20):
        torch.manual_seed(seed)
        param = Parameter(torch.randn(33))
        other = Parameter(torch.zeros(0 if empty else 3, dtype=torch.float64))
        param.grad = torch.randn(33)
        if empty:
            other.grad = torch.zeros(0, dtype=torch.float64)
        start = param.detach().clone()
        optimizer = SGD([param, other], lr=1.0, max_norm=0.5)
        optimizer.step()
        norm = optimizer.grad_norm.item()
        of_type = [start - param.grad * coefficient(norm, 0.5, dtype) for dtype in types]
        assert_same(param.detach(), of_type[0])
        others_differ = others_differ or not torch.equal(*of_type)
    assert others_differ


@pytest.mark.parametrize("scope", ["global", "group", "tensor"])
def test_scopes(scope: str) -> None:
    ours, theirs = twins()
    half = len(ours) // 2
    groups = [{"params": ours[:half], "max_norm": 0.1}, {"params": ours[half:]}]
    optimizer = SGD(groups, max_norm=0.7, max_norm_scope=scope, **TERMS)
    torchs = torch.optim.SGD(theirs, foreach=False, **TERMS)
    give_same_gradients(ours, theirs)
    optimizer.step()
    everything = norm_of(theirs)
    sets = {
        "global": [(theirs[:half], everything, 0.1), (theirs[half:], everything, 0.7)],
        "group": [
            (theirs[:half], norm_of(theirs[:half]), 0.1),
            (theirs[half:], norm_of(theirs[half:]), 0.7),
        ],
        "tensor": [([p], norm_of([p]), 0.1 if i < half else 0.7) for i, p in enumerate(theirs)],
    }
    for members, norm, max_norm in sets[scope]:
        for p in members:
            p.grad.mul_(coefficient(norm, max_norm, torch.float32))
    torchs.step()
    assert_same([p.detach() for p in ours], [p.detach() for p in theirs])
    assert optimizer.grad_norm.item() == pytest.approx(everything, rel=1e-14)


def test_value() -> None:
    ours, theirs = twins()
    optimizer = SGD(ours, clip_value=0.3, **TERMS)
    torchs = torch.optim.SGD(theirs, foreach=False, **TERMS)
    for _ in range(3):
        give_same_gradients(ours, theirs)
        optimizer.step()
        torch.nn.utils.clip_grad_value_(theirs, 0.3)
        torchs.step()
        assert_same([p.detach() for p in ours], [p.detach() for p in theirs])
    assert optimizer.grad_norm is None


def odd_ones(kind: str) -> list[Parameter]:
    """Parameters of which torch's code steps some."""
    torch.manual_seed(0)
    plain = parameters((7,), (3, 5))
    if kind == "complex":
        return [*plain, Parameter(torch.randn(4, dtype=torch.complex64))]
    if kind == "strided":
        return [*plain, Parameter(strided("sliced", (2, 3, 2, 2), torch.float32))]
    return plain


@pytest.mark.parametrize("kind", ["complex", "strided", "foreach"])
def test_what_torch_steps_is_clipped_too(kind: str) -> None:
    ours = odd_ones(kind)
    theirs = [Parameter(p.detach().clone()) for p in ours]
    more: dict[str, Any] = {"foreach": True} if kind == "foreach" else {}
    optimizer = SGD(ours, max_norm=0.5, ema_decay=0.9, **TERMS, **more)
    torchs = torch.optim.SGD(theirs, foreach=False, **TERMS)
    for _ in range(3):
        give_same_gradients(ours, theirs)
        optimizer.step()
        norm = torch.nn.utils.clip_grad_norm_(theirs, 0.5)
        torchs.step()
        assert optimizer.grad_norm.item() == pytest.approx(norm.item(), rel=1e-6)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    assert all("ema" in optimizer.state[p] for p in ours)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("bad", [math.inf, math.nan])
@pytest.mark.parametrize("foreach", [None, True])
def test_a_skipped_step_leaves_everything(first: int, bad: float, foreach: bool | None) -> None:
    params, others = twins()
    seen: list[int] = []

    def decay(steps: int) -> float:
        seen.append(steps)
        return 0.5

    optimizer = SGD(params, skip_nonfinite=True, ema_decay=decay, foreach=foreach, **TERMS)
    plain = SGD(others, ema_decay=0.5, foreach=foreach, **TERMS)
    for i in range(3):
        give_same_gradients(params, others)
        if i == first:
            params[-1].grad[17] = bad
            before = snapshot([list(params), optimizer.state_dict()])
            versions = [p._version for p in params]
            optimizer.step()
            assert_same(snapshot([list(params), optimizer.state_dict()]), before)
            assert [p._version for p in params] == versions
            assert not math.isfinite(optimizer.grad_norm.item())
            continue
        optimizer.step()
        plain.step()
    assert_same([p.detach() for p in params], [p.detach() for p in others])
    for a, b in zip(params, others, strict=True):
        assert_same(snapshot(dict(optimizer.state[a])), snapshot(dict(plain.state[b])))
    assert seen[-2:] == ([0, 1] if first == 0 else [1, 1])  # a skipped step is not counted


def test_without_skipping_what_is_not_finite_goes_on() -> None:
    params = parameters((5,))
    optimizer = SGD(params, lr=0.1, max_norm=1.0)
    params[0].grad = torch.tensor([1.0, math.inf, 0.0, 0.0, 0.0])
    optimizer.step()
    assert torch.isnan(params[0][1]) and torch.isfinite(params[0][0])


def test_the_norm_is_measured_where_it_is_asked_for() -> None:
    params = parameters((5,), (3, 3))
    plain, measuring = SGD(params, lr=0.1), SGD(params, lr=0.1, measure_norm=True)
    for p in params:
        p.grad = torch.ones_like(p)
    assert plain.grad_norm is None and measuring.grad_norm is None
    plain.step()
    measuring.step()
    assert plain.grad_norm is None
    norm = measuring.grad_norm
    assert norm.shape == () and norm.dtype == torch.float64
    assert norm.item() == math.sqrt(14)


def test_settings_survive_copies_and_pickles() -> None:
    params = parameters((5,))
    optimizer = SGD(params, lr=0.1, max_norm=1.0, max_norm_scope="tensor", skip_nonfinite=True)
    for copied in (copy.deepcopy(optimizer), optimizer):
        (p,) = copied.param_groups[0]["params"]
        p.grad = torch.full_like(p, math.inf)
        before = p.detach().clone()
        copied.step()
        assert torch.equal(p, before)


def test_a_loaded_state_without_our_keys_leaves_them() -> None:
    params = parameters((5,))
    optimizer = SGD(params, lr=0.1, max_norm=1.0)
    optimizer.load_state_dict(torch.optim.SGD(params, lr=0.1).state_dict())
    assert optimizer.param_groups[0]["max_norm"] == 1.0
    assert "max_norm" not in SGD(params, lr=0.1).param_groups[0]


def make(**settings: Any) -> Callable[[], SGD]:
    return lambda: SGD(parameters((3,)), lr=0.1, **settings)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"max_norm": -1.0}, ValueError, "max_norm: expected a number >= 0"),
        ({"max_norm": math.nan}, ValueError, "max_norm: expected a number >= 0"),
        ({"max_norm": "1"}, TypeError, "max_norm: expected a number"),
        ({"clip_value": -1.0}, ValueError, "clip_value: expected a number >= 0"),
        ({"ema_decay": 1.5}, ValueError, "ema_decay: expected a number from 0 to 1"),
        ({"ema_decay": -0.1}, ValueError, "ema_decay: expected a number from 0 to 1"),
        ({"max_norm_scope": "all"}, ValueError, "max_norm_scope: expected 'global'"),
        ({"max_norm_scope": 3}, TypeError, "max_norm_scope: expected 'global'"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        make(**settings)()


def test_a_wrong_term_of_a_group_stops_the_step() -> None:
    (param,) = params = parameters((3,))
    optimizer = SGD(params, lr=0.1, max_norm=1.0)
    optimizer.param_groups[0]["max_norm"] = -1.0
    param.grad = torch.ones(3)
    before = param.detach().clone()
    with pytest.raises(ValueError, match="max_norm"):
        optimizer.step()
    assert torch.equal(param, before)


@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_gradients_that_name_rows(scope: str) -> None:
    def model() -> tuple[torch.nn.Embedding, torch.nn.Linear]:
        torch.manual_seed(0)
        return torch.nn.Embedding(50, 8, sparse=True), torch.nn.Linear(8, 3)

    rows = torch.tensor([3, 7, 3, 11, 49, 3])
    clipped, plain = model(), model()

    def params(pair: tuple[torch.nn.Embedding, torch.nn.Linear]) -> list[Parameter]:
        return [p for module in pair for p in module.parameters()]

    optimizer = SGD(
        params(clipped), max_norm=0.5, max_norm_scope=scope, ema_decay=0.5, lr=0.1, momentum=0.9
    )
    other = SGD(params(plain), lr=0.1, momentum=0.9)
    for _ in range(3):
        for embedding, linear in (clipped, plain):
            embedding.zero_grad()
            linear.zero_grad()
            (linear(embedding(rows)) ** 2).sum().backward()
        optimizer.step()
        grads = [p.grad for p in params(plain)]
        grads[0] = grads[0].coalesce()
        norms = [float(g.norm()) for g in grads]
        whole = math.sqrt(math.fsum(n * n for n in norms))
        assert optimizer.grad_norm.item() == pytest.approx(whole, rel=1e-6)
        for p, grad, norm in zip(params(plain), grads, norms, strict=True):
            p.grad = grad * min(1.0, 0.5 / ((norm if scope == "tensor" else whole) + 1e-6))
        other.step()
        for a, b in zip(params(clipped), params(plain), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert all("ema" in optimizer.state[p] for p in params(clipped))
    before = snapshot([params(clipped), optimizer.state_dict()])
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    assert_same(snapshot([params(clipped), optimizer.state_dict()]), before)
