"""Tensors whose storage is gone or was cut: each door refuses them."""

# ruff: noqa: E402
from __future__ import annotations

from collections.abc import Callable, Iterator

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


def freed_view() -> torch.Tensor:
    """Its address is not null: it is the offset into a storage that has been given back."""
    whole = torch.ones(40)
    view = whole[8:].view(4, 8)
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
}


@pytest.mark.parametrize("door", DOORS)
def test_a_view_of_freed_storage_is_refused(door: str) -> None:
    with pytest.raises(ValueError, match=r"no memory of its own|of a storage that has 0"):
        DOORS[door](freed_view())


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
