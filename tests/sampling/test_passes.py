"""A pass is an epoch: which one it goes through, and where a state goes on."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast.sampling import Sampler

N, SIZE = 40, 8
BATCHES = N // SIZE


def sampler() -> sf.BatchSampler:
    return sf.BatchSampler(N, SIZE, seed=1)


def epoch(number: int) -> list[list[int]]:
    return [batch.tolist() for batch in np.split(sampler().rows(number, 0, N), BATCHES)]


def lists(batches: Any) -> list[list[int]]:
    return [np.asarray(batch).tolist() for batch in batches]


def small(s: Sampler) -> Any:
    return sf.BatchLoader(np.arange(N), s)


def large(s: Sampler) -> Any:
    """Whose batches are gathered ahead; they are told by their first numbers."""
    rows = np.repeat(np.arange(N)[:, None], 10_000, axis=1)

    class Loader:
        def __init__(self) -> None:
            self.loader = sf.BatchLoader(rows, s)

        def __len__(self) -> int:
            return len(self.loader)

        def __iter__(self) -> Iterator[Any]:
            return (batch[:, 0] for batch in self.loader)

    return Loader()


def torch_loader(workers: int) -> Callable[[Sampler], Any]:
    def make(s: Sampler) -> Any:
        data = pytest.importorskip("torch").utils.data
        return data.DataLoader(range(N), batch_sampler=s, num_workers=workers)

    return make


LOOPS: dict[str, Callable[[Any], Any]] = {
    "for": iter,
    "zip with a range": lambda loader: (b for _, b in zip(range(len(loader)), loader, strict=True)),
    "islice": lambda loader: itertools.islice(loader, BATCHES),
    "left early": lambda loader: itertools.islice(loader, 2),
}
LOADERS = {
    "itself": lambda s: s,
    "small": small,
    "large": large,
    "torch": pytest.param(torch_loader(0), marks=pytest.mark.torch),
    "workers": pytest.param(torch_loader(2), marks=pytest.mark.torch),
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
def test_every_pass_goes_through_the_next_epoch(make: Callable[[Any], Any], loop: str) -> None:
    loader = make(sampler())
    for number in range(3):
        got = lists(LOOPS[loop](loader))
        assert got == epoch(number)[: len(got)]
        assert len(got) == (2 if loop == "left early" else BATCHES)


@pytest.mark.parametrize("make", [small, large])
def test_passes_at_the_same_time(make: Callable[[Any], Any]) -> None:
    shared = sampler()
    pairs = list(zip(make(shared), make(shared), strict=True))
    assert lists(a for a, _ in pairs) == epoch(0)
    assert lists(b for _, b in pairs) == epoch(1)
    loader = make(sampler())
    for i, outer in enumerate(loader):
        assert lists([outer]) == [epoch(0)[i]]
        if i < 2:
            assert lists(loader) == epoch(i + 1)


def test_an_iterator_that_is_never_asked_counts_for_none() -> None:
    s = sampler()
    iter(s), iter(s)
    assert lists(s) == epoch(0)
    late = iter(s)
    assert lists(s) == epoch(1)
    assert lists(late) == epoch(2)


# What is done, and where a copy or whoever loads the state goes on: (epoch, batches that are left),
# then what a further pass goes through. docs/sampling.md has this table.
def _fresh(s: Sampler) -> None:
    pass


def _in_the_middle(s: Sampler) -> Any:
    batches = iter(s)
    next(batches), next(batches)
    return batches


def _at_a_break(s: Sampler) -> None:
    for i, _ in enumerate(s):
        if i == 1:
            break


def _at_the_last(s: Sampler) -> Any:
    batches = iter(s)
    for _ in range(BATCHES):
        next(batches)
    return batches  # a loop's body, in its last turn


def _behind_the_last(s: Sampler) -> None:
    for _ in zip(range(BATCHES), s, strict=True):
        pass


def _at_the_end(s: Sampler) -> None:
    list(s)


def _begun(s: Sampler) -> Any:
    list(s)
    return iter(s)


def _set(s: Sampler) -> None:
    _at_a_break(s)
    s.set_epoch(7)


def _set_to_the_same(s: Sampler) -> None:
    s.load_state_dict(_after(_at_a_break).state_dict())
    s.set_epoch(s.epoch)


def _again(s: Sampler) -> None:
    list(s)
    s.set_epoch(0)


def _after(act: Callable[[Sampler], Any]) -> Sampler:
    s = sampler()
    act(s)
    return s


CASES = {
    "a new sampler": (_fresh, 0, 0),
    "in the loop": (_in_the_middle, 0, 2),
    "after a break": (_at_a_break, 0, 2),
    "in the loop, at the last batch": (_at_the_last, 0, BATCHES),
    "behind a loop that took the last batch and no more": (_behind_the_last, 1, 0),
    "behind the loop": (_at_the_end, 1, 0),
    "after iter()": (_begun, 1, 0),
    "after set_epoch": (_set, 7, 0),
    "loaded, and set to the same epoch": (_set_to_the_same, 0, 2),
    "set back": (_again, 0, 0),
}


@pytest.mark.parametrize("case", CASES)
def test_where_a_state_goes_on(case: str) -> None:
    act, number, taken = CASES[case]
    s = sampler()
    held = act(s)
    assert (s.epoch, s.position) == (number, taken * SIZE)
    loaded = sf.BatchSampler(N, SIZE, seed=9)
    loaded.load_state_dict(s.state_dict())
    for other in (loaded, pickle.loads(pickle.dumps(s)), copy.deepcopy(s)):
        assert other.state_dict() == s.state_dict()
        assert lists(other) == epoch(number)[taken:]
        assert lists(other) == epoch(number + 1)
    del held


@pytest.mark.parametrize("make", [small, large])
def test_a_samplers_state_in_a_loop_over_a_loader(make: Callable[[Any], Any]) -> None:
    s = sampler()
    for number in range(2):
        for i, _ in enumerate(make(s), 1):
            assert (s.epoch, s.position) == (number, i * SIZE)
            loaded = sampler()
            loaded.load_state_dict(s.state_dict())
            assert lists(make(loaded)) == epoch(number)[i:]
        assert s.epoch == number + 1


def test_an_epoch_chosen_in_the_middle() -> None:
    s = sampler()
    batches = iter(s)
    s.set_epoch(0)  # as Lightning does behind iter()
    assert next(batches).tolist() == epoch(0)[0]
    s.set_epoch(0)
    assert s.position == SIZE  # the pass goes on,
    assert lists(batches) == epoch(0)[1:]
    assert lists(s) == epoch(0)  # and the next is of the epoch that was chosen
    assert lists(s) == epoch(1)


def test_states_of_iterators() -> None:
    s = sampler()
    first = iter(s)
    next(first)
    second = iter(s)
    assert lists(second) == epoch(1)
    assert next(first).tolist() == epoch(0)[1]  # the first goes on undisturbed,
    assert (s.epoch, s.position) == (2, 0)  # and is no longer the sampler's
    third = iter(s)
    third.load_state_dict(first.state_dict())
    assert (s.epoch, s.position) == (0, 2 * SIZE)
    assert lists(third) == epoch(0)[2:]
    assert lists(s) == epoch(1)
    last = iter(sampler())
    taken = list(last)
    assert last.state_dict()["position"] == N == SIZE * len(taken)


def test_epochs_wrap() -> None:
    s = sampler()
    s.set_epoch(2**64 - 1)
    list(s)
    assert s.epoch == 0
    assert lists(s) == epoch(0)


@pytest.mark.parametrize("size", [N, N + 1, 3 * N])
def test_a_batch_larger_than_the_data_is_a_partial_one(size: int) -> None:
    for tail, rows in (("partial", N), ("pad", size)):
        batches = list(sf.BatchSampler(N, size, seed=1, tail=tail))  # type: ignore[arg-type]
        assert [len(b) for b in batches] == [rows]
        assert set(batches[0].tolist()) == set(range(N))


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("ranks", [1, 4, 5, 11])
def test_padding_wraps_as_often_as_it_must(n: int, ranks: int) -> None:
    for size in (None, ranks, 3 * ranks):
        parts = []
        for rank in range(ranks):
            s = sf.BatchSampler(n, size, rank=rank, world_size=ranks, tail="pad")
            parts.append([np.atleast_1d(b) for b in s])
            assert len(parts[-1]) == len(s) > 0
        together = [np.concatenate(step).tolist() for step in zip(*parts, strict=True)]
        rows = sampler_rows(n)
        for i, step in enumerate(together):
            begin = i * len(step)
            assert step == [rows[p % n] for p in range(begin, begin + len(step))]


def sampler_rows(n: int) -> list[int]:
    return sf.BatchSampler(n, 1).rows(0, 0, n).tolist()


@pytest.mark.torch
def test_a_seed_of_none_is_drawn_from_torchs_generator() -> None:
    torch = pytest.importorskip("torch")
    seeds = []
    for start in (3, 3, 4):
        torch.manual_seed(start)
        seeds.append(sf.BatchSampler(N, SIZE, seed=None).seed)
    assert seeds[0] == seeds[1] != seeds[2]
    assert sf.BatchSampler(N, SIZE, seed=None).seed != seeds[2]


def test_what_a_sampler_shows() -> None:
    s = sf.BatchSampler(N, SIZE, seed=1, rank=1, world_size=2)
    next(iter(s))
    assert repr(s) == (
        "<BatchSampler of 40 rows shuffled in batches of 8, rank 1 of 2, seed 1: epoch 0, "
        "8 of 40 rows given>"
    )
