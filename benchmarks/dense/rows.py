"""The dense SGD step against torch's and NumPy's, inside a training loop and alone.

Rows named `loop-*` time `step()` in a real training loop, after a real forward and backward;
`between-*` time all that stands between backward and forward, `zero-grad-*` the end of that, and
`training-*` all that an iteration does beside both. The others repeat the step on the same arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain

import torch

from benchmarks.dense import clip, odd, peers
from benchmarks.dense.peers import CLIPPED, FORGETTING, NUMPY, TRAINING, TRIAD
from benchmarks.dense.workloads import mixed_shapes
from subgrad_fast.bench.harness import OURS, Contender, Row, Subject, Target
from subgrad_fast.bench.sgd import DEFAULT, FOREACH, FUSED, OURS_F32
from subgrad_fast.bench.workloads import resnet50_shapes

STEP_BYTES, STEP_READS, TRIAD_BYTES = 20, 12, 16
"""Per float32 element. A step reads weight, momentum and gradient, and writes two of them."""


def on_threads(
    speedups: Mapping[int, float],
    *,
    name: str,
    title: str,
    build: Callable[[], list[Contender]],
    block: int,
    budget_s: float,
) -> list[Row]:
    """One row a thread count; `speedups` says how many times torch fused's speed is asked."""
    return [
        Row(
            name=name,
            title=title,
            threads=threads,
            build=build,
            targets=[Target(FUSED, 1 / speedup), Target(FOREACH), Target(DEFAULT)],
            block=block,
            budget_s=budget_s,
        )
        for threads, speedup in speedups.items()
    ]


def loop_rows() -> list[Row]:
    """Build the rows that a user feels: backward has just made fresh gradients, caches are cold."""
    loop = peers.in_the_loop
    return [
        *on_threads(
            {1: 2.8, 2: 4},
            name="loop-64",
            title="in the loop: 80 x Linear(64)+ReLU, batch 16, 160 tensors",
            build=partial(loop, depth=80, width=64),
            block=8,
            budget_s=20,
        ),
        *on_threads(
            {1: 6, 2: 6},
            name="loop-8",
            title="in the loop: 80 x Linear(8)+ReLU, batch 16, 160 tensors",
            build=partial(loop, depth=80, width=8),
            block=8,
            budget_s=15,
        ),
        *on_threads(
            {1: 2.8, 2: 2.8},
            name="loop-500x32",
            title="in the loop: 500 x Linear(32)+ReLU, batch 16, 1000 tensors",
            build=partial(loop, depth=500, width=32),
            block=4,
            budget_s=30,
        ),
    ]


def between_rows() -> list[Row]:
    """Build the rows of all that an iteration does beside forward and backward."""

    def rows(
        names: Mapping[str, str],
        speedup: float,
        *,
        name: str,
        title: str,
        build: Callable[[], list[Contender]],
    ) -> list[Row]:
        targets = [Target(names[FUSED], 1 / speedup), Target(names[DEFAULT])]
        return [
            Row(
                name=name,
                title=title,
                threads=threads,
                build=build,
                targets=targets,
                block=8,
                budget_s=20,
            )
            for threads in (1, 2)
        ]

    what = "80 x Linear({})+ReLU, batch 16, 160 tensors"
    loops = [(8, 12), (64, 6)]
    return [
        *chain.from_iterable(
            rows(
                CLIPPED,
                speedup,
                name=f"between-{width}",
                title=f"clip, step, `zero_grad` in the loop: {what.format(width)}",
                build=partial(peers.between, depth=80, width=width),
            )
            for width, speedup in loops
        ),
        *chain.from_iterable(
            rows(
                FORGETTING,
                3,
                name=f"zero-grad-{width}",
                title=f"`zero_grad` alone, in the loop: {what.format(width)}",
                build=partial(peers.forgetting, depth=80, width=width),
            )
            for width, _ in loops
        ),
        *rows(
            TRAINING,
            5,
            name="training-mnist",
            title="batch, clip, step, `zero_grad`: MLP 784-256-128-10, batches of 50 from memory",
            build=partial(peers.training, batch=50),
        ),
    ]


def hot_rows() -> list[Row]:
    """Build the rows in which everything is in the cache and overhead is all there is."""
    hot = partial(partial, peers.hot)
    return [
        *on_threads(
            {1: 4, 2: 4},
            name="hot-161x1",
            title="hot: 161 one-element tensors",
            build=hot([(1,)] * 161),
            block=20,
            budget_s=6,
        ),
        *on_threads(
            {1: 4, 2: 4},
            name="hot-1000x1k",
            title="hot: 1000 x 1K",
            build=hot([(1024,)] * 1000),
            block=10,
            budget_s=15,
        ),
        *on_threads(
            {1: 2.2, 2: 3},
            name="hot-504k",
            title="hot: 160 tensors, 504K elements",
            build=hot(mixed_shapes()),
            block=20,
            budget_s=8,
        ),
    ]


def large_rows(threads: int) -> list[Row]:
    """Build the rows that memory decides, on all threads."""
    resnet50, one = resnet50_shapes(), 50_000_000
    step_bytes = dict.fromkeys((DEFAULT, FOREACH, FUSED, OURS), STEP_BYTES * one)
    return [
        Row(
            name="resnet50",
            title="ResNet-50's 161 shapes, 25.6M float32",
            threads=threads,
            build=partial(peers.hot, resnet50),
            targets=[Target(FUSED, 1.0), Target(FOREACH), Target(DEFAULT, 1 / 4)],
            block=5,
            budget_s=30,
            read_bytes=STEP_READS * sum(map(math.prod, resnet50)),
        ),
        Row(
            name="one-50m",
            title="one tensor of 50M float32",
            threads=threads,
            build=partial(peers.hot_and_triad, one),
            targets=[Target(FUSED, 1.05), Target(FOREACH), Target(DEFAULT)],
            block=3,
            budget_s=40,
            moved_bytes=step_bytes | {TRIAD: TRIAD_BYTES * one},
            read_bytes=STEP_READS * one,
        ),
        Row(
            name="bf16",
            title="`sgd_step`: bfloat16 with float32 momentum, ResNet-50's shapes",
            threads=threads,
            build=partial(peers.low_precision, resnet50, torch.float32),
            targets=[Target(OURS_F32, 0.75)],
            block=5,
            budget_s=15,
            read_bytes=(2 + 2 + 4) * sum(map(math.prod, resnet50)),
        ),
        Row(
            name="all-bf16",
            title="`sgd_step`: bfloat16 with bfloat16 momentum, ResNet-50's shapes",
            threads=threads,
            build=partial(peers.low_precision, resnet50, torch.bfloat16),
            targets=[Target(OURS_F32, 1 / 1.8)],
            block=5,
            budget_s=15,
            read_bytes=(2 + 2 + 2) * sum(map(math.prod, resnet50)),
        ),
        Row(
            name="numpy-50m",
            title="`sgd_step`: one NumPy array of 50M float32",
            threads=threads,
            build=partial(peers.numpy_arrays, one),
            targets=[Target(NUMPY, 1 / 4)],
            block=3,
            budget_s=20,
            read_bytes=STEP_READS * one,
        ),
    ]


def subject(threads: int) -> Subject:
    """Build the whole table, as far as the machine has the threads for it."""
    rows = [
        *loop_rows(),
        *between_rows(),
        *hot_rows(),
        *large_rows(threads),
        *clip.rows(threads),
        *odd.rows(threads),
    ]
    return Subject(rows=[row for row in rows if row.threads <= threads], reference=DEFAULT)
