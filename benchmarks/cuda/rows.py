"""The steps on a GPU against torch's, and apex's where it is installed.

    python -m benchmarks.cuda.rows                  # everything
    python -m benchmarks.cuda.rows --rows graph     # rows whose name contains the text
    python -m benchmarks.cuda.rows --json cuda.json --markdown

Without a GPU it says so and ends. Its targets were set before anybody had measured anything, on a
machine without one.

`harness.py` says how the figures are taken; here a step's time is that between two CUDA events, and
contenders take turns with several sets of arrays, so that none is found in the L2 cache. A step of
a row named `graph-*` is the replay of a captured graph.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

import subgrad_fast as sf
from benchmarks.cuda import peers
from benchmarks.cuda.device import Device, gpu, no_gpu
from benchmarks.dense import rows as bench_update
from benchmarks.dense.peers import FOREACH, FUSED, OURS_F32
from benchmarks.harness import OURS, Contender, Row, Target, measure, summarize
from benchmarks.threshold.peers import OPERATIONS
from benchmarks.workloads import Shapes, resnet50_shapes

BLOCK = 20
# Per float32 element. The step: see bench_update. At 1%: a thresholded one, see docs/cuda.md; a
# selection reads thrice for the key, once for the counts, once for what is kept, and writes that.
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
    name: str,
    title: str,
    build: Callable[[], list[Contender]],
    targets: list[Target],
    moved_bytes: int | None = None,
) -> Row:
    """One line. The processor only queues work: one thread."""
    moved = {OURS: moved_bytes} if moved_bytes else {}
    return Row(name, title, 1, build, targets, BLOCK, 10, moved)


def dense_rows(device: Device, sizes: Sizes) -> list[Row]:
    """The dense step, queued by Python and as a graph."""
    fused = [Target(FUSED, 1.0), Target(FOREACH, 1.0)]
    if peers.APEX in peers.optimizers():
        fused.append(Target(peers.APEX, 1.0))
    dense = partial(partial, peers.dense, device)
    model, one = sizes.model, sizes.one
    return [
        row("resnet50", "ResNet-50's 161 shapes, float32", dense(model), fused),
        row("many", "1000 x 1K float32", dense(sizes.many), fused),
        row(
            "one-50m", "one tensor of 50M float32", dense([(one,)]), fused, STEP_BYTES * one
        ),
        row("graph-resnet50", "the same shapes, as a graph", dense(model, graph=True), fused),
        row("graph-many", "1000 x 1K float32, as a graph", dense(sizes.many, graph=True), fused),
        row(
            "bf16",
            "`sgd_step`: bfloat16 with float32 momentum, ResNet-50's shapes",
            partial(peers.low_precision, device, model),
            [Target(OURS_F32, 0.75), Target(peers.FUSED_BF16, 1.5)],
        ),
    ]  # fmt: skip


def accepted(call: Callable[[], object]) -> bool:
    """Whether a function takes tensors of the device."""
    try:
        call()
    except (TypeError, ValueError, NotImplementedError):
        return False
    return True


def sparse_rows(device: Device, sizes: Sizes) -> list[Row]:
    """Selection and the thresholded step, as far as they take tensors of the device."""
    n = sizes.sparse
    x, w, v = (torch.ones(8, device=device.torch_name) for _ in range(3))
    rows = []
    if accepted(lambda: sf.select(x, k=2)):
        build = partial(peers.top, device, n, n // 100)
        title = "top 1% of 25.6M float32"
        targets = [Target(peers.TOPK, 0.5)]
        rows.append(row("top-1%", title, build, targets, round(TOP_BYTES * n)))
    if accepted(lambda: sf.threshold_step(w, x, v, lr=0.1, threshold=0.5)):
        build = partial(peers.threshold, device, n, 0.01)
        title = "threshold, error feedback and update, 1% of 25.6M float32"
        targets = [Target(OPERATIONS, 0.25)]
        rows.append(row("threshold-1%", title, build, targets, round(THRESHOLD_BYTES * n)))
    return rows


def sampling_rows(device: Device, sizes: Sizes) -> list[Row]:
    """Orders and batches on the device, as far as they take its tensors."""
    x = torch.ones(8, 2, device=device.torch_name)
    indices = torch.zeros(8, dtype=torch.int64, device=device.torch_name)
    rows = []
    if accepted(lambda: sf.Permutation(8).slice(0, 8, out=indices)):
        build = partial(peers.orders, device, sizes.order)
        title = "index order: 10M rows in a new order"
        rows.append(row("order-10m", title, build, [Target(peers.RANDPERM, 1.0)], 8 * sizes.order))
    if accepted(lambda: [*sf.BatchLoader((x,), sf.BatchSampler(8, 4))]):
        build = partial(peers.epochs, device, *sizes.examples)
        title = "an epoch of 1M rows of 1 KB in batches of 4096"
        rows.append(row("batches", title, build, [Target(peers.SELECT, 1.0)]))
    return rows


def all_rows(device: Device, sizes: Sizes) -> list[Row]:
    """Build the whole table."""
    parts = (dense_rows, sparse_rows, sampling_rows)
    return [row for part in parts for row in part(device, sizes)]


def run(device: Device, row: Row, *, quick: bool) -> dict[str, Any]:
    """Measure one row."""
    contenders = row.build()
    samples = measure(
        contenders,
        block=row.block,
        budget_s=row.budget_s * (bench_update.QUICK if quick else 1),
        min_rounds=1 if quick else 3,
        warmup=1 if quick else 10,
        run=device.run_block,
    )
    return summarize(row, contenders, samples, reference=FOREACH)


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen rows, print their table, write the JSON. Returns the exit status."""
    if reason := no_gpu():
        print(f"no GPU: {reason}. Nothing was measured.")
        return 0
    device, sizes = gpu(), Sizes()
    return bench_update.main(
        arguments,
        benchmark="cuda",
        rows_for=lambda _threads: all_rows(device, sizes),
        run_row=partial(run, device),
        device=device.name,
    )


if __name__ == "__main__":
    sys.exit(main())
