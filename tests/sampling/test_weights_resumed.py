"""Weights that change within an epoch without replacement: no state repeats or loses a row."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf

N = 40
OLD = np.random.default_rng(1).random(N) ** 3
NEW = np.random.default_rng(2).random(N) ** 3


def sampler_of(weights: np.ndarray, **kwargs: Any) -> sf.WeightedSampler:
    return sf.WeightedSampler(weights, 4, replacement=False, seed=1, **kwargs)


def rest(batches: Any) -> list[int]:
    return np.concatenate(list(batches)).tolist()


def test_a_state_is_refused_while_its_order_is_that_of_other_weights() -> None:
    sampler = sampler_of(OLD)
    iterator = iter(sampler)
    rows = next(iterator).tolist()
    before = sampler.state_dict()
    sampler.update(np.arange(N), NEW)
    for taken in (sampler.state_dict, iterator.state_dict):
        with pytest.raises(ValueError, match=r"^weights: changed by update\(\) within epoch 0"):
            taken()
    rows += rest(iterator)
    assert sorted(rows) == list(range(N))  # the epoch goes on as it began
    assert rows == rest(sampler_of(OLD))
    # Between epochs states hold all, with the weights of now.
    state = sampler.state_dict()
    assert (state["epoch"], state["position"]) == (1, 0)
    resumed = sampler_of(sampler.weights)
    resumed.load_state_dict(state)
    assert rest(resumed) == rest(sampler)
    # And the state from before the update is that of the weights before.
    resumed = sampler_of(OLD)
    resumed.load_state_dict(before)
    assert rest(resumed) == rows[4:]


def test_a_resumed_epoch_keeps_its_order_when_weights_change() -> None:
    whole = rest(sampler_of(OLD))
    sampler = sampler_of(OLD)
    next(iter(sampler))
    resumed = sampler_of(OLD)
    resumed.load_state_dict(sampler.state_dict())
    resumed.update(np.arange(N), NEW)  # before its first batch
    with pytest.raises(ValueError, match=r"^weights: "):
        resumed.state_dict()
    assert rest(resumed) == whole[4:]


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))], ids=["copy", "pickle"]
)
def test_copies_have_the_order(copied: Callable[[sf.WeightedSampler], sf.WeightedSampler]) -> None:
    sampler = sampler_of(OLD)
    iterator = iter(sampler)
    next(iterator)
    sampler.update(np.arange(N), NEW)
    other = copied(sampler)
    with pytest.raises(ValueError, match=r"^weights: "):
        other.state_dict()
    assert rest(other) == rest(iterator)


def test_looking_at_other_epochs_costs_no_order() -> None:
    whole = rest(sampler_of(OLD))
    sampler = sampler_of(OLD)
    iterator = iter(sampler)
    rows = next(iterator).tolist()
    seen = sampler.batch(0, epoch=1).tolist()
    sampler.update(np.arange(N), NEW)
    for epoch in (1, 2):
        sampler.batch(0, epoch=epoch)
    assert rows + rest(iterator) == whole
    # What was only looked at is drawn with the new weights.
    updated = sampler_of(OLD)
    updated.update(np.arange(N), NEW)
    updated.set_epoch(1)
    following = rest(sampler)
    assert following == rest(updated)
    assert following[:4] != seen


def test_an_update_before_the_first_batch_counts() -> None:
    sampler = sampler_of(OLD)
    sampler.batch(0)
    sampler.update(np.arange(N), NEW)
    state = sampler.state_dict()
    resumed = sampler_of(NEW)
    resumed.load_state_dict(state)
    rows = rest(sampler)
    assert rows == rest(resumed) != rest(sampler_of(OLD))


@pytest.mark.parametrize("world_size", [2, 3])
def test_every_rank_keeps_the_order(world_size: int) -> None:
    whole = rest(sampler_of(OLD))
    found = []
    for rank in range(world_size):
        sampler = sampler_of(OLD, rank=rank, world_size=world_size)
        iterator = iter(sampler)
        parts = [next(iterator)]
        sampler.update(np.arange(N), NEW)
        found.append([*parts, *iterator])
    assert [row for parts in zip(*found, strict=True) for row in chain(*parts)] == whole


def test_with_replacement_states_are_taken_at_any_time() -> None:
    sampler = sf.WeightedSampler(OLD, 4, seed=1)
    iterator = iter(sampler)
    next(iterator)
    sampler.update([0, 1], [1.0, 0.0])
    resumed = sf.WeightedSampler(sampler.weights, 4, seed=1)
    resumed.load_state_dict(sampler.state_dict())
    assert resumed.state_dict() == sampler.state_dict()


def test_an_epoch_that_is_chosen_again_has_the_order_of_the_weights_of_now() -> None:
    sampler = sampler_of(OLD)
    first = rest(sampler)
    sampler.set_epoch(0)
    sampler.update(np.arange(N), NEW)
    state = sampler.state_dict()
    assert (state["epoch"], state["position"]) == (0, 0)
    again = rest(sampler)
    assert again != first
    assert again == rest(sampler_of(sampler.weights))
