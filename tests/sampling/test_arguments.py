"""What weights, shares and quotas may be; every refusal begins with the argument's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast import _core


def refused(call: Any, name: str) -> str:
    with pytest.raises((TypeError, ValueError), match=rf"^{name}\b.*: ") as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(
    "bad",
    [
        {0: 1.0},
        "1.0",
        ["a", "b"],
        [[1.0], [1.0, 2.0]],
        None,
        [None, 1.0],
        [1j, 2.0],
        np.array(["2020-01-01"], "M8[D]"),
        np.ma.masked_array([5.0, 2.0], mask=[True, False]),
        (x for x in (1.0, 2.0)),
    ],
    ids=lambda bad: type(bad).__name__,
)
def test_what_is_no_array_of_numbers_is_refused_by_name(bad: Any) -> None:
    refused(lambda: sf.WeightedSampler(bad), "weights")
    sampler = sf.WeightedSampler([1.0, 2.0])
    refused(lambda: sampler.update([0, 1], bad), "weights")
    assert sampler.weights.tolist() == [1.0, 2.0]
    if bad is not None:
        refused(lambda: sf.ClassBalancedSampler([0, 1], shares=bad), "shares")
        refused(lambda: sf.StratifiedSampler([0, 1], 2, quotas=bad), "quotas")


class Column:
    """A column of a data frame, as pandas, polars and pyarrow have them."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.values if dtype is None else self.values.astype(dtype)


def test_what_numpy_takes_is_taken() -> None:
    wanted = sf.WeightedSampler([0.0, 1.0, 3.0], seed=1).draw(100)
    values = np.array([0, 1, 3])
    for given in (Column(values), (0, 1, 3), values.astype(np.longdouble), values[::-1][::-1]):
        np.testing.assert_array_equal(sf.WeightedSampler(given, seed=1).draw(100), wanted)
        sampler = sf.WeightedSampler([1, 1, 1], seed=1)
        sampler.update([0, 1, 2], given)
        assert sampler.weights.tolist() == [0.0, 1.0, 3.0]


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "float8_e5m2"])
def test_tensors_that_training_makes(dtype: str) -> None:
    import torch

    values = torch.tensor([0.0, 1.0, 3.0])
    given = values.to(getattr(torch, dtype)).requires_grad_(dtype != "float8_e5m2")
    assert sf.WeightedSampler(given).weights.tolist() == [0.0, 1.0, 3.0]
    sampler = sf.WeightedSampler([1.0, 1.0, 1.0])
    sampler.update([2, 0], given[:2])
    assert sampler.weights.tolist() == [1.0, 1.0, 0.0]
    balanced = sf.ClassBalancedSampler([0, 1, 2], shares=given, seed=1)
    assert 0 not in list(balanced)


@pytest.mark.torch
def test_tensors_without_numbers_are_refused_by_name() -> None:
    import torch

    sampler = sf.WeightedSampler([1.0, 2.0])
    for bad in (
        torch.rand(2, device="meta"),
        torch.rand(2).to_sparse(),
        torch.rand(2) + 1j,
    ):
        refused(lambda: sf.WeightedSampler(bad), "weights")  # noqa: B023
        refused(lambda: sampler.update([0, 1], bad), "weights")  # noqa: B023
        refused(lambda: sampler.importance_weights(bad), "rows")  # noqa: B023
        refused(lambda: sf.ClassBalancedSampler([0, 1], shares=bad), "shares")  # noqa: B023
        refused(lambda: sf.ClassBalancedSampler(bad), "labels")  # noqa: B023
    freed = torch.rand(2)
    freed.untyped_storage().resize_(0)
    refused(lambda: sf.WeightedSampler(freed), "weights")


# --- the core's own doors: what would read or write elsewhere ------------------------------------


def _places(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.int64)


STRATA = _core.sampling.Strata(np.array([0, 3, 3, 7], np.uint64))  # the second is empty
WEIGHTS = _core.sampling.Weights(np.ones(5), None)
FAR = np.full((1, 2), 2**40)
ELSEWHERE: dict[str, tuple[Callable[[], object], str]] = {
    "turns": (lambda: STRATA.turns(1, 1, _places(1), _places(2), _places(2)), "out"),
    "turns of none": (lambda: STRATA.turns(1, 1, FAR[0], _places(2), _places(2)), "classes"),
    "turns of empty": (
        lambda: STRATA.turns(1, 1, _places(1) + 1, _places(1), _places(1)),
        "classes",
    ),
    "members": (lambda: STRATA.members(1, 1, 0, _places(1), _places(2)), "out"),
    "members of none": (lambda: STRATA.members(1, 1, 0, -1 - FAR[0], _places(2)), "classes"),
    "groups": (lambda: STRATA.groups(1, 1, 0, _places(1, 2), 3, _places(5)), "out"),
    "groups of nothing": (lambda: STRATA.groups(1, 1, 0, _places(1, 2), 0, _places(0)), "out"),
    "groups in a row": (lambda: STRATA.groups(1, 1, 0, _places(2), 3, _places(6)), "out"),
    "groups of none": (lambda: STRATA.groups(1, 1, 0, FAR, 3, _places(6)), "classes"),
    "spread": (lambda: STRATA.spread(1, 1, 0, _places(7)), "batch_size"),
    "batches": (lambda: _core.sampling.shuffled_batches(1, 1, 0, 0, _places(7)), "batch_size"),
    "before": (lambda: _core.sampling.shuffled_batches(1, 1, 3, -5, _places(7)), "batch_size"),
    "drawn": (lambda: _core.sampling.groups_drawn(1, 1, 1, 0, _places(4, 3)), "out"),
    "drawn in a row": (lambda: _core.sampling.groups_drawn(1, 1, 3, 0, _places(4)), "out"),
    "in turn": (lambda: _core.sampling.groups_in_turn(1, 1, 0, _places(4, 3)), "out"),
    "importance": (lambda: WEIGHTS.importance(FAR[0], np.empty(2)), "rows"),
    "importance of few": (lambda: WEIGHTS.importance(_places(1), np.empty(2)), "rows"),
}


@pytest.mark.parametrize("door", ELSEWHERE)
def test_what_would_be_elsewhere_is_refused(door: str) -> None:
    call, name = ELSEWHERE[door]
    with pytest.raises(ValueError, match=f"^{name}"):
        call()
