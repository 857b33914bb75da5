"""Batches against loops of NumPy's and torch's. The largest rows take 4 GiB.

A step is a whole epoch: shuffle, gather every batch of rows and labels, do nothing with them.
"""

from __future__ import annotations

import math
from functools import partial

from benchmarks.loading import peers
from subgrad_fast.bench.harness import Row, Subject, Target

F32 = "float32"
# name, title, shape, dtype
WORKLOADS = [
    ("batches", "X[1e5, 64] float32 + y", (100_000, 64), F32),
    ("images", "uint8 images [6e4, 28, 28] + y", (60_000, 28, 28), "uint8"),
    ("batches-1kb", "1 KB rows [1e5, 256] + y", (100_000, 256), F32),
    ("batches-64b", "64 B rows [4e5, 16] + y", (400_000, 16), F32),
    ("batches-2gb", "2 GB [8e6, 64] + y", (8_000_000, 64), F32),
]


def row(
    *, name: str, what: str, shape: tuple[int, ...], dtype: str, size: int, threads: int
) -> Row:
    """One epoch of batches of `size` rows, against loops that make new batches as we do, and
    against those that reuse their memory."""
    first = name == "batches" and size == 128
    fresh, reused = (1 / 1.5, 0.7) if first else (1.0, 1.0)
    return Row(
        name=f"{name}-{size}",
        title=f"{what}: an epoch of {math.ceil(shape[0] / size):,} batches of {size}",
        threads=threads,
        build=partial(peers.epochs, shape, dtype, size),
        targets=[
            Target(peers.TAKE, fresh),
            Target(peers.SELECT, fresh),
            Target(peers.TAKE_INTO, reused),
            Target(peers.SELECT_INTO, reused),
        ],
        block=1 if shape[0] > 10**6 else 3,
        budget_s=16,
    )


def torch_row(*, shape: tuple[int, ...], size: int, threads: int) -> Row:
    """torch's DataLoader with one import changed."""
    return Row(
        name=f"data-loader-{size}",
        title=f"`DataLoader(TensorDataset)` of {shape}: batches of {size}",
        threads=threads,
        build=partial(peers.torch_epochs, shape, F32, size),
        targets=[Target(peers.DATA_LOADER, 1 / 50), Target(peers.SELECT), Target(peers.INDEX)],
        block=3,
        budget_s=40,
    )


def subject(threads: int) -> Subject:
    """Build the whole table, on one thread and on all."""
    counts = sorted({1, threads})
    return Subject(
        rows=[
            *(torch_row(shape=(100_000, 64), size=128, threads=n) for n in counts),
            *(
                row(name=name, what=what, shape=shape, dtype=dtype, size=size, threads=n)
                for size in (128, 4096)
                for name, what, shape, dtype in WORKLOADS
                for n in counts
            ),
        ]
    )
