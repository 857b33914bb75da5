"""Tensors whose storage is gone or was cut: each door refuses them."""

# ruff: noqa: E402
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

import subgrad_fast as sf
from subgrad_fast import _core, optim

pytestmark = pytest.mark.torch


@pytest.fixture(params=["exchange", "attributes"], autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both ways to a tensor: torch >= 2.10's exchange table, and what older versions offer."""
    old = _core.testing.use_exchange_api(request.param == "exchange")
    yield request.param
    _core.testing.use_exchange_api(old)


def freed_view(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Its address is not null: it is the offset into a storage that has been given back."""
    shape = shape or (4, 8)
    whole = torch.ones(8 + math.prod(shape), dtype=dtype)
    view = whole[8:].view(shape)
    whole.untyped_storage().resize_(0)
    return view


def threshold_step(*arrays: torch.Tensor) -> None:
    sf.threshold_step(*arrays, lr=0.1, threshold=0.5)


def step_with_a_gradient(gone: torch.Tensor) -> None:
    p = torch.nn.Parameter(torch.ones(4, 8))
    optimizer = optim.SGD([p], lr=0.1, momentum=0.9)
    p.grad = torch.ones(4, 8)
    for _ in range(3):
        optimizer.step()
    p.grad = gone
    optimizer.step()


def ones() -> torch.Tensor:
    return torch.ones(4, 8)


DOORS: dict[str, Callable[[torch.Tensor], object]] = {
    "params": lambda gone: sf.sgd_step(gone, ones(), lr=0.1),
    "grads": lambda gone: sf.sgd_step(ones(), gone, lr=0.1),
    "momentum_buffers": lambda gone: sf.sgd_step(ones(), ones(), gone, lr=0.1, momentum=0.9),
    "fused": lambda gone: sf.FusedSGD(gone, lr=0.1),
    "fused grads": lambda gone: sf.FusedSGD(ones(), lr=0.1)(grads=gone),
    "threshold params": lambda gone: threshold_step(gone, ones(), ones()),
    "threshold grads": lambda gone: threshold_step(ones(), gone, ones()),
    "residuals": lambda gone: threshold_step(ones(), ones(), gone),
    "rows": lambda gone: sf.row_step(gone, (np.array([1]), torch.ones(1, 8)), lr=0.1),
    "values": lambda gone: sf.row_step(ones(), (np.arange(4), gone), lr=0.1),
    "select": lambda gone: sf.select(gone, k=3),
    "kth": lambda gone: sf.kth_magnitude(gone, 3),
    "shrink": lambda gone: sf.soft_threshold_(gone, 0.1),
    "loader": lambda gone: next(iter(sf.BatchLoader(gone, [[1, 2]]))),
    "optimizer": step_with_a_gradient,
    "mask": lambda _: sf.apply_mask_(ones(), freed_view(4, 8, dtype=torch.bool)),
    "mask of a state": lambda _: sf.Mask(ones()).load_state_dict(
        {"masks": [freed_view(4, 8, dtype=torch.bool)]}
    ),
    "positions": lambda _: sf.Permutation(9).take(freed_view(2, dtype=torch.int64)),
    "weights": lambda _: sf.WeightedSampler(freed_view(4)),
    "out": lambda _: sf.choose(9, 2, out=freed_view(2, dtype=torch.int64)),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_view_of_freed_storage_is_refused(door: str) -> None:
    with pytest.raises(ValueError, match=r"no memory of its own|of a storage that has 0"):
        DOORS[door](freed_view())


def load(made: Any, **wrong: Any) -> None:
    made.load_state_dict({**made.state_dict(), **wrong})


def load_steps(steps: Any) -> None:
    optimizer = optim.ThresholdSGD([torch.nn.Parameter(ones())], lr=0.1, density=0.5)
    state = optimizer.state_dict()
    state["param_groups"][0]["steps"] = steps
    optimizer.load_state_dict(state)


def fused() -> sf.FusedSGD:
    return sf.FusedSGD(ones(), lr=0.1)


LABELS = np.arange(8) % 2
# Arguments that are words or numbers: a message that showed a tensor would read its memory.
WORDS: dict[str, Callable[[torch.Tensor], object]] = {
    "short": lambda gone: sf.GroupSampler(LABELS, 2, 2, short=gone),  # type: ignore[arg-type]
    "tail": lambda gone: sf.BatchSampler(8, 2, tail=gone),  # type: ignore[arg-type]
    "scope": lambda gone: sf.select(ones(), k=1, scope=gone),  # type: ignore[arg-type]
    "index_dtype": lambda gone: sf.select(ones(), k=1, index_dtype=gone),  # type: ignore[arg-type]
    "emit": lambda gone: sf.threshold_step(
        ones(), ones(), ones(), lr=0.1, threshold=0.5, emit=gone
    ),
    "momentum_dtype": lambda gone: sf.FusedSGD(ones(), lr=0.1, momentum_dtype=gone),  # type: ignore[arg-type]
    "first_step": lambda gone: load(fused(), first_step=gone),
    "steps": load_steps,
    "version": lambda gone: load(sf.BatchSampler(8, 2), version=gone),
    "epoch": lambda gone: sf.BatchSampler(8, 2).set_epoch(gone),  # type: ignore[arg-type]
    "integer": lambda _: sf.BatchSampler(8, freed_view(1, dtype=torch.int32)),  # type: ignore[arg-type]
    "penalty": lambda _: sf.soft_threshold_(ones(), freed_view(1)),  # type: ignore[arg-type]
    "label": lambda gone: sf.StratifiedSampler(objects("a", gone), 2),
    "key": lambda gone: sf.BatchLoader({gone: np.ones(3), "x": np.ones(4)}, [[1]]),
    "a list": lambda gone: sf.GroupSampler(LABELS, 2, 2, short=[gone]),  # type: ignore[arg-type]
    "a flag": lambda gone: sf.sgd_step(ones(), ones(), lr=0.1, nesterov=[gone]),  # type: ignore[arg-type]
}


def objects(*values: Any) -> np.ndarray:
    made = np.empty(len(values), object)
    for i, value in enumerate(values):  # NumPy would look into them, if given them together
        made[i] = value
    return made


@pytest.mark.parametrize("word", WORDS)
def test_messages_do_not_read_freed_storage(word: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        WORDS[word](freed_view())


def test_a_storage_that_comes_back_is_memory_again() -> None:
    gone = freed_view()
    gone.untyped_storage().resize_(160)
    gone.fill_(1.0)
    sf.sgd_step(gone, torch.ones(4, 8), lr=0.5)
    assert (gone == 0.5).all()


def test_a_loader_refuses_a_storage_that_was_cut() -> None:
    x = torch.ones(40)
    x.untyped_storage().resize_(100)
    with pytest.raises(ValueError, match="arrays: needs 160 bytes of a storage that has 100"):
        sf.BatchLoader(x, [[1]])
