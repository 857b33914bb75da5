"""optim.SGD's state: checkpoints across to torch and back, resuming, copies."""

# ruff: noqa: E402
from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch.nn import Parameter

from subgrad_fast.optim import SGD
from tests.optim.torch_twins import assert_same, assert_twins, parameters, snapshot, train

pytestmark = pytest.mark.torch

KWARGS: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}


def through_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def run(writer: Callable[[list[Parameter]], Any], reader: Callable[[list[Parameter]], Any]) -> Any:
    """Three steps with one optimizer, its checkpoint through a file, three with another one."""
    torch.manual_seed(3)
    params = parameters((40,), (3, 5), (), (0,))
    first = writer(params)
    train(first, params)
    second = reader(params)
    second.load_state_dict(through_file(first.state_dict()))
    train(second, params)
    momenta = [second.state[p]["momentum_buffer"] for p in params]
    return snapshot([params, momenta])


# --- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", ["ours", "default", "fused=False", "foreach=True", "fused=True"])
@pytest.mark.parametrize("reader", ["ours", "default"])
def test_checkpoints_cross_both_ways(writer: str, reader: str) -> None:
    flags = {} if "=" not in writer else {writer.split("=", maxsplit=1)[0]: writer.endswith("True")}

    def make(name: str, params: list[Parameter]) -> Any:
        return SGD(params, **KWARGS) if name == "ours" else torch.optim.SGD(params, **KWARGS)

    def write(params: list[Parameter]) -> Any:
        return torch.optim.SGD(params, **KWARGS, **flags) if flags else make(writer, params)

    def read_in_torch(params: list[Parameter]) -> Any:
        optimizer = torch.optim.SGD(params, **KWARGS)
        # Without this a fused checkpoint makes torch fused too.
        optimizer.register_load_state_dict_post_hook(
            lambda o: [group.update(fused=None, foreach=None) for group in o.param_groups]
        )
        return optimizer

    want = run(write, read_in_torch)
    got = run(
        write, lambda params: SGD(params, **KWARGS) if reader == "ours" else read_in_torch(params)
    )
    assert_same(got, want)


def test_state_dicts_are_equal() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((40,), (3, 5), (0,))
        optimizer = cls([{"params": params[:1]}, {"params": params[1:], "lr": 1.0}], **KWARGS)
        yield optimizer.state_dict()
        train(optimizer, params)
        yield optimizer.state_dict()

    assert_twins(scenario)


def test_an_old_checkpoint_with_none_for_momentum() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((5,), (6,))
        optimizer = cls(params, **KWARGS)
        state = optimizer.state_dict()
        state["state"] = {i: {"momentum_buffer": None} for i in range(2)} | {"extra": 1}
        for name in ("maximize", "foreach", "differentiable", "fused"):
            state["param_groups"][0].pop(name)
        optimizer.load_state_dict(state)
        train(optimizer, params)
        yield [optimizer.state[p] for p in params]
        yield params

    assert_twins(scenario)


def test_resuming_does_not_change_a_bit() -> None:
    def whole(steps: int, resume_at: int) -> list[Any]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 9), torch.nn.Tanh(), torch.nn.Linear(9, 1))
        optimizer = SGD(model.parameters(), **KWARGS)
        for i in range(steps):
            if i == resume_at:
                saved = through_file([model.state_dict(), optimizer.state_dict()])
                model = copy.deepcopy(model)
                model.load_state_dict(saved[0])
                optimizer = SGD(model.parameters(), lr=99.0)
                optimizer.load_state_dict(saved[1])
            optimizer.zero_grad()
            model(torch.randn(3, 4)).pow(2).sum().backward()
            optimizer.step()
        return snapshot(optimizer)

    straight = whole(6, -1)
    for at in range(6):
        assert_same(whole(6, at), straight)


def test_loading_in_mid_training_goes_back() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((40,), (7,))
        optimizer = cls(params, **KWARGS)
        train(optimizer, params)
        saved = copy.deepcopy(optimizer.state_dict())
        train(optimizer, params)
        optimizer.load_state_dict(saved)
        yield optimizer
        train(optimizer, params)
        yield optimizer

    assert_twins(scenario)


# --- copies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("how", ["pickle", "deepcopy", "copy"])
def test_copies_go_on_by_themselves(how: str, steps: int) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        model = torch.nn.Linear(5, 3)
        optimizer = cls(model.parameters(), **KWARGS)
        train(optimizer, list(model.parameters()), steps)
        pair = (model, optimizer)
        if how == "pickle":
            other = pickle.loads(pickle.dumps(pair))
        else:
            other = copy.deepcopy(pair) if how == "deepcopy" else (model, copy.copy(optimizer))
        assert type(other[1]) is cls
        for m, o in (other, pair, other):
            train(o, list(m.parameters()), 2)
            yield optimizer, other[1]

    assert_twins(scenario)


def test_a_copy_of_the_optimizer_alone_has_parameters_of_its_own() -> None:
    params = parameters((9,))
    optimizer = SGD(params, **KWARGS)
    train(optimizer, params)
    twin = copy.deepcopy(optimizer)
    before = snapshot(params)
    train(twin, twin.param_groups[0]["params"])
    assert_same(snapshot(params), before)
