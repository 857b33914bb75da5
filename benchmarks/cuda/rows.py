"""The steps on a GPU against torch's, and apex's where it is installed.

Without a GPU the subject says so. Its targets were set before anybody had measured anything, on a
machine without one.

A step's time is that between two CUDA events, and contenders take turns with several sets of
arrays, so that none is found in the L2 cache. A step of a row named `graph-*` is the replay of a
captured graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch

import subgrad_fast as sf
from benchmarks.cuda import peers
from benchmarks.cuda.device import Device, gpu, no_gpu
from benchmarks.threshold.peers import OPERATIONS
from subgrad_fast.bench.harness import OURS, Contender, Row, Subject, Target
from subgrad_fast.bench.sgd import FOREACH, FUSED, OURS_F32
from subgrad_fast.bench.workloads import Shapes, resnet50_shapes

# Per float32 element. The step: see dense. At 1%: a thresholded one, see docs/cuda.md; a selection
# reads thrice for the key, once for the counts, once for what is kept, and writes that.
STEP_BYTES, THRESHOLD_BYTES, TOP_BYTES = 20, 12.6, 20.12


@dataclass(frozen=True)
class Sizes:
    """What the rows work on. Tests take less."""

    model: Shapes = field(default_factory=resnet50_shapes)
    many: Shapes = field(default_factory=lambda: [(1024,)] * 1000)
    one: int = 50_000_000
    sparse: int = 25_600_000
    order: int = 10_000_000
    examples: tuple[int, int, int] = (1_000_000, 256, 4096)  # rows, width, batch


def row(
    *,
    name: str,
    title: str,
    build: Callable[[], list[Contender]],
    targets: list[Target],
    moved_bytes: float = 0,
) -> Row:
    """One line. The processor only queues work: one thread."""
    return Row(
        name=name,
        title=title,
        threads=1,
        build=build,
        targets=targets,
        block=20,
        moved_bytes={OURS: round(moved_bytes)} if moved_bytes else {},
    )


def dense_rows(device: Device, sizes: Sizes) -> list[Row]:
    """The dense step, queued by Python and as a graph."""
    fused = [Target(FUSED, 1.0), Target(FOREACH, 1.0)]
    if peers.APEX in peers.optimizers():
        fused.append(Target(peers.APEX, 1.0))
    dense = partial(partial, peers.dense, device)
    model, one = sizes.model, sizes.one
    return [
        row(
            name="resnet50",
            title="ResNet-50's 161 shapes, float32",
            build=dense(model),
            targets=fused,
        ),
        row(name="many", title="1000 x 1K float32", build=dense(sizes.many), targets=fused),
        row(
            name="one-50m",
            title="one tensor of 50M float32",
            build=dense([(one,)]),
            targets=fused,
            moved_bytes=STEP_BYTES * one,
        ),
        row(
            name="graph-resnet50",
            title="the same shapes, as a graph",
            build=dense(model, graph=True),
            targets=fused,
        ),
        row(
            name="graph-many",
            title="1000 x 1K float32, as a graph",
            build=dense(sizes.many, graph=True),
            targets=fused,
        ),
        row(
            name="bf16",
            title="`sgd_step`: bfloat16 with float32 momentum, ResNet-50's shapes",
            build=partial(peers.low_precision, device, model),
            targets=[Target(OURS_F32, 0.75), Target(peers.FUSED_BF16, 1.5)],
        ),
    ]


def accepted(call: Callable[[], object]) -> bool:
    """Whether a function takes tensors of the device."""
    try:
        call()
    except (TypeError, ValueError, NotImplementedError):
        return False
    return True


def threshold_rows(device: Device, sizes: Sizes) -> list[Row]:
    """Selection and the thresholded step, as far as they take tensors of the device."""
    n = sizes.sparse
    x, w, v = (torch.ones(8, device=device.torch_name) for _ in range(3))
    rows = []
    if accepted(lambda: sf.select(x, k=2)):
        selection = row(
            name="top-1%",
            title="top 1% of 25.6M float32",
            build=partial(peers.top, device, n, n // 100),
            targets=[Target(peers.TOPK, 0.5)],
            moved_bytes=TOP_BYTES * n,
        )
        rows.append(selection)
    if accepted(lambda: sf.threshold_step(w, x, v, lr=0.1, threshold=0.5)):
        step = row(
            name="threshold-1%",
            title="threshold, error feedback and update, 1% of 25.6M float32",
            build=partial(peers.threshold, device, n, 0.01),
            targets=[Target(OPERATIONS, 0.25)],
            moved_bytes=THRESHOLD_BYTES * n,
        )
        rows.append(step)
    return rows


def sampling_rows(device: Device, sizes: Sizes) -> list[Row]:
    """Orders and batches on the device, as far as they take its tensors."""
    x = torch.ones(8, 2, device=device.torch_name)
    indices = torch.zeros(8, dtype=torch.int64, device=device.torch_name)
    rows = []
    if accepted(lambda: sf.Permutation(8).slice(0, 8, out=indices)):
        order = row(
            name="order-10m",
            title="index order: 10M rows in a new order",
            build=partial(peers.orders, device, sizes.order),
            targets=[Target(peers.RANDPERM, 1.0)],
            moved_bytes=8 * sizes.order,
        )
        rows.append(order)
    if accepted(lambda: [*sf.BatchLoader((x,), sf.BatchSampler(8, 4))]):
        batches = row(
            name="batches",
            title="an epoch of 1M rows of 1 KB in batches of 4096",
            build=partial(peers.epochs, device, *sizes.examples),
            targets=[Target(peers.SELECT, 1.0)],
        )
        rows.append(batches)
    return rows


def on_device(device: Device, sizes: Sizes) -> Subject:
    """Build the whole table for a device."""
    parts = (dense_rows, threshold_rows, sampling_rows)
    return Subject(
        rows=[row for part in parts for row in part(device, sizes)],
        reference=FOREACH,
        run_block=device.run_block,
        warmup=10,
        device=device.name,
    )


def subject(_threads: int) -> Subject:
    """Build the whole table for the GPU, if there is one."""
    if reason := no_gpu():
        return Subject(rows=[], missing=f"no GPU: {reason}")
    return on_device(gpu(), Sizes())
