"""Orders, draws and batches against NumPy's and torch's.

    python -m benchmarks.sampling.rows                    # everything, some minutes, 4 GiB
    python -m benchmarks.sampling.rows --rows images  # rows whose name contains the text
    python -m benchmarks.sampling.rows --json sampling.json --markdown

A step of the rows named `batches-*` and `images-*` is a whole epoch: shuffle, gather every batch of
rows and labels, do nothing with them. `harness.py` says how the figures are taken.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial

from benchmarks.dense import rows as bench_update
from benchmarks.harness import Contender, Row, Target
from benchmarks.sampling import peers

F32 = "float32"
# name, title, shape, dtype
WORKLOADS = [
    ("batches", "X[1e5, 64] float32 + y", (100_000, 64), F32),
    ("images", "uint8 images [6e4, 28, 28] + y", (60_000, 28, 28), "uint8"),
    ("batches-1kb", "1 KB rows [1e5, 256] + y", (100_000, 256), F32),
    ("batches-64b", "64 B rows [4e5, 16] + y", (400_000, 16), F32),
    ("batches-2gb", "2 GB [8e6, 64] + y", (8_000_000, 64), F32),
]


def epoch_row(
    name: str, what: str, shape: tuple[int, ...], dtype: str, size: int, threads: int
) -> Row:
    """One epoch of batches of `size` rows."""
    first = name == "batches" and size == 128  # the one that DataLoader is compared in
    limit = 0.7 if first else 1.0
    targets = [Target(peers.TAKE, limit), Target(peers.SELECT, limit)]
    if first:
        targets.append(Target(peers.DATA_LOADER, 1 / 60))
    title = f"{what}: an epoch of {math.ceil(shape[0] / size):,} batches of {size}"
    build = partial(peers.epochs, shape, dtype, size, data_loader=first)
    block = 1 if shape[0] > 10**6 else 3
    budget_s = 40 if first else 12
    return Row(f"{name}-{size}@{threads}", title, threads, build, targets, block, budget_s)


def epoch_rows(threads: int) -> list[Row]:
    """Build the rows of the loader."""
    return [
        epoch_row(*workload, size, n)
        for size in (128, 4096)
        for workload in WORKLOADS
        for n in sorted({1, threads})
    ]


def draw_rows() -> list[Row]:
    """Build the rows of the samplers alone, on one thread."""

    def row(
        name: str,
        title: str,
        build: Callable[[], list[Contender]],
        peer: str,
        limit: float,
        block: int = 1,
    ) -> Row:
        return Row(f"{name}@1", title, 1, build, [Target(peer, limit)], block, budget_s=10)

    few, many = 10**6, 10**8
    weighted, distinct = partial(peers.weighted, few, few), partial(peers.weighted_distinct, few)
    return [
        row(
            "permutation",
            "an order of 1e8",
            partial(peers.permutation, many),
            peers.RANDPERM,
            1 / 5,
        ),
        row(
            "weighted-build",
            "1e6 draws of 1e6 weights, with the table",
            partial(weighted, build=True),
            peers.MULTINOMIAL,
            1 / 6,
        ),
        row(
            "weighted",
            "1e6 draws of 1e6 weights, table at hand",
            partial(weighted, build=False),
            peers.MULTINOMIAL,
            1 / 20,
        ),
        row(
            "weighted-distinct",
            "128 different of 1e6 weights, table at hand",
            partial(distinct, 128),
            peers.CHOICE,
            1 / 1000,
            block=20,
        ),
        row(
            "distinct",
            "128 different of 1e8",
            partial(peers.uniform_distinct, many, 128),
            peers.CHOICE,
            1 / 1.5,
            block=200,
        ),
        row(
            "first-batch",
            "the first 128 of 1e8 rows",
            partial(peers.first_batch, many, 128),
            peers.MILLISECOND,
            1,
            block=20,
        ),
    ]


def all_rows(threads: int) -> list[Row]:
    """Build the whole table."""
    return [*epoch_rows(threads), *draw_rows()]


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen rows, print their table, write the JSON. Returns the exit status."""
    return bench_update.main(arguments, benchmark="sampling", rows_for=all_rows)


if __name__ == "__main__":
    sys.exit(main())
