"""Many threads on the border, for ThreadSanitizer: `python -m tests.tsan.border [race | shared]`.

Every thread has its own arrays; what several share (a gradient, a sampler, weights) is what they
may share. "race" is the control: two threads step one array, which must be reported. In "shared"
all threads call one object that holds arrays.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

import subgrad_fast as sf
from subgrad_fast import _core
from subgrad_fast.loading import gathering
from tests.threads import run_threads

THREADS = 4
TURNS = 6

# Enough that the GIL is released, and that regions are entered.
N = 70_000


def array(seed: int, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32)


def steps(shared: np.ndarray) -> None:
    w, v = array(1), np.zeros(N, np.float32)
    step = sf.FusedSGD(w, lr=0.1, momentum=0.9)
    for turn in range(TURNS):
        step(shared)
        sf.sgd_step([w[::2], w[1::2]], [shared[::2], shared[1::2]], lr=0.1)
        selector = (sf.Exact(k=100), sf.Sampled(0.01), sf.Reused(0.01))[turn % 3]
        sf.threshold_step(w, shared, v, lr=0.1, selector=selector, emit="int64", measure=True)


def choices(shared: np.ndarray) -> None:
    table = array(2).reshape(-1, 10)
    rows = np.arange(20_000) % 701
    values = np.ones((20_000, 10), np.float32)
    for _ in range(TURNS):
        sf.select(shared, k=100)
        sf.select([shared, shared[::2]], density=0.3, scope="global")
        sf.row_step(table, (rows, values), lr=0.1)
        sf.hard_threshold_(table, density=0.9)
        sf.Mask([table]).apply()


def samplers(weighted: sf.WeightedSampler, order: sf.Permutation) -> None:
    for turn in range(TURNS):
        weighted.draw(5000)
        weighted.importance_weights([1, 2, 3])
        weighted.update(np.arange(turn, 5000), np.full(5000 - turn, turn + 1.0))
        assert np.array_equal(order.position(order[:5000]), np.arange(5000))
        sampler = sf.BatchSampler(20_000, 512, seed=turn)
        for batch, _ in zip(sampler, range(5), strict=False):
            assert len(batch) == 512


def loaders(x: np.ndarray) -> None:
    labels = np.arange(len(x))
    for turn in range(TURNS):
        batches = sf.BatchLoader((x, labels), sf.BatchSampler(len(x), 700), prefetch=1 + turn % 3)
        for (rows, numbers), _ in zip(batches, range(8), strict=False):  # left in mid-epoch
            assert np.array_equal(rows[:, 0], numbers.astype(np.float32))
            rows[:] = 0


def buffers(like: np.ndarray) -> None:
    class Capsule:
        def __dlpack__(self, **_: object) -> object:
            return _core.optimizer.new_buffer(like, True)

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    for _ in range(20 * TURNS):
        np.from_dlpack(Capsule())


def race() -> None:
    w, g = array(1), array(2)
    run_threads(*[lambda: [sf.sgd_step(w, g, lr=0.1) for _ in range(200)]] * 2)


def shared_objects() -> None:
    gradient = array(2)
    step = sf.FusedSGD(array(1), lr=0.1, momentum=0.9)
    assert run_threads(*[lambda: [step(gradient) for _ in range(20)]] * THREADS) == []


def main() -> None:
    if sys.argv[1:] == ["race"]:
        return race()
    if sys.argv[1:] == ["shared"]:
        return shared_objects()
    gathering._BACKGROUND_BYTES = 0
    shared = array(0)
    x = np.tile(np.arange(6000, dtype=np.float32)[:, None], (1, 40))
    weighted, order = sf.WeightedSampler(np.ones(5000)), sf.Permutation(5000, seed=1)
    jobs: list[Callable[[], None]] = [
        lambda: steps(shared),
        lambda: choices(shared),
        lambda: samplers(weighted, order),
        lambda: loaders(x),
        lambda: buffers(shared),
    ]
    for job in jobs:  # threads that do the same, and then all of them at once
        assert run_threads(*[job] * THREADS) == []
    assert run_threads(*jobs) == []
    print("border: all jobs done")
    return None


if __name__ == "__main__":
    main()
