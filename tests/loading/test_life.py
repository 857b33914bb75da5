"""The life of a BatchLoader: memory, ends, forks, threads, resumes."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast.loading import gathering
from tests.bits import assert_same_bytes
from tests.loading.orders import N, Order, StatefulOrder, numbers
from tests.threads import run_threads

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")

# --- batches are the caller's -------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [1, 2, 5])
def test_batches_may_be_kept_for_ever(prefetch: int, way: str) -> None:
    x = numbers((N, 3))
    order = Order()
    kept: list[np.ndarray] = []
    for _ in range(3):
        kept += sf.BatchLoader(x, order, prefetch=prefetch)
    for batch, indices in zip(kept, order.batches * 3, strict=True):
        assert batch.flags.writeable
        assert_same_bytes(batch, x[indices])
    addresses = {batch.ctypes.data for batch in kept}
    assert len(addresses) == len(kept)


def test_memory_comes_back_when_nothing_shows_it(way: str) -> None:
    x = numbers((4096, 3))
    loader = sf.BatchLoader(x, Order(4096), prefetch=2)
    addresses = {batch.ctypes.data for _ in range(3) for batch in loader}
    assert len(addresses) <= 6  # of 384 batches


@pytest.mark.parametrize("shown", ["view", "memoryview", "transposed", "tensor"])
def test_any_view_keeps_its_batch(shown: str, way: str) -> None:
    x = np.arange(2 * N, dtype=np.float32).reshape(N, 2)
    if shown == "tensor":
        torch = pytest.importorskip("torch")
    show: Callable[[np.ndarray], Any] = {
        "view": lambda batch: batch[:1, 1],
        "memoryview": memoryview,
        "transposed": lambda batch: batch.T,
        "tensor": lambda batch: torch.from_numpy(batch)[0],
    }[shown]
    order = Order()
    views = [show(batch) for batch in sf.BatchLoader(x, order)]
    for view, indices in zip(views, order, strict=True):
        assert np.array_equal(np.asarray(view), show(x[indices]))


def test_batches_are_written_to_sent_and_given_back_elsewhere(way: str) -> None:
    x = np.arange(N)
    kept: list[np.ndarray] = []
    order = Order()

    def take_over() -> None:
        for batch in kept:
            np.add(batch, 1, out=batch)
        kept.clear()

    for _ in range(5):
        for batch, indices in zip(sf.BatchLoader(x, order), order, strict=True):
            assert np.array_equal(batch, indices)
            kept.append(batch)
            batch[:] = -1
        assert run_threads(take_over) == []


@needs_proc
def test_memory_is_bounded_and_returned() -> None:
    """(Resident memory: what the system says, in batches of 4 MB.)"""
    mb = 1 << 20
    x = np.zeros((64, mb), np.uint8)
    order = [np.arange(4)] * 40

    def batches() -> float:
        """Of memory, more than before."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return (pages * resource.getpagesize() - before) / (4 * mb)

    before = 0.0
    x[:] = 1
    gc.collect()
    before = batches() * 4 * mb
    loader = sf.BatchLoader(x, order, prefetch=2)
    most = max(batches() for _ in loader)
    assert most < 7  # two in the caller's hands, two on their way, two spare
    kept = list(loader)
    assert batches() > 39  # the control
    del kept
    assert batches() < 7
    kept = list(itertools.islice(loader, 3))
    loader.close()
    assert 2.5 < batches() < 4.5
    del kept
    assert batches() < 1.5
    assert sum(1 for _ in loader) == 40  # it may be gone through again
    del loader
    gc.collect()
    assert batches() < 1.5


def test_a_closed_loader_ends_its_passes(way: str) -> None:
    x = np.arange(N)
    with sf.BatchLoader(x, Order()) as loader:
        passes = [iter(loader), iter(loader)]
        kept = [next(p) for p in passes]
    assert [list(p) for p in passes] == [[], []]
    assert all(np.array_equal(batch, Order().batches[0]) for batch in kept)
    loader.close()
    assert len(list(loader)) == 32


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


@needs_proc
def test_the_thread_ends_with_the_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_BACKGROUND_BYTES", 0)
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


def test_what_is_kept_of_an_abandoned_pass_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_BACKGROUND_BYTES", 0)
    x = numbers((N, 500))
    order = [np.arange(N)] * 6
    for _ in range(20):
        iterator = iter(sf.BatchLoader(x, order, prefetch=3))
        batch = next(iterator)
        iterator.close()
        batch[:] = 5
        assert (batch == 5).all()


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
        return sf.BatchLoader(x, sampler(batch_size=90), prefetch=prefetch)

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
    monkeypatch.setattr(gathering, "_BACKGROUND_BYTES", 0)
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
        return sf.BatchLoader(x, sf.BatchSampler(N, 96, seed=3, **ranks))

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
        sf.BatchLoader(x, Order()).load_state_dict({"version": 2})
    with pytest.raises(ValueError, match=r"state\['version'\]: expected 2, got 7"):
        sf.BatchLoader(x, StatefulOrder()).load_state_dict({**state, "version": 7})


def test_set_epoch(way: str) -> None:
    x = np.arange(N)
    made = sf.BatchLoader(x, StatefulOrder())
    made.set_epoch(5)
    assert next(iter(made)).tolist() == ((Order().batches[0] + 5) % N).tolist()
    made.set_epoch(2)
    assert made.state_dict()["sampler"] == {"epoch": 2, "position": 0}
    with pytest.raises(TypeError, match="sampler: a Order has no set_epoch"):
        sf.BatchLoader(x, Order()).set_epoch(1)
