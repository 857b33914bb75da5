"""optim.SGD where parameters, gradients and momentum share memory, or gradients lie beside them.

Every scenario is compared with torch.optim.SGD's default; `routed` says who did the work.
"""

# ruff: noqa: E402
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch.nn import Parameter

from subgrad_fast.optim import SGD
from tests.cases import RULE
from tests.optim.torch_twins import (
    assert_same,
    assert_twins,
    give_gradients,
    parameters,
    snapshot,
    train,
)

pytestmark = pytest.mark.torch


def aliases() -> dict[str, Callable[[], list[Parameter]]]:
    base = torch.linspace(-1, 1, 24)

    def views(*slices: Any) -> Callable[[], list[Parameter]]:
        def make() -> list[Parameter]:
            memory = base.clone()
            return [Parameter(memory[s]) for s in slices]

        return make

    return {
        "same": views(slice(0, 20), slice(0, 20)),
        "overlap": views(slice(0, 14), slice(10, 24)),
        "inside": views(slice(0, 24), slice(5, 9)),
        "strided overlap": views(slice(0, 24, 2), slice(4, 20, 4)),
        "halves": views(slice(0, 12), slice(12, 24)),
        "interleaved": views(slice(0, 24, 2), slice(1, 24, 2)),
        "three": views(slice(0, 24, 3), slice(1, 24, 3), slice(2, 24, 3)),
    }


@pytest.mark.parametrize("kind", aliases())
def test_parameters_that_share_memory(kind: str) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = aliases()[kind]() + parameters((3,))
        optimizer = cls(params, **RULE)
        train(optimizer, params)
        yield optimizer

    assert_twins(scenario, routed=kind in ("same", "overlap", "inside", "strided overlap"))


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
def test_one_parameter_twice() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((5,), (3,))
        optimizer = cls([params[0], *params], **RULE)
        for _ in range(3):
            give_gradients(params)
            optimizer.step()
            yield params, [optimizer.state[p] for p in params]

    assert_twins(scenario, routed=True)
    with pytest.raises(ValueError, match="more than one parameter group"):
        SGD([{"params": (p := parameters((3,)))}, {"params": p}])


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("size", [20, 3000, 10_000])  # in bytes: a line or two, pages, large
@pytest.mark.parametrize(
    "kind", ["other parameter", "own, shifted", "other momentum", "own", "own momentum"]
)
def test_gradients_that_are_written_memory(kind: str, size: int, weight_decay: float) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        memory = torch.linspace(-1, 1, size + 4)
        a, b = Parameter(memory[:size]), Parameter(torch.ones(size))
        optimizer = cls([a, b], lr=0.1, momentum=0.9, weight_decay=weight_decay)
        train(optimizer, [a, b], 3)
        for _ in range(3):
            a.grad = {
                "other parameter": b.data,
                "own, shifted": memory[4:],
                "other momentum": optimizer.state[b]["momentum_buffer"],
                "own": a.data,
                "own momentum": optimizer.state[a]["momentum_buffer"],
            }[kind]
            optimizer.step()
            yield optimizer

    assert_twins(scenario, routed=kind != "own")


@pytest.mark.parametrize("seed", range(30))
def test_a_gradient_among_parameters(seed: int) -> None:
    """Parameters with gaps between them; a gradient fits into a gap, or meets some of them."""
    rng = np.random.default_rng(seed)
    cuts = [0, *np.sort(rng.choice(np.arange(1, 200_000), 29, replace=False)).tolist(), 200_000]
    spans = list(zip(cuts[:-1:2], cuts[1::2], strict=True))
    gaps = list(zip(cuts[1:-1:2], cuts[2::2], strict=True))
    which = int(rng.integers(len(spans)))
    size = spans[which][1] - spans[which][0]
    fitting = [at for a, b in gaps if b - a >= size for at in (a, b - size)]
    inside = fitting and seed % 2
    start = int(rng.choice(fitting) if inside else rng.integers(0, 200_000 - size))
    meets = any(a < start + size and start < b for a, b in spans)
    assert not (inside and meets)

    def scenario(cls: type) -> Iterator[Any]:
        memory = torch.linspace(-1, 1, 200_000)
        params = [Parameter(memory[a:b]) for a, b in spans]
        optimizer = cls(params, **RULE)
        train(optimizer, params, 3)
        give_gradients(params)
        params[which].grad = memory[start : start + size]
        optimizer.step()
        yield optimizer

    assert_twins(scenario, routed=meets)


def test_one_gradient_for_two_parameters() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        a, b = parameters((20,), (20,))
        optimizer = cls([a, b], **RULE)
        a.grad = b.grad = torch.randn(20)
        for _ in range(3):
            optimizer.step()
            yield optimizer

    assert_twins(scenario)


def test_an_expanded_parameter_raises_and_changes_nothing() -> None:
    params = [*parameters((3,)), Parameter(torch.ones(1).expand(5))]
    optimizer = SGD(params, **RULE)
    give_gradients(params)
    before = snapshot(params)
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        optimizer.step()
    assert_same(snapshot(params), before)
    assert not optimizer.state
