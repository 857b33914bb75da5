"""Lives of objects that several threads use at once: nothing crashes, hangs or leaves its range."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import torch

import subgrad_fast as sf
from subgrad_fast.loading import gathering as module
from subgrad_fast.optim import SGD, ThresholdSGD
from tests.fuzz.life import LEFT_OUT, Life
from tests.fuzz.rewritten import rewritten_indices, rewritten_rows, rewritten_values
from tests.fuzz.together import Job, in_range, together


def live(life: Life) -> None:
    scenes = [
        one_fused,
        one_optimizer,
        one_iterator,
        one_loader,
        one_weighted,
        rewritten_indices,
        rewritten_rows,
        rewritten_values,
        exit_meanwhile,
    ]
    scene = life.pick([scene for scene in scenes if scene.__name__ not in LEFT_OUT])
    life.note(scene.__name__)
    sf.set_num_threads(life.pick((0, 0, 1, 2)), adaptive=life.pick((True, False)))
    try:
        scene(life)
    finally:
        sf.set_num_threads(0)


def some(life: Life, jobs: dict[str, Job], always: str = "") -> list[Job]:
    """Two to four of the jobs, the named one among them; one may be there twice."""
    names = [always] if always else []
    while len(names) < life.number(2, 4):
        names.append(life.pick(list(jobs)))
    life.note(f"  {names}")
    return [jobs[name] for name in names]


# --- one object ----------------------------------------------------------------------------------


def one_fused(life: Life) -> None:
    sizes = life.pick(([200_000] * 3, [5, 7], [100_000, 3]))
    params = [np.ones(n, np.float32) for n in sizes]
    grads = [np.ones(n, np.float32) for n in sizes]
    step = sf.FusedSGD(params, lr=1e-3, momentum=life.pick((0.0, 0.9)))
    state = sf.FusedSGD(params, lr=1e-3, momentum=0.9).state_dict()

    def momentum() -> None:
        step.momentum = 0.9 if step.momentum == 0.0 else 0.0

    jobs: dict[str, Job] = {
        "step": lambda: step(grads),
        "state_dict": step.state_dict,
        "load": lambda: step.load_state_dict(state),
        "momentum": momentum,
    }
    together(life, some(life, jobs, "step"))
    step(grads)
    life.check(all(np.isfinite(p).all() for p in params), "not finite")


def one_optimizer(life: Life) -> None:
    sizes = life.pick(([200_000] * 3, [5, 7], [100_000, 3]))
    params = [torch.nn.Parameter(torch.ones(n)) for n in sizes]
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer: Any = SGD(params, lr=1e-3, momentum=0.9)
    if life.chance(0.4):
        optimizer = ThresholdSGD(params, lr=1e-3, momentum=0.9, density=0.1)
    optimizer.step()
    state = optimizer.state_dict()

    def tolerant(job: Job) -> Job:
        def run() -> None:
            try:
                job()
            except (KeyError, RuntimeError) as error:  # torch's code walks through its dicts
                if "changed size" not in str(error) and not isinstance(error, KeyError):
                    raise

        return run

    jobs: dict[str, Job] = {
        "step": optimizer.step,
        "state_dict": tolerant(optimizer.state_dict),
        "load": tolerant(lambda: optimizer.load_state_dict(state)),
        "clear": tolerant(optimizer.state.clear),
        "zero_grad": lambda: optimizer.zero_grad(set_to_none=False),
    }
    together(life, some(life, jobs, "step"))
    optimizer.step()
    life.check(all(p.isfinite().all() for p in params), "not finite")


def one_iterator(life: Life) -> None:
    """A sampler, and an iterator that all take from."""
    n = life.pick((100, 9000))
    sampler = sf.BatchSampler(n, life.pick((1, 7, 64, None)), seed=life.number(0, 9))
    state = sampler.state_dict()
    current = [iter(sampler)]

    def take() -> None:
        for _ in range(50):
            rows = next(current[0], None)
            if rows is None:
                current[0] = iter(sampler)
            else:
                in_range(life, rows, n)

    jobs: dict[str, Job] = {
        "take": take,
        "state_dict": sampler.state_dict,
        "load": lambda: sampler.load_state_dict(state),
        "epoch": lambda: sampler.set_epoch(sampler.epoch + 1),
        "batch": lambda: in_range(life, sampler.batch(0), n),
        "its state": lambda: current[0].load_state_dict(current[0].state_dict()),
    }
    together(life, some(life, jobs, "take"))
    seen = np.concatenate([np.atleast_1d(rows) for rows in _whole_epoch(sampler)])
    life.check(np.array_equal(np.sort(seen), np.arange(n)), "the next epoch is not whole")


def _whole_epoch(sampler: Any) -> list[Any]:
    sampler.set_epoch(sampler.epoch + 1)
    return list(sampler)


def one_loader(life: Life) -> None:
    """A loader, from which each thread takes by iterators of its own, or all by one."""
    n = 2000
    x = np.arange(n)[:, None] * np.ones(life.pick((1, 300)), np.int64)
    usual = module._BACKGROUND_BYTES
    module._BACKGROUND_BYTES = life.pick((0, usual, sys.maxsize))
    try:
        loader = sf.BatchLoader(x, sf.BatchSampler(n, life.pick((10, 300)), seed=3))
        state = loader.state_dict()
        shared = [iter(loader)]

        def own() -> None:
            for batch, _ in zip(loader, range(9), strict=False):
                life.check((batch == batch[:, :1]).all(), "a row of two")
                in_range(life, batch[:, 0], n)

        def take() -> None:
            try:
                if next(shared[0], None) is None:
                    shared[0] = iter(loader)
            except ValueError as error:
                if "generator already executing" not in str(error):
                    raise

        jobs: dict[str, Job] = {
            "own": own,
            "take": take,
            "state_dict": loader.state_dict,
            "load": lambda: loader.load_state_dict(state),
            "epoch": lambda: loader.set_epoch(7),
        }
        together(life, some(life, jobs, "own"))
        loader.set_epoch(loader.sampler.epoch + 1)
        life.check(sum(len(batch) for batch in loader) == n, "the next epoch is not whole")
    finally:
        module._BACKGROUND_BYTES = usual


def one_weighted(life: Life) -> None:
    n = life.pick((5, 3000))
    sampler = sf.WeightedSampler(
        np.ones(n), life.pick((2, 5)), seed=1, replacement=life.chance(0.7)
    )
    state = sampler.state_dict()
    rows = np.arange(3)

    def take() -> None:
        for batch, _ in zip(sampler, range(9), strict=False):
            in_range(life, batch, n)

    jobs: dict[str, Job] = {
        "take": take,
        "draw": lambda: in_range(life, sampler.draw(min(n, 50)), n),
        "update": lambda: sampler.update(rows, np.random.default_rng().random(3) + 0.1),
        "huge": lambda: sampler.update([0], [1e30]),
        "weights": lambda: sampler.weights,
        "importance": lambda: sampler.importance_weights(rows),
        "state_dict": sampler.state_dict,
        "load": lambda: sampler.load_state_dict(state),
    }
    together(life, some(life, jobs))
    in_range(life, sampler.draw(min(n, 50)), n)


# --- the end of the interpreter ------------------------------------------------------------------

_ENDING = """
import threading, time
import numpy as np
import subgrad_fast as sf
x, w, v = (np.ones(3_000_000, np.float32) for _ in range(3))
step = sf.FusedSGD(w, lr=1e-3, momentum=0.9)
loader = sf.BatchLoader(x.reshape(-1, 100), [np.arange(30_000)] * 9)
def work():
    while True:
        {job}
for _ in range({threads}):
    threading.Thread(target=work, daemon=True).start()
time.sleep({seconds})
"""


def exit_meanwhile(life: Life) -> None:
    """An interpreter ends while daemon threads are at work: it exits with 0, and says nothing."""
    job = life.pick(
        (
            "sf.sgd_step(v, x, lr=0.1)",
            "sf.select(x, k=5)",
            "list(loader)",
            "sf.threshold_step(w, x, v, lr=0.1, density=0.01)",
            "sf.Permutation(3_000_000)[:]",
            "sf.soft_threshold_(v, 0.1)",
        )
        + (() if "one_fused" in LEFT_OUT else ("step(x)",))
    )
    code = _ENDING.format(job=job, threads=life.number(1, 3), seconds=life.rng.random() * 0.1)
    life.note(f"  {job}")
    life.counts["calls"] += 1
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=40, check=False
    )
    life.check(ran.returncode == 0, f"exits with {ran.returncode}: {ran.stderr[-300:]}")
