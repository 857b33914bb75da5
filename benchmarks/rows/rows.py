"""The step on the rows that a sparse gradient names, against torch's sparse and dense steps.

A step is `optimizer.step()` with momentum 0.9 for one table of float32 rows and a batch of Zipf
distributed row numbers, as `Embedding(sparse=True)` gives them: with duplicates, in no order. Every
step has another batch. Those that take row-sparse gradients have been through 40 steps before they
are timed: torch's momentum grows by the rows of each, and ours has met its memory's pages for the
first time. The dense steps have the whole gradient, ready made.

The rows of dense steps that are taken late (`sparse_rows="dense"`) have been through 300 steps, and
the time in which rows catch up to be read is part of theirs.
"""

from __future__ import annotations

from functools import partial

from benchmarks.rows import peers
from subgrad_fast.bench.harness import OURS, Row, Subject, Target


def moved_bytes(rows: int, width: int, batch: int) -> dict[str, int]:
    """What must move: the values once; of each row that is named, two arrays in and out."""
    batches = peers.zipf(rows, batch)
    named = sum(len(numbers.unique()) for numbers in batches) // len(batches)
    dense = 20 * rows * width
    ours = (4 * batch + 16 * named) * width
    return {OURS: ours, peers.FUSED: dense, peers.OURS_DENSE: dense}


def read_bytes(rows: int, width: int, batch: int) -> int:
    """What of that is read: the values, and both arrays of each row that is named."""
    batches = peers.zipf(rows, batch)
    named = sum(len(numbers.unique()) for numbers in batches) // len(batches)
    return (4 * batch + 8 * named) * width


def table_rows(
    *, name: str, size: str, rows: int, width: int, batch: int, limit: float, threads: int
) -> list[Row]:
    """One table of `rows` rows, on one thread and on all."""
    moved = moved_bytes(rows, width, batch)
    return [
        Row(
            name=f"rows-{name}",
            title=f"Embedding({size}, sparse=True), {batch:,} Zipf rows",
            threads=n,
            build=partial(peers.contenders, rows, width, batch),
            targets=[
                Target(peers.SPARSE, limit),
                Target(peers.FUSED, 1.0),
                Target(peers.OURS_DENSE),
            ],
            block=2,
            budget_s=20,
            moved_bytes=moved,
            read_bytes=read_bytes(rows, width, batch),
        )
        for n in sorted({1, threads})
    ]


def late_rows(threads: int) -> list[Row]:
    """Dense steps, late, on one thread and on all."""
    rows, width, batch = 1_000_000, 64, 65_536
    return [
        Row(
            name="rows-late",
            title="Embedding(1M x 64, sparse=True), 65,536 Zipf rows, dense steps late",
            threads=n,
            build=partial(peers.late_contenders, rows, width, batch),
            targets=[
                Target(peers.SPARSE, 1 / 8),
                Target(peers.FUSED),
                Target(peers.OURS_DENSE, 1 / 4),
            ],
            block=2,
            budget_s=20,
            moved_bytes=moved_bytes(rows, width, batch),
        )
        for n in sorted({1, threads})
    ]


def subject(threads: int) -> Subject:
    """Build the whole table."""
    large = table_rows(
        name="1m",
        size="1M x 64",
        rows=1_000_000,
        width=64,
        batch=65_536,
        limit=1 / 25,
        threads=threads,
    )
    small = table_rows(
        name="100k",
        size="100k x 64",
        rows=100_000,
        width=64,
        batch=4_096,
        limit=1.0,
        threads=threads,
    )
    return Subject(rows=[*large, *small, *late_rows(threads)])
