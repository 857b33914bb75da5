"""Samplers and loaders, whole epochs and those that are left in their middle."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

import subgrad_fast as sf
from subgrad_fast.loading import gathering
from tests.leaks.families import Call, Families, refused

family = Families()

LABELS = np.arange(120) % 5
SAMPLERS: dict[str, Callable[[], Any]] = {
    "batches": lambda: sf.BatchSampler(1000, 16, seed=1),
    "replaced": lambda: sf.BatchSampler(1000, 16, replacement=True, num_samples=90),
    "blocks": lambda: sf.BatchSampler(1000, 16, block_size=10, blocks_together=3),
    "weighted": lambda: sf.WeightedSampler(np.arange(100.0), 8),
    "distinct": lambda: sf.WeightedSampler(np.arange(100.0), 8, replacement=False),
    "balanced": lambda: sf.ClassBalancedSampler(LABELS, 8),
    "stratified": lambda: sf.StratifiedSampler(LABELS, 10, quotas=[2] * 5),
    "groups": lambda: sf.GroupSampler(LABELS, 2, 3),
}


def _of_sampler(name: str, make: Callable[[], Any]) -> None:
    def life() -> Call:
        def call() -> None:
            sampler = make()
            batches = iter(sampler)
            next(batches)
            other = pickle.loads(pickle.dumps(sampler))
            other.load_state_dict(sampler.state_dict())
            next(iter(other))  # and both are left in the middle of an epoch

        return call

    def refusals() -> Call:
        sampler = make()
        state = {**sampler.state_dict(), "position": -1}
        load = refused(ValueError)(lambda: sampler.load_state_dict(state))
        missing = refused(ValueError)(lambda: sampler.load_state_dict({}))
        return lambda: (load(), missing())

    family[f"sampler_{name}"] = life
    family[f"sampler_{name}_refused"] = refusals


for _name, _make in SAMPLERS.items():
    _of_sampler(_name, _make)


@family
def weights_that_change() -> Call:
    sampler = sf.WeightedSampler(np.arange(1.0, 101.0))
    bad = refused(ValueError)(lambda: sampler.update([0], [np.nan]))
    return lambda: (
        sampler.update([1, 2], [3.0, 4.0]),
        sampler.draw(10),
        sampler.weights,
        sampler.importance_weights([1, 2]),
        bad(),
    )


@family
def permutations() -> Call:
    order = sf.Permutation(10_000, seed=1)
    outside = refused(IndexError)(lambda: order[10_000])
    wrong = refused(ValueError)(lambda: order.slice(0, 5, out=np.zeros(4, np.int64)))
    return lambda: (
        order[5],
        order.position(order[[1, 2, -3]]),
        next(iter(order)),
        pickle.loads(pickle.dumps(order)),
        sf.choose(1000, 5, draw=3),
        outside(),
        wrong(),
    )


def _of_loader(background: bool) -> None:
    def life() -> Call:
        x, y = np.zeros((200, 8), np.float32), np.arange(200)
        strided = np.zeros((200, 8))[:, ::2]

        def call() -> None:
            limit, gathering._BACKGROUND_BYTES = (
                gathering._BACKGROUND_BYTES,
                0 if background else 1 << 60,
            )
            try:
                batches = sf.BatchLoader({"x": x, "y": y, "z": strided}, sf.BatchSampler(200, 16))
                left = iter(batches)
                next(left), next(left)
                assert len(list(zip(batches, range(3), strict=False))) == 3
                state = batches.state_dict()
                batches.load_state_dict(state)
                refused(ValueError)(lambda: batches.load_state_dict({}))()
                broken = sf.BatchLoader((x, y), [[0, 1], [2, 200]])
                refused(IndexError)(lambda: list(broken))()
            finally:
                gathering._BACKGROUND_BYTES = limit

        return call

    family["loader_ahead" if background else "loader_in_turn"] = life


_of_loader(background=True)
_of_loader(background=False)


@family
def loader_refused() -> Call:
    x = np.zeros((20, 2), np.float32)
    calls = [
        lambda: sf.BatchLoader((x, x[:-1]), [[0]]),
        lambda: sf.BatchLoader(x, [[0]], prefetch=0),
        lambda: sf.BatchLoader(x, iter([[0]])),
        lambda: sf.BatchLoader(None, [[0]]),
        lambda: list(sf.BatchLoader(x, ["text"])),
    ]
    return lambda: [refused(TypeError, ValueError)(call)() for call in calls]
