"""optim.SGD that averages its weights, beside torch.optim.swa_utils.AveragedModel."""

# ruff: noqa: E402
from __future__ import annotations

import copy
import io
from typing import Any

import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from subgrad_fast.optim import SGD
from tests.optim.torch_twins import assert_same, parameters, snapshot

pytestmark = pytest.mark.torch

TERMS = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}


def network(dtype: torch.dtype = torch.float32, norm: bool = False) -> nn.Module:
    torch.manual_seed(0)
    middle = nn.BatchNorm1d(20) if norm else nn.Tanh()
    return nn.Sequential(nn.Linear(10, 20), middle, nn.Linear(20, 3)).to(dtype)


def train(model: nn.Module, optimizer: Any, seed: int, averaged: Any = None) -> None:
    torch.manual_seed(seed)
    dtype = next(model.parameters()).dtype
    for _ in range(5):
        optimizer.zero_grad()
        (model(torch.randn(8, 10, dtype=dtype)) ** 2).sum().backward()
        optimizer.step()
        if averaged is not None:
            averaged.update_parameters(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("decay", [0.9, 0.999, 0.3, 0.0, 1.0])
def test_the_bits_of_averaged_model(dtype: torch.dtype, decay: float) -> None:
    ours, theirs = network(dtype), network(dtype)
    optimizer = SGD(ours.parameters(), ema_decay=decay, **TERMS)
    averaged = AveragedModel(theirs, multi_avg_fn=get_ema_multi_avg_fn(decay))
    train(ours, optimizer, 1)
    train(theirs, torch.optim.SGD(theirs.parameters(), foreach=False, **TERMS), 1, averaged)
    saved = optimizer.ema_state_dict(ours)
    assert_same(snapshot(saved), snapshot(dict(averaged.module.state_dict())))


def test_crossing_to_averaged_model_and_back() -> None:
    ours, theirs = network(), network()
    optimizer = SGD(ours.parameters(), ema_decay=0.9, **TERMS)
    torchs = torch.optim.SGD(theirs.parameters(), foreach=False, **TERMS)
    averaged = AveragedModel(theirs, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    train(ours, optimizer, 1)
    train(theirs, torchs, 1)
    # Ours goes on as torch's, and torch's as ours.
    averaged.module.load_state_dict(optimizer.ema_state_dict(ours))
    averaged.n_averaged.fill_(5)
    train(theirs, torchs, 2, averaged)
    other = SGD(ours.parameters(), ema_decay=0.9, **TERMS)
    other.load_state_dict(optimizer.state_dict())
    train(ours, other, 2)
    want = snapshot(dict(averaged.module.state_dict()))
    assert_same(snapshot(other.ema_state_dict(ours)), want)
    fresh = SGD(ours.parameters(), ema_decay=0.9, **TERMS)
    fresh.load_ema_state_dict(ours, dict(averaged.module.state_dict()))
    assert_same(snapshot(fresh.ema_state_dict(ours)), want)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_averages_of_16_bit_weights(dtype: torch.dtype) -> None:
    ours, plain = network(dtype), network(dtype)
    optimizer = SGD(ours.parameters(), ema_decay=0.9, **TERMS)
    train(ours, optimizer, 1)
    train(plain, SGD(plain.parameters(), **TERMS), 1)
    assert_same(snapshot(list(ours.parameters())), snapshot(list(plain.parameters())))
    state = copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(state)
    for i, p in enumerate(ours.parameters()):
        average = optimizer.state[p]["ema"]
        assert average.dtype == torch.float32
        assert torch.equal(average, state["state"][i]["ema"])
        assert not torch.equal(average, average.to(dtype).float())  # more than 16 bits of it


def test_swapped_in_and_back() -> None:
    model = network()
    optimizer = SGD(model.parameters(), ema_decay=0.9, **TERMS)
    train(model, optimizer, 1)
    before = snapshot(dict(model.state_dict()))
    addresses = [p.data_ptr() for p in model.parameters()]
    averages = snapshot(optimizer.ema_state_dict(model))
    with optimizer.averaged():
        assert_same(snapshot(dict(model.state_dict())), averages)
        with pytest.raises(RuntimeError, match=r"^step: the parameters hold their averages"):
            optimizer.step()
        with pytest.raises(RuntimeError, match=r"^averaged: "), optimizer.averaged():
            pass
    assert_same(snapshot(dict(model.state_dict())), before)
    with pytest.raises(KeyError), optimizer.averaged():
        raise KeyError
    assert_same(snapshot(dict(model.state_dict())), before)
    assert [p.data_ptr() for p in model.parameters()] == addresses
    optimizer.step()  # and goes on
    assert not torch.equal(next(model.parameters()), before["0.weight"])


@pytest.mark.parametrize("average", [False, True])
def test_buffers(average: bool) -> None:
    ours, theirs = network(norm=True), network(norm=True)
    optimizer = SGD(ours.parameters(), ema_decay=0.9, **TERMS)
    torchs = torch.optim.SGD(theirs.parameters(), foreach=False, **TERMS)
    averaged = AveragedModel(theirs, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=average)
    for i in range(4):
        for model, one in ((ours, optimizer), (theirs, torchs)):
            torch.manual_seed(i)
            one.zero_grad()
            (model(torch.randn(8, 10)) ** 2).sum().backward()
            one.step()
        optimizer.ema_buffers(ours, average=average)
        averaged.update_parameters(theirs)
        got, want = optimizer.ema_state_dict(ours), averaged.module.state_dict()
        for name, tensor in want.items():
            if "num_batches" not in name:  # torch averages integers too, and rounds them
                assert torch.equal(got[name], tensor), name
    saved = copy.deepcopy(optimizer.state_dict())
    other = SGD(ours.parameters(), ema_decay=0.9, **TERMS)
    other.load_state_dict(saved)
    assert_same(snapshot(other.ema_state_dict(ours)), snapshot(optimizer.ema_state_dict(ours)))


def test_a_schedule_counts_steps_and_survives() -> None:
    model = network()
    optimizer = SGD(model.parameters(), ema_decay=warm_up, **TERMS)
    train(model, optimizer, 1)
    assert optimizer.param_groups[0]["ema_steps"] == 5
    assert optimizer.param_groups[0]["ema_decay"] == warm_up(4)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    other = SGD(model.parameters(), ema_decay=warm_up, **TERMS)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    copied = copy.deepcopy(optimizer)
    for one in (other, copied):
        one.param_groups[0]["params"][0].grad = torch.ones(20, 10)
        one.step()
        assert one.param_groups[0]["ema_decay"] == warm_up(5)


def warm_up(steps: int) -> float:
    return min(0.99, (1 + steps) / (10 + steps))


def test_groups_with_and_without() -> None:
    a, b = parameters((5,), (6,))
    optimizer = SGD([{"params": [a], "ema_decay": 0.5}, {"params": [b]}], lr=0.1)
    for p in (a, b):
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert "ema" in optimizer.state[a] and "ema" not in optimizer.state.get(b, {})
    optimizer.param_groups[1]["ema_decay"] = 0.5  # from now on
    optimizer.step()
    assert torch.equal(optimizer.state[b]["ema"], b)
    optimizer.param_groups[0]["ema_decay"] = None
    kept = optimizer.state[a]["ema"].clone()
    optimizer.step()
    assert torch.equal(optimizer.state[a]["ema"], kept)


def test_an_average_replaced_in_the_state_is_seen() -> None:
    (p,) = params = parameters((5,))
    optimizer = SGD(params, lr=0.1, ema_decay=0.5)
    for _ in range(3):
        p.grad = torch.ones_like(p)
        optimizer.step()
    optimizer.state[p]["ema"] = torch.zeros(5)
    optimizer.step()
    assert torch.equal(optimizer.state[p]["ema"], p.detach() * 0.5)


def test_a_parameter_without_a_gradient_has_no_average() -> None:
    a, b = params = parameters((5,), (6,))
    optimizer = SGD(params, lr=0.1, ema_decay=0.5)
    a.grad = torch.ones_like(a)
    optimizer.step()
    assert "ema" not in optimizer.state.get(b, {})
    b.grad = torch.ones_like(b)
    optimizer.step()
    assert torch.equal(optimizer.state[b]["ema"], b)


def test_wrong_averages() -> None:
    model = network()
    optimizer = SGD(model.parameters(), ema_decay=0.9, **TERMS)
    state = dict(model.state_dict())
    state["0.weight"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"^state\['0.weight'\]: expected shape"):
        optimizer.load_ema_state_dict(model, state)
    assert optimizer.state_dict()["state"] == {}
    with pytest.raises(ValueError, match=r"^ema_buffers: "):
        SGD(model.parameters(), lr=0.1).ema_buffers(model)
