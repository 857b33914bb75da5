"""Samplers: the reference's rows, ranks, tails, resuming, errors, torch's loaders, copies."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast.sampling import Sampler

LABELS = np.random.default_rng(0).permutation(
    np.repeat([0, 1, 2, 4], [50, 30, 15, 8])
)  # class 3: none

# Every sampler over about 100 rows, batches of 8.
SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "shuffled": lambda **k: sf.BatchSampler(103, 8, **k),
    "sequential": lambda **k: sf.BatchSampler(103, 8, shuffle=False, **k),
    "replaced": lambda **k: sf.BatchSampler(103, 8, replacement=True, **k),
    "pairs": lambda **k: sf.BatchSampler(103, 8, reverse_pairs=True, **k),
    "blocks": lambda **k: sf.BatchSampler(103, 8, block_size=10, blocks_together=2, **k),
    "weighted": lambda **k: sf.WeightedSampler(np.arange(103), 8, **k),
    "race": lambda **k: sf.WeightedSampler(np.arange(103), 8, replacement=False, **k),
    "few": lambda **k: sf.WeightedSampler(
        np.arange(1003), 8, replacement=False, num_samples=20, **k
    ),
    "balanced": lambda **k: sf.ClassBalancedSampler(LABELS, 8, **k),
    "stratified": lambda **k: sf.StratifiedSampler(LABELS, 8, **k),
    "quotas": lambda **k: sf.StratifiedSampler(LABELS, 8, quotas=[3, 2, 2, 0, 1], **k),
    "groups": lambda **k: sf.GroupSampler(
        LABELS, 2, 4, **{a: b for a, b in k.items() if a != "tail"}
    ),
}


@pytest.fixture(params=SAMPLERS)
def make(request: pytest.FixtureRequest) -> Callable[..., Sampler]:
    return SAMPLERS[request.param]


def flat(batches: Any) -> list[int]:
    return [int(row) for batch in batches for row in np.atleast_1d(batch)]


def test_batches_are_the_epoch_cut_up(make: Callable[..., Sampler]) -> None:
    sampler = make(seed=3)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert all(batch.dtype == np.int64 for batch in batches)
    assert [len(batch) for batch in batches[:-1]] == [8] * (len(batches) - 1)
    np.testing.assert_array_equal(flat(batches), make(seed=3).rows(0, 0, sampler.length))
    for step in (0, 1, len(batches) - 1):
        np.testing.assert_array_equal(sampler.batch(step, epoch=0), batches[step])


def test_epochs_differ_and_repeat(make: Callable[..., Sampler]) -> None:
    sampler = make(seed=3)
    first, second = flat(sampler), flat(sampler)
    assert sampler.epoch == 2
    assert (first == second) == (getattr(sampler, "shuffle", True) is False)
    sampler.set_epoch(0)
    assert flat(sampler) == first
    assert flat(sampler) == second
    other = flat(make(seed=4))
    assert (other == first) == (getattr(sampler, "shuffle", True) is False)


@pytest.mark.parametrize("tail", ["partial", "drop", "pad"])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 8])
def test_ranks_share_the_global_batches(
    make: Callable[..., Sampler], world_size: int, tail: str
) -> None:
    whole = list(make(seed=1, tail=tail))
    ranks = [
        list(make(seed=1, tail=tail, rank=r, world_size=world_size)) for r in range(world_size)
    ]
    for step, batch in enumerate(whole):
        parts = [rank[step] for rank in ranks]
        np.testing.assert_array_equal(np.concatenate(parts), batch)
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
    assert {len(rank) for rank in ranks} == {len(whole)}


def test_tails() -> None:
    order = sf.Permutation(10, seed=2)[:].tolist()
    partial, drop, pad = (
        sf.BatchSampler(10, 4, seed=2, tail=t) for t in ("partial", "drop", "pad")
    )
    assert [b.tolist() for b in partial] == [order[:4], order[4:8], order[8:]]
    assert [b.tolist() for b in drop] == [order[:4], order[4:8]]
    assert [b.tolist() for b in pad] == [order[:4], order[4:8], order[8:] + order[:2]]
    assert [len(s) for s in (partial, drop, pad)] == [3, 2, 3]
    assert [pad.valid(step).tolist() for step in range(3)] == [[True] * 4] * 2 + [
        [True] * 2 + [False] * 2
    ]
    # Over 3 ranks: the same global batch.
    last = [sf.BatchSampler(10, 4, seed=2, tail="pad", rank=r, world_size=3) for r in range(3)]
    assert [s.batch(2).tolist() for s in last] == [[order[8]], [order[9]], order[:2]]
    assert [s.valid(2).tolist() for s in last] == [[True], [True], [False, False]]
    # A small last batch: some ranks get nothing, but a step all the same.
    last = [sf.BatchSampler(9, 4, seed=2, rank=r, world_size=2) for r in range(2)]
    assert sorted(len(list(s)[-1]) for s in last) == [0, 1]


def test_every_row_comes_once() -> None:
    for name in ("shuffled", "sequential", "pairs", "blocks", "stratified"):
        assert sorted(flat(SAMPLERS[name](seed=1))) == list(range(103)), name
    assert sorted(flat(SAMPLERS["race"](seed=1))) == list(range(1, 103))
    assert sorted(flat(SAMPLERS["replaced"](seed=1))) != list(range(103))  # the control


@pytest.mark.parametrize("stop", range(0, 13, 3))
def test_interrupted_and_resumed(make: Callable[..., Sampler], stop: int) -> None:
    """Two epochs, stopped in the second and resumed by another object on other numbers of ranks."""
    expected = make(seed=5)
    list(expected)
    rows = flat(expected)
    running = make(seed=5)
    list(running)
    stop = min(stop, len(running))
    stopped = iter(running)
    got = flat(itertools.islice(stopped, stop))
    state = running.state_dict()
    assert all(type(value) is int for value in state.values())
    world_size = 1
    while True:
        world_size = world_size % 4 + 1
        ranks = [make(seed=99, rank=r, world_size=world_size) for r in range(world_size)]
        for rank in ranks:
            rank.load_state_dict(state)
            rank.set_epoch(rank.epoch)  # as training loops do
        iterators = [iter(rank) for rank in ranks]
        for _ in range(2):
            got += flat(next(iterator, ()) for iterator in iterators)
        states = [rank.state_dict() for rank in ranks]
        assert all(s == states[0] for s in states)
        if states[0]["epoch"] != 1 or states[0]["position"] == state["position"]:
            break
        state = states[0]
    assert got == rows


def test_single_rows_and_ranks() -> None:
    order = sf.Permutation(10_007, seed=1)[:].tolist()
    assert list(sf.BatchSampler(10_007, None, seed=1)) == order
    assert type(next(iter(sf.BatchSampler(10, None)))) is int
    for tail, end in (("partial", 10_007), ("drop", 10_005)):
        ranks = [
            list(sf.BatchSampler(10_007, None, seed=1, rank=r, world_size=3, tail=tail))
            for r in range(3)
        ]
        together = [
            row for rows in itertools.zip_longest(*ranks) for row in rows if row is not None
        ]
        assert sorted(together) == sorted(order[:end])
        assert [len(rank) for rank in ranks] == [
            len(sf.BatchSampler(10_007, None, rank=r, world_size=3, tail=tail)) for r in range(3)
        ]
        assert together[:10_005] == order[:10_005]
    pads = [sf.BatchSampler(10, None, seed=1, rank=r, world_size=3, tail="pad") for r in range(3)]
    assert [len(list(p)) for p in pads] == [4, 4, 4]


def test_single_rows_resume_with_another_world_size() -> None:
    rows = list(sf.BatchSampler(5000, None, seed=1))
    three = [sf.BatchSampler(5000, None, seed=1, rank=r, world_size=3) for r in range(3)]
    its = [iter(s) for s in three]
    got = [next(it) for _ in range(500) for it in its]
    two = [sf.BatchSampler(5000, None, rank=r, world_size=2) for r in range(2)]
    for sampler in two:
        sampler.load_state_dict(three[0].state_dict())
    got += [row for pair in zip(*two, strict=True) for row in pair]
    assert got == rows


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "epoch, n, order, position, seed, version missing"),
        ({"version": 1}, r"state\['version'\]: expected 2, got 1"),
        ({"n": 50}, r"state\['n'\]: taken with 50 rows of data, but there are 103"),
        ({"order": 7}, r"state\['order'\]: taken with other data or options than .* shuffled"),
        ({"order": -1}, "order"),
        ({"position": -1}, "position"),
        ({"position": 104}, "position"),
        ({"epoch": -1}, "epoch"),
        ({"seed": 2**64}, "seed"),
    ],
)
def test_bad_states_change_nothing(state: dict[str, int], message: str) -> None:
    sampler = sf.BatchSampler(103, 8, seed=1)
    before = sampler.state_dict()
    with pytest.raises(ValueError, match=message):
        sampler.load_state_dict({**before, **state} if state else state)
    assert sampler.state_dict() == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 0}, ValueError, "n: "),
        ({"batch_size": 0}, ValueError, "batch_size: "),
        (
            {"batch_size": 11, "tail": "drop"},
            ValueError,
            "batch_size: 11 is larger than an epoch of 10 rows, and tail='drop' leaves nothing",
        ),
        ({"n": "text"}, TypeError, "n: expected a number of rows, got str"),
        ({"n": np.zeros(5)}, TypeError, "n: expected a number of rows, got ndarray"),
        ({"batch_size": 2.0}, TypeError, "batch_size: "),
        ({"rank": 1}, ValueError, "rank: expected an integer from 0 to 0, got 1"),
        ({"rank": -1}, ValueError, "rank: "),
        ({"world_size": 0}, ValueError, "world_size: "),
        (
            {"world_size": 5},
            ValueError,
            "batch_size: expected at least one row for each of 5 ranks",
        ),
        ({"tail": "keep"}, ValueError, "tail: expected 'partial', 'drop' or 'pad', got 'keep'"),
        ({"seed": "a"}, TypeError, "seed: "),
        ({"replacement": True, "shuffle": False}, ValueError, "replacement: "),
        ({"replacement": True, "block_size": 2}, ValueError, "block_size"),
        ({"num_samples": 5}, ValueError, "num_samples: needs replacement"),
        ({"block_size": 0}, ValueError, "block_size: "),
    ],
)
def test_bad_batches(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sf.BatchSampler(**{"n": 10, "batch_size": 4, **arguments})


def test_a_first_batch_of_huge_data_is_made_at_once() -> None:
    # 2^62 rows: anything that is done for all of them would never end.
    sampler = sf.BatchSampler(2**62, 128, seed=1, block_size=1000)
    assert len(next(iter(sampler))) == 128
    assert len(next(iter(sf.BatchSampler(2**62, 128, replacement=True)))) == 128


# --- torch ---------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("workers", [0, 2])
def test_torch_loaders_take_every_sampler(make: Callable[..., Sampler], workers: int) -> None:
    from torch.utils.data import DataLoader

    expected = [batch.tolist() for batch in make(seed=1)]
    data = list(range(2000))
    loader = DataLoader(data, batch_sampler=make(seed=1), num_workers=workers)
    assert len(loader) == len(expected)
    assert [batch.tolist() for batch in loader] == expected


@pytest.mark.torch
@pytest.mark.parametrize("workers", [0, 2])
def test_torch_loaders_take_single_rows(workers: int) -> None:
    from torch.utils.data import DataLoader

    for sampler in (
        sf.BatchSampler(100, None, seed=1),
        sf.WeightedSampler(np.ones(100), seed=1),
        sf.ClassBalancedSampler(LABELS, seed=1),
    ):
        expected = sampler.rows(0, 0, sampler.length).tolist()
        loader = DataLoader(list(range(200)), batch_size=7, sampler=sampler, num_workers=workers)
        assert flat(batch.numpy() for batch in loader) == expected
        assert sampler.epoch == 1
        assert flat(batch.numpy() for batch in loader) != expected


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")  # torchdata's own, about torch
@pytest.mark.parametrize("workers", [0, 2])
def test_torchdata_resumes_in_the_middle(make: Callable[..., Sampler], workers: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def loader() -> Any:
        return stateful.StatefulDataLoader(
            list(range(2000)), batch_sampler=make(seed=1), num_workers=workers
        )

    expected = [batch.tolist() for batch in loader()]
    running = loader()
    iterator = iter(running)
    got = [next(iterator).tolist() for _ in range(2)]
    resumed = loader()
    resumed.load_state_dict(running.state_dict())
    assert got + [batch.tolist() for batch in resumed] == expected


# --- copies --------------------------------------------------------------------------------------


def test_samplers_are_pickled_where_they_stand(make: Callable[..., Sampler]) -> None:
    sampler = make(seed=1)
    list(sampler)
    iterator = iter(sampler)
    next(iterator)
    copies = [pickle.loads(pickle.dumps(sampler)), copy.deepcopy(sampler)]
    rest = flat(iterator)
    for other in copies:
        assert flat(other) == rest
        assert other.epoch == sampler.epoch == 2


def test_updated_weights_are_pickled() -> None:
    sampler = sf.WeightedSampler(np.arange(1.0, 50.0), seed=1)
    sampler.update(3, 100.0)
    other = pickle.loads(pickle.dumps(sampler))
    assert other.state_dict() == sampler.state_dict()
    np.testing.assert_array_equal(other.draw(1000), sampler.draw(1000))


def test_batches_that_no_memory_holds() -> None:
    assert sf.BatchSampler(5, 2**63 - 1).batch(0).size == 5
    with pytest.raises(ValueError, match=r"^batch_size: .* fill up 5"):
        sf.BatchSampler(5, 2**63 - 1, tail="pad")
    for name, value in (("batch_size", 2**63), ("batch_size", 2**70), ("world_size", 2**40)):
        with pytest.raises(ValueError, match=f"^{name}: expected an integer from 1 to"):
            sf.BatchSampler(5, **{"batch_size": 3, name: value})
    with pytest.raises(ValueError, match=r"^num_batches: expected an integer from 1 to"):
        sf.StratifiedSampler([0, 1], 2, quotas=[1, 1], num_batches=2**62)
    with pytest.raises(ValueError, match=r"^num_batches: expected an integer from 1 to"):
        sf.GroupSampler([0, 1], 2, 1, num_batches=2**62)


def test_a_batch_of_an_order_that_is_kept_is_the_callers() -> None:
    """To write into one changes no other, nor the epoch when it is gone through again."""
    for sampler in (
        sf.WeightedSampler([1.0, 2.0, 3.0, 4.0], 2, replacement=False),
        sf.StratifiedSampler([0, 0, 1, 1], 2),
        sf.StratifiedSampler([0, 0, 1, 1], 2, quotas=[1, 1]),
        sf.GroupSampler([0, 0, 1, 1], 2, 1, go_round=True),
        sf.BatchSampler(4, 2),
    ):
        before = [sampler.batch(step, epoch=1).tolist() for step in range(2)]
        for step in range(2):
            sampler.batch(step, epoch=1)[:] = 99
        assert [sampler.batch(step, epoch=1).tolist() for step in range(2)] == before
