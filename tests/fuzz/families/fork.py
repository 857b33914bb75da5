"""Lives of processes that fork: the child steps, samples and loads, and the parent goes on."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

import subgrad_fast as sf
from subgrad_fast.loading import gathering as module
from subgrad_fast.optim import SGD
from tests.fuzz.life import LEFT_OUT, Life
from tests.fuzz.processes import fork, join


def live(life: Life) -> None:
    usual = module._BACKGROUND_BYTES
    module._BACKGROUND_BYTES = life.pick((0, usual, sys.maxsize))
    sf.set_num_threads(life.pick((0, 1, 2)))
    scenes = [in_mid_iteration, with_all_alive, while_threads_work]
    scene = life.pick([scene for scene in scenes if scene.__name__ not in LEFT_OUT])
    life.note(scene.__name__)
    try:
        scene(life)
    finally:
        module._BACKGROUND_BYTES = usual
        sf.set_num_threads(0)


class Things:
    """One of each object, large enough for threads, with right answers that are easy to tell."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.n = life.pick((100, 100_000))
        self.w, self.ones = np.zeros(self.n, np.float32), np.ones(self.n, np.float32)
        self.fused = sf.FusedSGD(self.w, lr=1.0)
        self.param = torch.nn.Parameter(torch.zeros(self.n))
        self.param.grad = torch.ones(self.n)
        self.optimizer = SGD([self.param], lr=1.0)
        self.order = sf.BatchSampler(1000, 30, seed=life.number(0, 9))
        self.weighted = sf.WeightedSampler(np.arange(1, 9), 4)
        self.x = np.arange(1000)[:, None] * np.ones(200, np.int64)
        self.loader = sf.BatchLoader(self.x, self.order)

    def step(self) -> None:
        before = float(self.w[0])
        self.fused(self.ones)
        self.life.check((self.w == before - 1).all(), "a step")

    def step_tensor(self) -> None:
        before = float(self.param.detach().numpy()[0])
        self.optimizer.step()
        self.life.check((self.param.detach().numpy() == before - 1).all(), "a step of torch's")

    def select(self) -> None:
        found = sf.select(np.arange(self.n, dtype=np.float32), k=3)
        self.life.check(found.indices.tolist() == [self.n - 3, self.n - 2, self.n - 1], "select")

    def draw(self) -> None:
        rows = self.weighted.draw(1000)
        self.life.check(((rows >= 0) & (rows < 8)).all(), "draws")

    def permute(self) -> None:
        rows = sf.Permutation(100_000)[:]
        self.life.check(np.unique(rows).size == rows.size, "an order")

    def load(self) -> None:
        loader = sf.BatchLoader(self.x, sf.BatchSampler(1000, 30, seed=5))
        self.life.check(sorted(_first_column(loader)) == list(range(1000)), "an epoch")

    def all(self) -> list[Callable[[], None]]:
        every = [self.step, self.step_tensor, self.select, self.draw, self.permute, self.load]
        return self.life.rng.sample(every, len(every))


def _first_column(batches: Any) -> list[int]:
    rows: list[int] = []
    for batch in batches:
        assert (batch == batch[:, :1]).all()
        rows += batch[:, 0].tolist()
    return rows


def _do(life: Life, jobs: list[Callable[[], None]]) -> None:
    for job in jobs:
        life.note(f"  {job.__name__}")
        life.counts["calls"] += 1
        job()


def in_mid_iteration(life: Life) -> None:
    """Parent and child both take the rest of an epoch."""
    things = Things(life)
    wanted = sorted(range(1000))
    iterator: Iterator[Any] = iter(things.loader)
    taken = [next(iterator) for _ in range(life.number(0, 6))]
    rows = sf.BatchSampler(1000, 30, seed=things.order.seed)
    seen = np.concatenate([np.empty(0, int), *[rows.batch(i) for i in range(len(taken))]]).tolist()

    def child() -> None:
        life.check(sorted(seen + _first_column(iterator)) == wanted, "the rest of the epoch")
        _do(life, things.all())
        life.check(len(_first_column(things.loader)) == 1000, "the next epoch")

    children = [fork(life, child) for _ in range(life.number(1, 2))]
    life.check(sorted(seen + _first_column(iterator)) == wanted, "the parent's rest")
    _do(life, things.all())
    for number in children:
        join(number)


def with_all_alive(life: Life) -> None:
    """Everything has been used before, the threads of the pool and of the loader have begun."""
    things = Things(life)
    _do(life, things.all())
    iterator = iter(things.loader)
    next(iterator)

    def child() -> None:
        _do(life, things.all())
        if life.chance(0.3):
            join(fork(life, lambda: _do(life, things.all())))

    number = fork(life, child)
    _do(life, things.all())
    join(number)
    life.check(len(_first_column(iterator)) == 970, "the parent's rest")


def while_threads_work(life: Life) -> None:
    """Other threads are in the middle of calls; the child has things of its own, or the same."""
    busy, own = Things(life), Things(life)
    same = life.chance(0.3) and "same things" not in LEFT_OUT
    jobs = busy.all()[: life.number(1, 3)]
    life.note(f"  at work: {[job.__name__ for job in jobs]}, same things: {same}")
    stop = threading.Event()
    wrong: list[BaseException] = []

    def work(job: Callable[[], None]) -> None:
        while not stop.is_set():
            try:
                job()
            except BaseException as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=work, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    try:
        for _ in range(life.number(1, 4)):
            # What the threads have left half done is not looked at.
            tasks = [lambda: busy.fused(busy.ones), busy.optimizer.step, busy.draw] if same else []
            number = fork(life, lambda tasks=tasks: _do(life, [*tasks, *own.all()]))
            _do(life, own.all())
            join(number)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    life.check(not wrong, f"in a thread of the parent: {wrong[:1]}")
