"""Scenes in which what a call reads is written to by another thread."""

from __future__ import annotations

import sys

import numpy as np

import subgrad_fast as sf
from subgrad_fast.loading import gathering as module
from tests.fuzz.life import Life
from tests.fuzz.together import Job, in_range, together


def rewritten_indices(life: Life) -> None:
    """Indices of a loader that another thread makes wrong and right again."""
    x, indices = np.zeros((1000, 8), np.float32), np.zeros(7000, np.int64)
    usual = module._BACKGROUND_BYTES
    module._BACKGROUND_BYTES = life.pick((0, sys.maxsize))
    try:
        loader = sf.BatchLoader(x, [indices] * 50)
        together(life, [lambda: list(loader), _writer(indices, 2**40)], allowed=(IndexError,),
                 seconds=1.0)  # fmt: skip
    finally:
        module._BACKGROUND_BYTES = usual


def _writer(array: np.ndarray, wrong: float) -> Job:
    def write() -> None:
        for _ in range(20):
            array[:] = wrong
            array[:] = 0

    return write


def rewritten_rows(life: Life) -> None:
    """Row numbers of a step, positions of an order, rows of an update: all are looked at once."""
    rows = np.zeros(20_000, np.int64)
    table, values = np.zeros((1000, 4), np.float32), np.ones((rows.size, 4), np.float32)
    order = sf.Permutation(1000)
    weighted = sf.WeightedSampler(np.ones(1000), 10)
    jobs: dict[str, Job] = {
        "row_step": lambda: sf.row_step(table, (rows, values), lr=0.1),
        "take": lambda: in_range(life, order.take(rows), 1000),
        "position": lambda: in_range(life, order.position(rows), 1000),
        "update": lambda: weighted.update(rows, 1.0),
    }
    name = life.pick(list(jobs))
    life.note(f"  {name}")
    together(life, [jobs[name], _writer(rows, 2**40)], allowed=(IndexError, ValueError),
             seconds=1.0)  # fmt: skip


def rewritten_values(life: Life) -> None:
    """Gradients and weights that grow and shrink while it is counted which are large."""
    n = life.pick((3000, 300_000))
    x = np.zeros(n, np.float32)
    w, v = np.zeros(n, np.float32), np.zeros(n, np.float32)
    amount = life.pick(({"density": 0.01}, {"density": 0.5}, {"threshold": 0.5}, {"k": 7}))
    jobs: dict[str, Job] = {
        "select": lambda: sf.select(x, **amount),
        "select two": lambda: sf.select([x, x], scope="global", **amount),
        "kth": lambda: sf.kth_magnitude(x, 7),
        "threshold": lambda: sf.threshold_step(w, x, v, lr=0.1, emit="int64", **amount),
        "sampled": lambda: sf.threshold_step(w, x, v, lr=0.1, emit="int32",
                                             selector=sf.Sampled(0.01)),
        "hard": lambda: sf.hard_threshold_(x, **amount),
        "step": lambda: sf.sgd_step(w, x, lr=0.1),
    }  # fmt: skip
    name = life.pick(list(jobs))
    life.note(f"  {name} {amount}")

    def write() -> None:
        x[:] = np.arange(n)
        x[::3] = 0

    together(life, [jobs[name], write], seconds=0.6)
