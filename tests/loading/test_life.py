"""The life of a BatchLoader: reused buffers, ends, forks, threads, resumes."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast.loading import loader
from tests.bits import assert_same_bytes
from tests.loading.orders import N, Order, StatefulOrder, numbers
from tests.threads import run_threads

# --- reused buffers -----------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [1, 2, 5])
def test_a_batch_is_valid_until_prefetch_more_were_taken(prefetch: int, way: str) -> None:
    x = numbers((N, 3))
    order = Order()
    made = sf.BatchLoader(x, order, prefetch=prefetch)
    held: list[tuple[np.ndarray, np.ndarray]] = []
    overwritten = 0
    for _ in range(3):  # the end of an epoch is no exception
        for batch, indices in zip(made, order, strict=True):
            held.append((batch, x[indices]))
            for kept, expected in held[-prefetch:]:
                assert_same_bytes(kept, expected)
            if len(held) > 2 * prefetch:  # the control: it does end
                kept, expected = held[-2 * prefetch - 1]
                overwritten += kept.tobytes() != expected.tobytes()
    assert overwritten > 80 - 2 * prefetch


def test_the_arrays_are_reused_and_copies_are_not(way: str) -> None:
    x = numbers((1024, 3))
    order = Order(1024)
    assert len({id(batch) for batch in sf.BatchLoader(x, order)}) <= 4
    batches = list(sf.BatchLoader(x, order, copy=True))
    assert len({batch.ctypes.data for batch in batches}) == len(batches)
    for batch, indices in zip(batches, order, strict=True):
        assert_same_bytes(batch, x[indices])
        assert batch.flags.writeable


def test_two_iterations_at_once(way: str) -> None:
    x = numbers((N, 3))
    made = sf.BatchLoader(x, Order())
    for a, b, indices in zip(made, made, Order(), strict=True):
        assert a is not b
        assert_same_bytes(a, x[indices])
        assert_same_bytes(b, x[indices])


def test_a_change_to_the_data_shows_after_prefetch_batches(way: str) -> None:
    x = np.zeros((N, 2), np.float32)
    for i, batch in enumerate(sf.BatchLoader(x, Order(), prefetch=2)):
        if i == 5:
            x[:] = 1
        assert i in (6, 7) or (batch == (i > 5)).all()


# --- the end of it ------------------------------------------------------------------------------


def thread_count() -> int:
    """Threads of loaders in this process. Python does not know them, the system does."""
    names = [file.read_text() for file in Path("/proc/self/task").glob("*/comm")]
    return names.count("subgrad_gather\n")


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")


@needs_proc
def test_the_thread_ends_with_the_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_BACKGROUND_BYTES", 0)
    gc.collect()
    before = thread_count()
    made = sf.BatchLoader(numbers((N, 3)), Order())
    list(made)
    list(made)
    assert thread_count() == before + 1  # the control, and one thread for all epochs
    del made
    gc.collect()
    assert thread_count() == before


@needs_proc
def test_abandoned_iterations_leave_nothing_behind(way: str) -> None:
    x = numbers((N, 300))
    gc.collect()
    before = thread_count()
    for _ in range(50):
        made = sf.BatchLoader(x, Order(batch_size=500), prefetch=1)
        for batch, indices in zip(made, Order(batch_size=500), strict=True):
            assert_same_bytes(batch, x[indices])
            break
        iterator = iter(made)
        next(iterator)
        del iterator
        assert_same_bytes(next(iter(made)), x[Order(batch_size=500).batches[0]])
    del made, batch
    gc.collect()
    assert thread_count() == before


def test_an_abandoned_ring_is_not_written_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_BACKGROUND_BYTES", 0)
    x = numbers((N, 500))
    order = [np.arange(N)] * 6
    for _ in range(20):
        iterator = iter(sf.BatchLoader(x, order, prefetch=3))
        ring = next(iterator)
        iterator.close()
        ring[:] = 5
        assert (ring == 5).all()


def test_the_interpreter_ends_while_batches_are_on_their_way() -> None:
    program = (
        "import numpy as np, subgrad_fast as sf\n"
        "x = np.ones((1000, 5000), np.float32)\n"
        "iterators = [iter(sf.BatchLoader(x, [np.arange(1000)] * 9)) for _ in range(3)]\n"
        "for iterator in iterators: next(iterator)\n"
        "class Cycle: pass\n"
        "c = Cycle(); c.c = c; c.i = iter(sf.BatchLoader(x, [np.arange(1000)] * 9)); next(c.i)\n"
        "print('end')\n"
    )
    for _ in range(3):
        ran = subprocess.run(
            [sys.executable, "-c", program],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "end\n", "")


def fork_takes_the_rest(iterator: Iterator[Any], x: Any, batches: list[Any], answer: Any) -> None:
    same = [np.array_equal(batch, x[i]) for batch, i in zip(iterator, batches, strict=True)]
    fresh = sf.BatchLoader(x, batches)
    same += [np.array_equal(batch, x[i]) for batch, i in zip(fresh, batches, strict=True)]
    answer.put((len(same), all(same)))


@pytest.mark.skipif(not hasattr(multiprocessing, "Pipe") or sys.platform != "linux", reason="fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_in_the_middle(way: str) -> None:
    context = multiprocessing.get_context("fork")
    x = numbers((N, 3000)).copy()
    x[~np.isfinite(x)] = 0
    order = Order(batch_size=200).batches * 3
    for _ in range(5):
        iterator = iter(sf.BatchLoader(x, order, prefetch=3))
        assert np.array_equal(next(iterator), x[order[0]])
        answer = context.SimpleQueue()
        child = context.Process(target=fork_takes_the_rest, args=(iterator, x, order[1:], answer))
        child.start()
        # The parent goes on as if nothing had happened.
        for batch, i in zip(iterator, order[1:], strict=True):
            assert np.array_equal(batch, x[i])
        child.join(60)
        assert child.exitcode == 0
        assert answer.get() == (2 * len(order) - 2, True)


def test_loaders_in_many_threads(way: str) -> None:
    x, y = numbers((N, 40)), numbers((N,), "i8")
    wrong: list[int] = []

    def work(seed: int) -> None:
        order = Order(seed=seed)
        made = sf.BatchLoader((x, y), order)
        for _ in range(10):
            for (a, b), indices in zip(made, order, strict=True):
                if a.tobytes() != x[indices].tobytes() or b.tobytes() != y[indices].tobytes():
                    wrong.append(seed)

    assert run_threads(*(partial(work, seed) for seed in range(6))) == []
    assert wrong == []


# --- resuming -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [Order, StatefulOrder])
@pytest.mark.parametrize("prefetch", [1, 3])
def test_a_resume_neither_loses_nor_repeats(sampler: type[Order], prefetch: int, way: str) -> None:
    x = np.arange(N)

    def make() -> sf.BatchLoader:
        return sf.BatchLoader(x, sampler(batch_size=90), prefetch=prefetch, copy=True)

    def tail(made: sf.BatchLoader, count: int) -> list[list[int]]:
        batches: list[list[int]] = []
        while len(batches) < count:
            batches += [batch.tolist() for batch in made]
        return batches[:count]

    expected = tail(make(), 36)
    taken = 0
    whole = make()
    for _ in range(2):
        for batch in whole:
            assert batch.tolist() == expected[taken]
            taken += 1
            state = whole.state_dict()
            resumed = make()
            resumed.load_state_dict(state)
            assert resumed.state_dict() == state
            assert tail(resumed, 12) == expected[taken : taken + 12]
        between = whole.state_dict()
        resumed = make()
        resumed.load_state_dict(between)
        assert tail(resumed, 12) == expected[taken : taken + 12]
    assert taken == 24


def test_the_samplers_own_state_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above: what was drawn ahead is not what was taken."""
    monkeypatch.setattr(loader, "_BACKGROUND_BYTES", 0)
    sampler = StatefulOrder()
    made = sf.BatchLoader(np.arange(N), sampler, prefetch=3)
    iterator = iter(made)
    next(iterator)
    assert made.state_dict()["sampler"]["position"] == 1
    assert sampler.position == 4


@pytest.mark.parametrize("stop", [1, 4, 9])
def test_a_resume_on_more_ranks(stop: int, way: str) -> None:
    """One process is interrupted in the middle of an epoch; three go on."""
    x = np.arange(N)

    def make(**ranks: int) -> sf.BatchLoader:
        return sf.BatchLoader(x, sf.BatchSampler(N, 96, seed=3, **ranks), copy=True)

    whole = list(make())
    one = make()
    taken = list(itertools.islice(one, stop))
    state = one.state_dict()
    parts = []
    for rank in range(3):
        loaded = make(rank=rank, world_size=3)
        loaded.load_state_dict(state)
        parts.append(list(loaded))
    rest = [np.concatenate(shares) for shares in zip(*parts, strict=True)]
    assert np.array_equal(np.concatenate([*taken, *rest]), np.concatenate(whole))
    assert np.array_equal(np.sort(np.concatenate(whole)), x)


def test_states_of_others_are_refused() -> None:
    x = np.arange(N)
    state = sf.BatchLoader(x, StatefulOrder()).state_dict()
    with pytest.raises(ValueError, match=r"state\['sampler'\]: does not belong"):
        sf.BatchLoader(x, Order()).load_state_dict(state)
    with pytest.raises(ValueError, match="state: batches, sampler missing"):
        sf.BatchLoader(x, Order()).load_state_dict({"version": 1})
    with pytest.raises(ValueError, match=r"state\['version'\]: expected 1, got 7"):
        sf.BatchLoader(x, StatefulOrder()).load_state_dict({**state, "version": 7})


def test_set_epoch(way: str) -> None:
    x = np.arange(N)
    made = sf.BatchLoader(x, StatefulOrder(), copy=True)
    made.set_epoch(5)
    assert next(iter(made)).tolist() == ((Order().batches[0] + 5) % N).tolist()
    made.set_epoch(2)
    assert made.state_dict()["sampler"] == {"epoch": 2, "position": 0}
    with pytest.raises(TypeError, match="sampler: a Order has no set_epoch"):
        sf.BatchLoader(x, Order()).set_epoch(1)
