"""Our samplers as torch's: lists of ints, the attributes that clients ask for, states."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import subgrad_fast as sf

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import torch.utils.data as torchs  # noqa: E402

from tests.data.cases import N  # noqa: E402


def test_the_batches_are_the_samplers() -> None:
    sampler = sf.BatchSampler(N, 10, seed=4)
    made = sampler.as_torch()
    assert isinstance(made, torchs.BatchSampler)
    assert (made.batch_size, made.drop_last, len(made)) == (10, False, 11)
    for _ in range(2):
        batches = list(made)
        assert all(type(batch) is list and type(batch[0]) is int for batch in batches)
        assert batches == [batch.tolist() for batch in sampler]


def test_a_copy_goes_on_and_goes_its_own_way() -> None:
    sampler = sf.BatchSampler(N, 10, seed=4)
    begun = iter(sampler)
    next(begun)
    made = sampler.as_torch()
    assert list(made) == [batch.tolist() for batch in begun]
    list(made), list(made)
    assert (sampler.epoch, sampler.position) == (1, 0)


def test_single_rows() -> None:
    made = sf.BatchSampler(N, None, seed=4).as_torch()
    assert not isinstance(made, torchs.BatchSampler)
    assert isinstance(made, torchs.Sampler)
    assert sorted(made) == list(range(N))
    assert len(made) == N
    batches = list(torchs.DataLoader(range(N), 10, sampler=made))  # type: ignore[arg-type]
    assert sorted(torch.cat(batches).tolist()) == list(range(N))


@pytest.mark.parametrize("rows", [5, 8, 21, 64])
@pytest.mark.parametrize("tail", [None, "partial", "drop", "pad"])
def test_ranks(rows: int, tail: Any) -> None:
    """By default no rank gets an empty batch: torch's loaders cannot make one of it."""
    if tail == "drop" and rows < 8:
        with pytest.raises(ValueError, match=r"^batch_size"):
            sf.BatchSampler(rows, 8, world_size=4).as_torch(tail=tail)
        return
    ranks = [sf.BatchSampler(rows, 8, rank=r, world_size=4).as_torch(tail=tail) for r in range(4)]
    seen = [list(made) for made in ranks]
    assert {len(batches) for batches in seen} == {len(ranks[0])}
    assert ranks[0].batch_size == 2
    lengths = {len(batch) for batches in seen for batch in batches}
    if tail == "partial":
        assert sorted(row for batches in seen for batch in batches for row in batch) == [
            *range(rows)
        ]
    else:
        assert lengths == {2}
    if tail in (None, "pad"):
        assert {row for batches in seen for batch in batches for row in batch} == {*range(rows)}


def test_epochs_and_states() -> None:
    made = sf.BatchSampler(N, 10, seed=4).as_torch()
    made.set_epoch(3)
    expected = list(made)
    made.set_epoch(3)
    begun = iter(made)
    head = [next(begun) for _ in range(4)]
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert head + list(other) == expected
    fresh = sf.BatchSampler(N, 10, seed=4).as_torch()
    fresh.load_state_dict(made.state_dict())
    assert head + list(fresh) == expected
    assert head + list(begun) == expected
    assert "BatchSampler of 103 rows shuffled" in repr(made)


def test_other_samplers() -> None:
    made = sf.WeightedSampler([1.0, 2.0, 0.0], 2, num_samples=7).as_torch()
    assert {row for batch in made for row in batch} <= {0, 1}
    grouped = sf.GroupSampler([0, 0, 1, 1, 2, 2], 2, 2).as_torch()
    assert [len(batch) for batch in grouped] == [4]
    assert grouped.batch_size == 4


def test_what_clients_make_of_it() -> None:
    """Lightning makes another of the same class, with its own sampler and the same numbers."""
    made = sf.BatchSampler(N, 10, seed=4).as_torch()
    other = type(made)(torchs.SequentialSampler(range(N)), made.batch_size, made.drop_last)
    assert next(iter(other)) == list(range(10))
    assert len(other) == 11
    assert not hasattr(other, "state_dict")
    again = type(made)(made.sampler, batch_size=made.batch_size, drop_last=made.drop_last)
    assert hasattr(again, "state_dict")
    rows = list(made.sampler)
    assert sorted(rows) == list(range(N))


def test_a_tail_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"^tail"):
        sf.BatchSampler(N, 10).as_torch(tail="wrap")  # type: ignore[arg-type]
