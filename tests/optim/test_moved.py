"""optim.SGD where memory moves beneath tensors between two steps, and where others share it."""

# ruff: noqa: E402
from __future__ import annotations

import copy
import pickle
from collections import UserDict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

import torch.multiprocessing as mp
from torch.nn import Parameter

from subgrad_fast.optim import SGD
from tests.optim.torch_twins import TorchSteps, assert_twins, parameters, train

pytestmark = pytest.mark.torch

KWARGS: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}


def momenta(optimizer: Any, *params: Any) -> list[Any]:
    return [optimizer.state[p]["momentum_buffer"] for p in params]


def exchange_data(o: Any, a: Any, b: Any) -> None:
    m, n = momenta(o, a, b)
    m.data, n.data = n.data, m.data


def exchange_by_set(o: Any, a: Any, b: Any) -> None:
    m, n = momenta(o, a, b)
    x, y = m.detach(), n.detach()
    m.set_(y)
    n.set_(x)


def transpose(o: Any, a: Any, _: Any) -> None:
    momenta(o, a)[0].transpose_(0, 1)


def exchange_params(_: Any, a: Any, b: Any) -> None:
    a.data, b.data = b.data, a.data


def into_one(_: Any, a: Any, b: Any) -> None:
    flat = torch.cat([a.data.reshape(-1), b.data.reshape(-1)])
    a.data, b.data = flat[:16].view(4, 4), flat[16:].view(4, 4)


def onto_another(_: Any, a: Any, b: Any) -> None:
    a.data = b.data


MOVES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "momentum exchanged": exchange_data,
    "momentum set": exchange_by_set,
    "momentum swapped": lambda o, a, b: torch.utils.swap_tensors(*momenta(o, a, b)),
    "momentum transposed in place": transpose,
    "momentum shared with processes": lambda o, a, _: momenta(o, a)[0].share_memory_(),
    "momentum cloned": lambda o, a, _: o.state[a].update(momentum_buffer=momenta(o, a)[0].clone()),
    "slots exchanged": lambda o, a, b: (
        o.state[a].update(momentum_buffer=momenta(o, b)[0], old=momenta(o, a)[0]),
        o.state[b].update(momentum_buffer=o.state[a].pop("old")),
    ),
    "slots of another kind": lambda o, a, _: o.state.update({a: UserDict(o.state[a])}),
    "parameters exchanged": exchange_params,
    "parameters in one memory": into_one,
    "one parameter on another": onto_another,
    "one parameter cloned": lambda _, a, __: setattr(a, "data", a.data.clone()),
    "params a tuple": lambda o, *_: o.param_groups[0].update(
        params=tuple(o.param_groups[0]["params"])
    ),
    "param_groups a tuple": lambda o, *_: setattr(o, "param_groups", tuple(o.param_groups)),
}
TORCHS = {
    "slots of another kind",
    "one parameter on another",
    "params a tuple",
    "param_groups a tuple",
}


@pytest.mark.parametrize("ours_from", ["the start", "a state_dict"])
@pytest.mark.parametrize("move", MOVES)
def test_what_moves_is_followed(move: str, ours_from: str) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((4, 4), (4, 4), (4, 4), (3,))
        optimizer = cls(params, **KWARGS)
        train(optimizer, params)
        if ours_from == "a state_dict":
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            train(optimizer, params)
        for _ in range(3):
            with torch.no_grad():
                MOVES[move](optimizer, params[1], params[2])
            train(optimizer, params, 1)
            yield params, [optimizer.state[p]["momentum_buffer"] for p in params]
        train(optimizer, params)
        yield params

    assert_twins(scenario, routed=move in TORCHS)


def test_a_moved_tensor_mends_its_entry_and_makes_no_new_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = parameters((4, 4), (4, 4))
    optimizer = SGD(params, **KWARGS)
    train(optimizer, params)
    plan = optimizer._plan
    assert plan is not None
    params[0].data = params[0].data.clone()
    exchange_data(optimizer, *params)
    optimizer.state[params[1]]["momentum_buffer"] = torch.zeros(4, 4)
    train(optimizer, params)
    assert optimizer._plan is plan
    params[0].data = torch.zeros(4, 4, dtype=torch.float64)
    train(optimizer, params, 1)
    assert optimizer._plan is not plan


def test_a_plan_for_first_steps_takes_one() -> None:
    params = parameters((3,))
    optimizer = SGD(params, **KWARGS)
    params[0].grad = torch.ones(3)
    plan, buffers, _ = optimizer._make_plan(None)
    assert buffers
    assert not plan.step(optimizer.param_groups, optimizer.state).stale
    assert plan.step(optimizer.param_groups, optimizer.state).stale


@pytest.mark.parametrize("odd", ["sparse", "subclass", "negated"])
def test_momentum_after_the_state_was_cleared(odd: str) -> None:
    class Tagged(torch.Tensor):
        pass

    def scenario(cls: type) -> Iterator[Any]:
        p = Parameter(torch.zeros(3))
        optimizer = cls([p], lr=1.0, momentum=0.5)
        ones = torch.ones(3)
        p.grad = {
            "sparse": ones.to_sparse(),
            "subclass": ones.as_subclass(Tagged),
            "negated": torch._neg_view(ones),
        }[odd]
        optimizer.step()
        optimizer.state.clear()
        for _ in range(3):
            p.grad = torch.ones(3)
            optimizer.step()
            yield p, optimizer.state[p]["momentum_buffer"]

    assert_twins(scenario, routed=True)


# --- memory that is shared -----------------------------------------------------------------------


def _work(optimizer: Any, p: Any) -> None:
    p.grad = torch.ones(3)
    optimizer.step()


@pytest.mark.parametrize("cls", [torch.optim.SGD, SGD])
def test_shared_momentum_stays_shared_in_a_worker(cls: type) -> None:
    p = torch.zeros(3).share_memory_().requires_grad_()
    optimizer: Any = cls([p], lr=1.0, momentum=0.5)
    optimizer.state[p]["momentum_buffer"] = torch.zeros(3).share_memory_()
    child = mp.get_context("spawn").Process(target=_work, args=(optimizer, p))
    child.start()
    child.join()
    assert optimizer.state[p]["momentum_buffer"].tolist() == [1.0] * 3
    assert p.tolist() == [-1.0] * 3


def test_a_copy_leaves_the_buffers_where_they_are() -> None:
    params = parameters((3,))
    optimizer = SGD(params, lr=1.0, momentum=0.5)
    train(optimizer, params)
    held = optimizer.state[params[0]]["momentum_buffer"].share_memory_()
    twin = copy.copy(optimizer)
    assert optimizer.state[params[0]]["momentum_buffer"] is held
    assert held.is_shared()
    assert twin.state[params[0]]["momentum_buffer"] is held


@pytest.mark.parametrize("how", ["pickle", "load"])
def test_a_plan_over_memory_of_torchs_is_kept(how: str) -> None:
    params = parameters((40,), (3, 5))
    optimizer = SGD(params, **KWARGS)
    train(optimizer, params)
    if how == "pickle":
        params, optimizer = pickle.loads(pickle.dumps((params, optimizer)))
    else:
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(optimizer, params, 2)
    plan = optimizer._plan
    with TorchSteps() as steps:
        train(optimizer, params, 2)
    assert plan is not None and optimizer._plan is plan
    assert not steps.params
