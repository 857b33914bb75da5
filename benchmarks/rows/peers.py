"""The contenders: torch's sparse step, torch's and our dense step, and ours on the named rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle

import numpy as np
import torch

from subgrad_fast.bench.harness import OURS, Contender
from subgrad_fast.optim import SGD

SPARSE = "`torch.optim.SGD`, row-sparse gradient"
FUSED = "`torch.optim.SGD(fused=True)`, dense gradient"
OURS_DENSE = "ours, dense gradient"
HYPERPARAMETERS = {"lr": 1e-3, "momentum": 0.9}
STEPS_BEFORE = 40
LATE_STEPS_BEFORE = 300
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


def late_contenders(rows: int, width: int, batch: int) -> list[Contender]:
    """Dense steps, taken late: what is timed is that rows catch up to be read, and the step."""
    sparse = row_gradients(rows, width, batch)
    table = torch.nn.Parameter(torch.ones(rows, width))
    optimizer = SGD([table], **HYPERPARAMETERS, sparse_rows="dense")
    following = cycle(sparse)
    numbers = torch.empty(0)

    def next_batch() -> None:
        nonlocal numbers
        table.grad = next(following)
        numbers = table.grad._indices()[0]

    def read_and_step() -> None:
        optimizer.catch_up(table, numbers)
        optimizer.step()

    for _ in range(LATE_STEPS_BEFORE):
        next_batch()
        read_and_step()
    others = contenders(rows, width, batch)
    return [*(c for c in others if c.name != OURS), Contender(OURS, read_and_step, next_batch)]
