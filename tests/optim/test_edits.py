"""optim.SGD after users changed its state, parameters or groups between two steps."""

# ruff: noqa: E402
from __future__ import annotations

import copy
import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch.nn import Parameter

from subgrad_fast.optim import SGD
from tests.optim.torch_twins import (
    assert_same,
    assert_twins,
    give_gradients,
    parameters,
    snapshot,
    train,
)

pytestmark = pytest.mark.torch

KWARGS: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}


# --- state edited by the user --------------------------------------------------------------------


def replace(o: Any, p: Any) -> None:
    o.state[p]["momentum_buffer"] = torch.full_like(p.detach(), 2.0)


def share(o: Any, p: Any) -> None:
    other = o.param_groups[0]["params"][0]
    o.state[p]["momentum_buffer"] = o.state[other]["momentum_buffer"] = torch.ones(4, 5)


def make_strided(o: Any, p: Any) -> None:
    o.state[p]["momentum_buffer"] = o.state[p]["momentum_buffer"].t().contiguous().t()


STATE_EDITS: dict[str, Callable[[Any, Any], Any]] = {
    "replaced": replace,
    "zeroed": lambda o, p: o.state[p]["momentum_buffer"].zero_(),
    "scaled": lambda o, p: o.state[p]["momentum_buffer"].mul_(0.5),
    "entry set": lambda o, p: o.state[p]["momentum_buffer"].__setitem__((0, 0), 7.0),
    "buffer deleted": lambda o, p: o.state[p].pop("momentum_buffer"),
    "buffer none": lambda o, p: o.state[p].update(momentum_buffer=None),
    "strided": make_strided,
    "shared": share,
    "entry deleted": lambda o, p: o.state.pop(p),
    "entry replaced": lambda o, p: o.state.update({p: {"momentum_buffer": torch.ones(4, 5)}}),
    "cleared": lambda o, _: o.state.clear(),
    "state replaced": lambda o, _: setattr(o, "state", defaultdict(dict)),
    "keys added": lambda o, p: o.state[p].update(mine=1) or o.state.update(other={"a": 1}),
    "order changed": lambda o, p: o.state.update({p: o.state.pop(p)}),
    "nothing": lambda *_: None,
}


@pytest.mark.parametrize("edit", STATE_EDITS)
def test_state_edited_between_steps(edit: str) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((4, 5), (4, 5), (3,))
        optimizer = cls(params, **KWARGS)
        train(optimizer, params)
        STATE_EDITS[edit](optimizer, params[1])
        for _ in range(3):
            train(optimizer, params, 1)
            yield params, [optimizer.state[p]["momentum_buffer"] for p in params]

    assert_twins(scenario, routed=edit == "shared")


def test_a_state_that_is_a_plain_dict() -> None:
    params = parameters((5,))
    optimizer = SGD(params, **KWARGS)
    optimizer.state = {}
    train(optimizer, params)
    assert optimizer.state.keys() == {params[0]}


def test_state_from_outside_that_stays_in_use() -> None:
    """The user's own tensor is the buffer, not a copy of it."""
    params = parameters((5,))
    optimizer = SGD(params, lr=0.1, momentum=0.5)
    mine = torch.ones(5)
    optimizer.state[params[0]]["momentum_buffer"] = mine
    params[0].grad = torch.zeros(5)
    optimizer.step()
    optimizer.step()
    assert optimizer.state[params[0]]["momentum_buffer"] is mine
    assert (mine == 0.25).all()


def move_data(buffer: Any) -> None:
    buffer.data = torch.zeros(40)


def set_storage(buffer: Any) -> None:
    with torch.no_grad():
        buffer.set_(torch.zeros(40))


@pytest.mark.parametrize("move", [move_data, set_storage])
def test_a_buffer_given_other_memory(move: Callable[[Any], None]) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((40,))
        optimizer = cls(params, **KWARGS)
        train(optimizer, params)
        move(optimizer.state[params[0]]["momentum_buffer"])
        train(optimizer, params)
        yield optimizer

    assert_twins(scenario)


MOVED = """
import sys, torch
from multiprocessing.reduction import ForkingPickler
import torch.multiprocessing
from subgrad_fast.optim import SGD

p = torch.nn.Parameter(torch.ones(1000))
p.grad = torch.ones(1000)
optimizer = SGD([p], lr=0.1, momentum=0.9)
for _ in range(3):
    optimizer.step()
buffer = optimizer.state[p]["momentum_buffer"]
if sys.argv[1] == "sent":  # what Queue.put does: the memory moves to where both processes see it
    ForkingPickler.dumps(optimizer.state_dict())
elif sys.argv[1] == "shared":
    buffer.share_memory_()
filler = [torch.full((1000,), 1e30) for _ in range(100)]
for _ in range(3):
    optimizer.step()
assert (buffer == buffer[0]).all() and abs(buffer[0].item() - 4.68559) < 1e-5, buffer
assert (p == p[0]).all() and all((f == 1e30).all() for f in filler)
"""


@pytest.mark.parametrize(
    "how",
    ["untouched", "sent", "shared"],
)
def test_a_buffer_whose_memory_moved(how: str) -> None:
    subprocess.run(
        [sys.executable, "-c", MOVED, how],
        check=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stderr=subprocess.DEVNULL,
    )


def test_a_buffer_cannot_be_resized_away() -> None:
    p = Parameter(torch.ones(10))
    optimizer = SGD([p], lr=0.1, momentum=0.9)
    p.grad = torch.ones(10)
    optimizer.step()
    with pytest.raises(RuntimeError, match="not resizable"):
        optimizer.state[p]["momentum_buffer"].resize_(10**6)


# --- parameters moved by the user ----------------------------------------------------------------


def shifted(p: Any) -> Any:
    return torch.randn(p.numel() + 1, dtype=p.dtype)[1:].view_as(p)


DATA_EDITS: dict[str, Callable[[Any], Any]] = {
    "other": torch.randn_like,
    "transposed": lambda p: p.data.t(),
    "strided": lambda _: torch.randn(5, 10)[:, ::2],
    "part of more": shifted,
    "shared": lambda p: p.data.share_memory_(),
}


@pytest.mark.parametrize("edit", DATA_EDITS)
def test_parameters_given_other_memory(edit: str) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((5, 5), (5, 5), (3,))
        optimizer = cls(params, **KWARGS)
        train(optimizer, params)
        old = params[1].data
        params[1].data = DATA_EDITS[edit](params[1])
        train(optimizer, params)
        yield optimizer, old
        params[1].grad = None
        train(optimizer, [params[0], params[2]])
        yield optimizer, old

    assert_twins(scenario)


def test_a_gradient_in_memory_that_a_parameter_had() -> None:
    """To the plan that is about to be found out of date, the two overlap."""

    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((5, 5), (5, 5), (3,))
        optimizer = cls(params, **KWARGS)
        train(optimizer, params)
        freed = params[1].data
        params[1].data = torch.randn_like(freed)
        give_gradients(params)
        params[0].grad = freed
        optimizer.step()
        yield optimizer

    assert_twins(scenario)


def test_parameters_that_swap_their_memory() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((5, 5), (5, 5))
        optimizer = cls(params, **KWARGS)
        train(optimizer, params)
        params[0].data, params[1].data = params[1].data, params[0].data
        train(optimizer, params)
        yield optimizer

    assert_twins(scenario)


def test_a_model_to_another_dtype_and_back() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        model = torch.nn.Linear(5, 7)
        optimizer = cls(model.parameters(), **KWARGS)
        for dtype in (torch.float32, torch.float64, torch.float32):
            model.to(dtype)
            model.zero_grad()
            train(optimizer, list(model.parameters()))
            yield optimizer

    # The float32 buffers of float64 parameters are rounded in between: torch's own code does those.
    assert_twins(scenario, routed=True)


def test_a_freed_parameter_raises() -> None:
    params = parameters((5,), (5,))
    optimizer = SGD(params, lr=0.1)
    train(optimizer, params)
    params[1].untyped_storage().resize_(0)
    before = snapshot(params[0])
    with pytest.raises(ValueError, match=r"params\[1\]: has no memory"):
        optimizer.step()
    assert_same(snapshot(params[0]), before)


# --- param_groups edited by the user -------------------------------------------------------------


def swap_items(o: Any) -> None:
    first, second = o.param_groups[0]["params"], o.param_groups[1]["params"]
    first[0], second[0] = second[0], first[0]


def rebuild_group(o: Any) -> None:
    o.param_groups[0] = dict(o.param_groups[0], lr=0.7)


def new_parameter(o: Any) -> None:
    o.param_groups[0]["params"][1] = Parameter(torch.ones(4))


GROUP_EDITS: dict[str, Callable[[Any], Any]] = {
    "list replaced": lambda o: o.param_groups[0].update(params=o.param_groups[0]["params"][:1]),
    "items swapped": swap_items,
    "item deleted": lambda o: o.param_groups[0]["params"].pop(0),
    "item appended": lambda o: o.param_groups[1]["params"].append(Parameter(torch.ones(4))),
    "item new": new_parameter,
    "group deleted": lambda o: o.param_groups.pop(0),
    "group replaced": rebuild_group,
    "groups reversed": lambda o: o.param_groups.reverse(),
    "list emptied": lambda o: o.param_groups[0]["params"].clear(),
    "tuple": lambda o: o.param_groups[0].update(params=tuple(o.param_groups[0]["params"])),
    "dict values": lambda o: o.param_groups[0].update(
        params=dict(enumerate(o.param_groups[0]["params"])).values()
    ),
}


@pytest.mark.parametrize("edit", GROUP_EDITS)
def test_groups_edited_between_steps(edit: str) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((4,), (5,), (3, 3))
        optimizer = cls([{"params": params[:2]}, {"params": params[2:], "lr": 0.01}], **KWARGS)
        train(optimizer, params)
        GROUP_EDITS[edit](optimizer)
        for _ in range(3):
            every = [p for group in optimizer.param_groups for p in group["params"]]
            train(optimizer, every, 1)
            yield params, every, [optimizer.state[p]["momentum_buffer"] for p in every]

    assert_twins(scenario, routed=edit in ("tuple", "dict values"))


# --- all of it, in any order --------------------------------------------------------------------


def random_edit(o: Any, rng: random.Random) -> None:
    group = rng.choice(o.param_groups)
    p = rng.choice([p for g in o.param_groups for p in g["params"]])
    match rng.randrange(12):
        case 0:
            group["momentum"] = rng.choice([0, 0.5, 0.9])
        case 1:
            group["weight_decay"] = rng.choice([0, 0.1])
        case 2:
            group["lr"] = rng.choice(
                [0.1, torch.tensor(0.3), torch.tensor(0.1, requires_grad=True)]
            )
        case 3:
            o.state.pop(p, None)
        case 4:
            o.state[p]["momentum_buffer"] = torch.randn_like(p.detach())
        case 5:
            p.data = torch.randn_like(p)
        case 6:
            p.data = p.data.t() if p.ndim == 2 else p.data.clone()
        case 7:
            o.load_state_dict(copy.deepcopy(o.state_dict()))
        case 8:
            new = Parameter(torch.randn(rng.choice([(1,), (5, 5), (0,), (100,)])))
            o.add_param_group({"params": [new], "nesterov": rng.random() < 0.5, "momentum": 0.3})
        case 9:
            first, second = rng.choice(o.param_groups), rng.choice(o.param_groups)
            first["params"][0], second["params"][0] = second["params"][0], first["params"][0]
        case 10:
            o.param_groups.reverse()
        case 11:
            o.zero_grad(set_to_none=rng.random() < 0.5)


def takes_sparse(group: dict[str, Any], state: dict[str, Any]) -> bool:
    """Whether torch can step a sparse gradient with these, now and with dense ones afterwards."""
    lr = group["lr"]
    learned = isinstance(lr, torch.Tensor) and lr.requires_grad
    plain = not group["weight_decay"] and not group["nesterov"] and not learned
    return plain and (not group["momentum"] or state.get("momentum_buffer") is not None)


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True to a scalar")
@pytest.mark.parametrize("seed", range(25))
def test_random_edits(seed: int) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        rng = random.Random(seed)
        params = parameters((5, 5), (33,), (), (3, 3))
        optimizer = cls([{"params": params[:2]}, {"params": params[2:]}], lr=0.1, momentum=0.9)
        for _ in range(40):
            for _ in range(rng.choice([0, 0, 1, 2])):
                random_edit(optimizer, rng)
            for group, p in [(g, p) for g in optimizer.param_groups for p in g["params"]]:
                kind = rng.choice(["dense", "dense", "none", "sparse", "same", "strided"])
                if kind == "none":
                    p.grad = None
                elif kind == "sparse" and takes_sparse(group, optimizer.state.get(p, {})):
                    p.grad = torch.randn(p.shape).to_sparse()
                elif kind == "strided" and p.ndim == 2:
                    p.grad = torch.randn(p.shape[::-1]).t()
                elif kind != "same" or p.grad is None or p.grad.is_sparse:
                    p.grad = torch.randn(p.shape)
            optimizer.step()
            yield [[p, optimizer.state.get(p)] for g in optimizer.param_groups for p in g["params"]]

    assert_twins(scenario, routed=None, seed=seed)
