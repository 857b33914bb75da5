"""optim.SGD with l1: the proximal step in the kernels, in torch's own code, and in the state."""

# ruff: noqa: E402
from __future__ import annotations

import copy
import io
from typing import Any

import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch.nn import Parameter

import subgrad_fast as sf
from subgrad_fast.optim import SGD
from tests.cases import RULE
from tests.optim.torch_twins import (
    TorchSteps,
    assert_same,
    give_gradients,
    parameters,
    snapshot,
    strided,
    train,
)

pytestmark = pytest.mark.torch

SHAPES = [(), (7,), (33,), (3, 5), (4097,)]


def twins(dtype: torch.dtype = torch.float32) -> tuple[list[Parameter], list[Parameter]]:
    torch.manual_seed(0)
    ours = parameters(*SHAPES, dtype=dtype)
    return ours, copy.deepcopy(ours)


def step_both(ours: Any, theirs: Any, a: list[Parameter], b: list[Parameter], lam: float) -> None:
    """One step of ours with l1, and one of torch's with the shrinkage after it."""
    give_gradients(a)
    for p, q in zip(a, b, strict=True):
        q.grad = p.grad.clone()
    ours.step()
    theirs.step()
    with torch.no_grad():
        for q in b:
            q.sub_(q.clamp(-lam, lam))


@pytest.mark.parametrize(
    "flags", [{}, {"foreach": True}, {"foreach": False}, {"fused": False}], ids=str
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_it_is_torchs_step_and_then_the_shrinkage(
    flags: dict[str, Any], dtype: torch.dtype
) -> None:
    a, b = twins(dtype)
    ours, theirs = SGD(a, **RULE, **flags, l1=2.0), torch.optim.SGD(b, **RULE, foreach=False)
    with TorchSteps() as steps:
        for _ in range(4):
            step_both(ours, theirs, a, b, 0.1 * 2.0)
            assert_same(snapshot(a), snapshot(b))
    assert bool(steps.kwargs) == bool(flags)
    zeros = sum(int((p == 0).sum()) for p in a)
    assert 0 < zeros < sum(p.numel() for p in a)


def test_without_l1_nothing_differs_from_torch() -> None:
    optimizer, torchs = SGD(parameters((3,))), torch.optim.SGD(parameters((3,)))
    assert optimizer.state_dict() == torchs.state_dict()
    assert repr(optimizer) == repr(torchs)


def test_param_groups_have_their_own() -> None:
    a, b, c = parameters((50,), (50,), (50,))
    optimizer = SGD([{"params": [a]}, {"params": [b], "l1": 100.0}], lr=0.1)
    train(optimizer, [a, b], 1)
    assert not b.any()
    assert a.all()
    optimizer.param_groups[0]["l1"] = torch.tensor(100.0)
    optimizer.add_param_group({"params": [c]})
    train(optimizer, [a, b, c], 1)
    assert not a.any()
    assert c.all()
    optimizer.param_groups[1]["l1"] = 0.0
    train(optimizer, [a, b, c], 1)
    assert b.all()


@pytest.mark.parametrize("flags", [{}, {"foreach": True}], ids=str)
@pytest.mark.parametrize("value", [-0.1, float("nan")])
def test_a_negative_l1_is_refused(flags: dict[str, Any], value: float) -> None:
    with pytest.raises(ValueError, match="l1: expected a number >= 0"):
        SGD(parameters((3,)), l1=value)
    with pytest.raises(ValueError, match="l1: expected a number >= 0"):
        SGD([{"params": parameters((3,)), "l1": value}])
    params = parameters((3,), (4,))
    optimizer = SGD([{"params": params[:1]}, {"params": params[1:]}], lr=0.1, **flags)
    optimizer.param_groups[1]["l1"] = value
    give_gradients(params)
    before = snapshot(params)
    with pytest.raises(ValueError, match=r"l1.*: expected a number >= 0"):
        optimizer.step()
    assert_same(snapshot(params), before)


# --- what torch steps ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_low_precision_in_torchs_code_is_shrunk_by_the_kernel(dtype: torch.dtype) -> None:
    p = Parameter(torch.randn(100, dtype=dtype))
    q = p.detach().clone()
    p.grad = torch.zeros_like(p)
    SGD([p], lr=0.1, l1=1.7, foreach=True).step()
    sf.soft_threshold_(q, 0.1 * 1.7)
    assert_same(snapshot(p), q)


def test_row_sparse_gradients_shrink_the_rows_that_they_name() -> None:
    torch.manual_seed(0)
    table = torch.nn.Embedding(10, 4, sparse=True)
    want = table.weight.detach().clone()
    optimizer = SGD(table.parameters(), lr=0.1, l1=2.0)
    rows = torch.tensor([1, 3])
    table(rows).sum().backward()
    named = want[rows] - 0.1
    sf.soft_threshold_(named, 0.1 * 2.0)
    want[rows] = named
    optimizer.step()
    torch.testing.assert_close(table.weight.detach(), want)
    assert (table.weight[rows] == 0).any()


def test_complex_weights_shrink_in_modulus() -> None:
    p = Parameter(torch.tensor([3 + 4j, 0.03 + 0.04j, 0j], dtype=torch.complex64))
    p.grad = torch.zeros_like(p)
    SGD([p], lr=0.1, l1=10.0).step()
    torch.testing.assert_close(p.detach(), torch.tensor([2.4 + 3.2j, 0j, 0j]))


def test_differentiable() -> None:
    start = torch.tensor([1.0, -2.0, 0.1], requires_grad=True)
    optimizer = SGD([start.clone().detach().requires_grad_()], 0.1, differentiable=True, l1=5.0)
    p = optimizer.param_groups[0]["params"][0] = start.clone()
    p.retain_grad()
    p.grad = torch.zeros(3)
    optimizer.step()
    p.sum().backward()
    assert p.tolist() == [0.5, -1.5, 0.0]
    assert start.grad is not None
    assert start.grad.tolist() == [1.0, 1.0, 0.0]


@pytest.mark.filterwarnings("error")
def test_numbers_that_want_a_gradient() -> None:
    for name in ("lr", "l1"):
        p = Parameter(torch.tensor([1.0, -2.0, 0.1]))
        p.grad = torch.zeros(3)
        kwargs: dict[str, Any] = {"lr": 0.5, "l1": 0.5}
        kwargs[name] = torch.tensor(0.5, requires_grad=True)
        SGD([p], **kwargs).step()
        assert p.tolist() == [0.75, -1.75, 0.0]


def test_an_infinite_rate_does_what_the_fused_step_does() -> None:
    results = []
    for flags in ({}, {"foreach": False}):
        p = Parameter(torch.tensor([1.0, -2.0, 0.0]))
        p.grad = torch.tensor([1.0, 1.0, 0.0])
        SGD([p], lr=float("inf"), l1=1.0, **flags).step()
        results.append(p.detach())
    assert_same(results[0], results[1])


def test_subclasses_and_shared_memory() -> None:
    class Tagged(torch.Tensor):
        """A subclass that does nothing of its own."""

    p = torch.ones(4).as_subclass(Tagged).requires_grad_()
    memory = torch.ones(8)
    halves = [Parameter(memory[:6]), Parameter(memory[6:]), Parameter(memory[5:])]
    for params in ([p], halves):
        for q in params:
            q.grad = torch.zeros_like(q)
        SGD(params, lr=0.1, l1=100.0).step()
        assert all(not q.any() for q in params)


# --- state --------------------------------------------------------------------------------------


def test_a_state_of_torchs_leaves_l1_as_it_is() -> None:
    a, b = twins()
    ours, theirs = SGD(a, **RULE, l1=2.0), torch.optim.SGD(b, **RULE)
    train(theirs, b)
    saved = theirs.state_dict()
    ours.load_state_dict(saved)
    assert ours.param_groups[0]["l1"] == 2.0
    train(ours, a, 1)
    assert any((p == 0).any() for p in a)


def test_a_state_of_ours_loads_into_torchs_and_back() -> None:
    a, b = twins()
    ours, theirs = SGD(a, **RULE, l1=2.0), torch.optim.SGD(b, **RULE)
    train(ours, a)
    theirs.load_state_dict(ours.state_dict())
    train(theirs, b, 1)
    other = SGD(parameters(*SHAPES), **RULE)
    other.load_state_dict(theirs.state_dict())
    assert other.param_groups[0]["l1"] == 2.0  # as lr would be


def test_pickles_and_copies_go_on_with_the_same_bits() -> None:
    a, _ = twins()
    optimizer = SGD(a, **RULE, l1=2.0)
    train(optimizer, a)
    buffer = io.BytesIO()
    torch.save(optimizer, buffer)
    buffer.seek(0)
    results = []
    for other in (copy.deepcopy(optimizer), torch.load(buffer, weights_only=False), optimizer):
        params = other.param_groups[0]["params"]
        torch.manual_seed(1)
        train(other, params)
        results.append(snapshot(params))
    assert_same(results[0], results[2])
    assert_same(results[1], results[2])


# --- the functions, on tensors ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["plain", "channels last", "transposed", "sliced"])
@pytest.mark.parametrize(
    "change",
    [
        lambda x: sf.soft_threshold_(x, 0.4),
        lambda x: sf.group_soft_threshold_(x, 5.0),
        lambda x: sf.hard_threshold_(x, density=0.3),
        lambda x: sf.n_m_(x, 1, 4),
        lambda x: sf.apply_mask_(x, [a > 0 for a in x] if isinstance(x, list) else x > 0),
    ],
    ids=["soft", "group", "hard", "1:4", "mask"],
)
def test_tensors_in_every_order(change: Any, kind: str, dtype: torch.dtype) -> None:
    x = strided(kind, (6, 4, 5, 8), dtype).requires_grad_()
    want = x.detach().float().contiguous().numpy().copy()
    if dtype == torch.bfloat16:
        ml_dtypes = pytest.importorskip("ml_dtypes")
        want = want.astype(ml_dtypes.bfloat16)
    version = x._version
    change([x, Parameter(torch.ones(2, 4))])
    change(want)
    assert x._version > version
    assert_same(x.detach().float().contiguous(), torch.from_numpy(want.astype("float32")))


# --- masks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("cls", [SGD, torch.optim.SGD])
def test_a_mask_holds_after_every_step(cls: Any, nesterov: bool) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 1))
    params = [*model.parameters(), Parameter(torch.ones(3))]
    sf.hard_threshold_(params, density=0.1)
    optimizer = cls(params, lr=0.05, momentum=0.9, nesterov=nesterov, weight_decay=0.01)
    mask = sf.Mask(params)
    zeros = [p.detach() == 0 for p in params]
    handle = mask.attach(optimizer)
    x = torch.randn(16, 20)
    for step in range(20):
        if step == 10:
            handle.remove()
        optimizer.zero_grad()
        model(x).square().sum().backward()
        params[-1].grad = torch.ones(3) if step > 3 else None
        versions = [p._version for p in params]
        optimizer.step()
        assert all(p._version > v for p, v in zip(params[:-1], versions, strict=False))
        outside = [bool(p[z].any()) for p, z in zip(params, zeros, strict=True)]
        momenta = [
            bool(optimizer.state[p]["momentum_buffer"][z].any())
            for p, z in zip(params[:-1], zeros, strict=False)
        ]
        if step < 10:
            assert not any(outside)
            assert not any(momenta)
            assert not any(torch.signbit(p[z]).any() for p, z in zip(params, zeros, strict=True))
    assert any(outside)  # the control: removed, it no longer holds
    assert any(momenta)


def test_torch_masks_are_tensors_and_can_be_saved() -> None:
    p = Parameter(torch.tensor([[1.0, 0.0], [0.0, 2.0]]).t())
    mask = sf.Mask([p])
    assert mask.masks[0].dtype == torch.bool
    buffer = io.BytesIO()
    torch.save(mask.state_dict(), buffer)
    buffer.seek(0)
    with torch.no_grad():
        p.fill_(3.0)
    other = sf.Mask([p])
    other.load_state_dict(torch.load(buffer))
    assert p.tolist() == [[3.0, 0.0], [0.0, 3.0]]
    assert other.density == 0.5
