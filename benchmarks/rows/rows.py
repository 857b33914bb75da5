"""The step on the rows that a sparse gradient names, against torch's sparse and dense steps.

    python -m benchmarks.rows.rows                    # some minutes: torch's 40 steps take long
    python -m benchmarks.rows.rows --rows rows-100k
    python -m benchmarks.rows.rows --json rows.json --markdown

A step is `optimizer.step()` with momentum 0.9 for one table of float32 rows and a batch of Zipf
distributed row numbers, as `Embedding(sparse=True)` gives them: with duplicates, in no order. Every
step has another batch. Those that take row-sparse gradients have been through 40 steps before they
are timed: torch's momentum grows by the rows of each, and ours has met its memory's pages for the
first time. The dense steps have the whole gradient, ready made.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle

import numpy as np
import torch

from benchmarks.dense import rows as bench_update
from benchmarks.dense.peers import FUSED
from benchmarks.harness import OURS, Contender, Row, Target
from subgrad_fast.optim import SGD

SPARSE, OURS_DENSE = "torch sparse", "ours dense"
HYPERPARAMETERS = {"lr": 1e-3, "momentum": 0.9}
STEPS_BEFORE = 40
BATCHES = 8


def zipf(rows: int, batch: int) -> list[torch.Tensor]:
    """Batches of row numbers whose frequency is 1 / rank; ranks lie anywhere in the table."""
    rng = np.random.default_rng(0)
    row_of_rank = rng.permutation(rows)
    uniform = rng.random((BATCHES, batch))
    ranks = np.minimum(np.exp(uniform * np.log(rows)).astype(np.int64), rows) - 1
    return [torch.from_numpy(row_of_rank[r]) for r in ranks]


def row_gradients(rows: int, width: int, batch: int) -> list[torch.Tensor]:
    """Uncoalesced gradients with those row numbers."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.sparse_coo_tensor(
            numbers[None],
            torch.randn(batch, width, generator=generator),
            (rows, width),
            check_invariants=True,
        )
        for numbers in zipf(rows, batch)
    ]


def contenders(rows: int, width: int, batch: int) -> list[Contender]:
    """Give each its own table; the gradients are shared."""
    sparse = row_gradients(rows, width, batch)
    dense = [torch.randn(rows, width, generator=torch.Generator().manual_seed(0))]

    def contender(
        name: str,
        cls: Callable[..., torch.optim.Optimizer],
        gradients: Sequence[torch.Tensor],
        before: int = 0,
    ) -> Contender:
        table = torch.nn.Parameter(torch.ones(rows, width))
        optimizer = cls([table], **HYPERPARAMETERS)
        following = cycle(gradients)

        def next_batch() -> None:
            table.grad = next(following)

        for _ in range(before):
            next_batch()
            optimizer.step()
        return Contender(name, optimizer.step, next_batch)

    return [
        contender(SPARSE, torch.optim.SGD, sparse, STEPS_BEFORE),
        contender(FUSED, partial(torch.optim.SGD, fused=True), dense),
        contender(OURS_DENSE, SGD, dense),
        contender(OURS, SGD, sparse, STEPS_BEFORE),
    ]


def moved_bytes(rows: int, width: int, batch: int) -> dict[str, int]:
    """What must move: the values once; of each row that is named, two arrays in and out."""
    named = sum(len(numbers.unique()) for numbers in zipf(rows, batch)) // BATCHES
    dense = 20 * rows * width
    return {OURS: (4 * batch + 16 * named) * width, FUSED: dense, OURS_DENSE: dense}


def all_rows(threads: int) -> list[Row]:
    """Build the table, on one thread and on all."""
    return [
        Row(
            f"rows-{name}@{n}",
            f"Embedding({title}, sparse=True), {batch:,} Zipf rows",
            n,
            partial(contenders, rows, width, batch),
            [Target(SPARSE, limit), Target(FUSED, 1.0)],
            block=2,
            budget_s=20,
            moved_bytes=moved_bytes(rows, width, batch),
        )
        for name, title, rows, width, batch, limit in (
            ("1m", "1M x 64", 1_000_000, 64, 65_536, 1 / 25),
            ("100k", "100k x 64", 100_000, 64, 4_096, 1.0),
        )
        for n in sorted({1, threads})
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen rows, print their table, write the JSON. Returns the exit status."""
    return bench_update.main(arguments, benchmark="rows", rows_for=all_rows)


if __name__ == "__main__":
    sys.exit(main())
