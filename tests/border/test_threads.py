"""One object and several threads: calls come one after the other, and nothing is read that goes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from functools import partial
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from tests.threads import run_threads

THREADS, STEPS = 4, 25


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_one_fused_sgd_steps_as_often_as_it_is_called(momentum: float) -> None:
    def params() -> list[np.ndarray]:
        return [np.ones(n, np.float32) for n in (100_000, 7, 30_000)]

    def work(step: sf.FusedSGD, times: int) -> None:
        for _ in range(times):
            step([np.ones_like(p) for p in step.params])  # each with gradients of its own

    shared, alone = (sf.FusedSGD(params(), lr=0.25, momentum=momentum) for _ in range(2))
    assert run_threads(*[partial(work, shared, STEPS)] * THREADS) == []
    work(alone, THREADS * STEPS)
    for a, b in zip(shared.params, alone.params, strict=True):
        assert np.array_equal(a, b)


def test_states_are_read_and_loaded_between_steps() -> None:
    step = sf.FusedSGD([np.zeros(50_000, np.float32) for _ in range(2)], lr=0.0, momentum=1.0)
    grads = [np.ones(50_000, np.float32)] * 2
    step(grads)
    start = step.state_dict()
    stop = threading.Event()

    def steps() -> None:
        while not stop.is_set():
            step(grads)

    def states() -> None:
        for _ in range(200):
            for buffer in step.state_dict()["momentum_buffers"]:
                assert (buffer == buffer[0]).all()  # never of half a step
            step.load_state_dict(start)
        stop.set()

    assert run_threads(steps, steps, states) == []


def test_a_step_within_a_step_is_refused() -> None:
    class Stepping:
        """An array whose own code steps the optimizer that asks for it."""

        def __dlpack_device__(self) -> tuple[int, int]:
            step(np.ones(3, np.float32))
            return (1, 0)

        def __dlpack__(self, **kwargs: Any) -> Any:
            return np.ones(3, np.float32).__dlpack__(**kwargs)

    w = np.zeros(3, np.float32)
    step = sf.FusedSGD(w, lr=1.0)
    with pytest.raises(RuntimeError, match=r"^grads: an array among them steps"):
        step(Stepping())
    assert (w == 0).all()
    step(np.ones(3, np.float32))
    assert (w == -1).all()


@pytest.mark.parametrize("batch_size", [None, 5, 64])
def test_threads_share_an_iterator(batch_size: int | None) -> None:
    sampler = sf.BatchSampler(20_000, batch_size, seed=2)
    iterator = iter(sampler)
    parts: list[list[Any]] = [[] for _ in range(THREADS)]

    def work(part: list[Any]) -> None:
        part.extend(iterator)

    assert run_threads(*(partial(work, part) for part in parts)) == []
    rows = np.concatenate([np.atleast_1d(item) for part in parts for item in part])
    assert np.array_equal(np.sort(rows), np.arange(20_000))
    assert sampler.epoch == 1


def test_threads_share_an_iteration_over_a_loader() -> None:
    x = np.arange(20_000 * 64, dtype=np.float32).reshape(-1, 64)
    for rows in (16, 2_000):  # in turn, in the background
        iterator = iter(sf.BatchLoader(x, sf.BatchSampler(len(x), rows, seed=2)))
        parts: list[list[Any]] = [[] for _ in range(THREADS)]

        def work(part: list[Any], iterator: Any = iterator) -> None:
            part.extend(iterator)

        assert run_threads(*(partial(work, part) for part in parts)) == []
        first = np.concatenate([batch[:, 0] for part in parts for batch in part])
        assert np.array_equal(np.sort(first), x[:, 0])


def run_script(code: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """A process of its own, since what is tested for ends it."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds, check=False
    )


def test_indices_that_another_thread_rewrites() -> None:
    done = run_script("""
import threading, time
import numpy as np, subgrad_fast as sf

x, rows = np.zeros((1000, 8), np.float32), np.zeros(7000, np.int64)
table = np.zeros((1000, 4), np.float32)

def write():
    while True:
        rows[:] = 2**40
        rows[:] = 0

threading.Thread(target=write, daemon=True).start()
end = time.monotonic() + 3
while time.monotonic() < end:
    try:
        for _ in sf.BatchLoader(x, [rows] * 50):
            pass
        sf.row_step(table, (rows, np.ones((7000, 4), np.float32)), lr=0.1)
        sf.Permutation(1000).take(np.zeros(7000, np.int64), out=rows)
    except (IndexError, ValueError):
        pass
""")
    assert done.returncode == 0, done.stderr


def test_weights_that_another_thread_rewrites_and_draws_beyond_what_is_left() -> None:
    done = run_script("""
import threading, time
import numpy as np, subgrad_fast as sf

weights = np.ones(5000)
sampler = sf.WeightedSampler(np.ones(5000), replacement=False)
few = np.zeros(5000)
few[:10] = 1.0

def write():
    while True:
        weights[:] = np.nan
        weights[:] = 1.0

def update():
    while True:
        sampler.update(np.arange(5000), few)
        sampler.update(np.arange(5000), np.ones(5000))

for target in (write, update):
    threading.Thread(target=target, daemon=True).start()
end = time.monotonic() + 3
while time.monotonic() < end:
    try:
        rows = sampler.draw(4000)
        assert 0 <= rows.min() and rows.max() < 5000
        drawn = sf.WeightedSampler(weights).draw(2000)
        assert 0 <= drawn.min() and drawn.max() < 5000
    except ValueError:
        pass
""")
    assert done.returncode == 0, done.stderr


REWRITTEN = {
    "weights": "made = sf.WeightedSampler(weights)",
    "updates": "made.update(np.arange(N), weights)",
    "rows of updates": "made.update(positions, np.ones(N))",
    "rows": "made.importance_weights(positions)",
    "positions": "sf.Permutation(N).take(positions)",
    "indices": "list(sf.BatchLoader(table, [positions] * 3))",
    "rows of a step": "sf.row_step(table, (positions, np.ones((N, 2), np.float32)), lr=0.0)",
}


@pytest.mark.parametrize("kind", REWRITTEN)
def test_what_is_checked_is_a_copy(kind: str) -> None:
    """Arrays of that size are rewritten without the GIL, while the library looks at them."""
    done = run_script(f"""
import contextlib, threading, time
import numpy as np, subgrad_fast as sf

N = 50_000
weights, positions = np.ones(N), np.zeros(N, np.int64)
made = sf.WeightedSampler(np.ones(N))
table = np.zeros((N, 2), np.float32)

def write(array, wrong, right):
    while True:
        array[:] = wrong
        array[:] = right

written = (weights, np.nan, 1.0) if {"weights" in REWRITTEN[kind]} else (positions, 2**40, 0)
threading.Thread(target=write, args=written, daemon=True).start()
end = time.monotonic() + 2
while time.monotonic() < end:
    with contextlib.suppress(IndexError, ValueError):
        {REWRITTEN[kind]}
    assert np.isfinite(made.weights).all()
    assert (positions >= 0).all()
""")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("work", ["step(g)", "sf.select(g, k=10)", "sampler.draw(200_000)"])
def test_daemon_threads_do_not_disturb_the_end(work: str) -> None:
    """Python ends a thread that asks for the GIL then, by unwinding it, or lets it hang."""
    done = run_script(f"""
import threading, time
import numpy as np, subgrad_fast as sf

g = np.ones(3_000_000, np.float32)
step = sf.FusedSGD(np.ones_like(g), lr=0.1, momentum=0.9)
sampler = sf.WeightedSampler(np.ones(1000))

def forever():
    while True:
        {work}

for _ in range(3):
    threading.Thread(target=forever, daemon=True).start()
time.sleep(0.3)
""")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_end_does_not_wait_for_a_daemon_thread_that_rests_in_its_turn() -> None:
    done = run_script("""
import sys, threading, time, types
import numpy as np, subgrad_fast as sf

g = np.ones(3_000_000, np.float32)
step = sf.FusedSGD(np.ones_like(g), lr=0.1, momentum=0.9)

class Last:
    def __del__(self, step=step, g=g):
        try:
            step(g)
        except RuntimeError as error:
            assert str(error) == "the interpreter is shutting down"

def forever():
    while True:
        step(g)

sys.modules["held"] = types.ModuleType("held")  # this one's names outlive it: the thread holds them
sys.modules["held"].last = Last()
threading.Thread(target=forever, daemon=True).start()
time.sleep(0.3)
""")
    assert (done.returncode, done.stderr) == (0, "")


# What a thread of the parent is in the middle of when it forks, and what its child then does.
BUSY = {
    "step": """
class Gradient:
    def __dlpack_device__(self):
        stay()
        return (1, 0)

    def __dlpack__(self, **kwargs):
        return np.ones(3, np.float32).__dlpack__(**kwargs)

step = sf.FusedSGD(np.ones(3, np.float32), lr=0.1, momentum=0.9)
busy, call = lambda: step(Gradient()), lambda: step(np.ones(3, np.float32))
""",
    "sampler": """
class Sampler(sf.BatchSampler):
    def rows(self, *where):
        stay()
        return super().rows(*where)

iterator = iter(Sampler(9, 2))
busy = call = lambda: next(iterator)
""",
    "weights": """
sampler = sf.WeightedSampler(np.ones(1000))

def busy():
    stay()
    while True:
        sampler.draw(3_000_000)

opened.set()
call = lambda: sampler.update([0], [2.0])
""",
}
FORK = """
import os, signal, sys, threading, time
import numpy as np, subgrad_fast as sf

entered, opened = threading.Event(), threading.Event()

def stay():
    if threading.current_thread() is not threading.main_thread():
        entered.set()
        opened.wait()
{}
threading.Thread(target=busy, daemon=True).start()
entered.wait()
time.sleep(0.1)
child = os.fork()
if child == 0:
    signal.alarm(30)  # which ends it where a lock is never given back
    call()
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("kind", BUSY)
def test_a_child_does_not_wait_for_threads_of_its_parent(kind: str) -> None:
    done = run_script(FORK.format(BUSY[kind]))
    assert done.returncode == 0, done.stderr
