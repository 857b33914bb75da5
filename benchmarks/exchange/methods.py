"""How gradients are averaged: DistributedDataParallel alone, with torch's hooks, with ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from subgrad_fast.distributed import SparseState, sparse_hook

Register = Callable[[DistributedDataParallel], None]


def plain(model: DistributedDataParallel) -> None:
    """No hook: all gradients are averaged."""


def fp16(model: DistributedDataParallel) -> None:
    """All gradients in 16 bits."""
    model.register_comm_hook(None, default_hooks.fp16_compress_hook)


def power(rank: int) -> Register:
    """Gradients as products of two thin matrices (Vogels et al. 2019, arXiv:1905.13727)."""

    def register(model: DistributedDataParallel) -> None:
        # The earliest start that it takes; error feedback and warm start are on by default.
        state = powerSGD_hook.PowerSGDState(
            process_group=None, matrix_approximation_rank=rank, start_powerSGD_iter=2
        )
        model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)

    return register


def ours(**settings: Any) -> Register:
    """The largest entries, the rest held back."""

    def register(model: DistributedDataParallel) -> None:
        model.register_comm_hook(SparseState(model, **settings), sparse_hook)

    return register


PLAIN = "no hook"
ONE_PERCENT = "`sparse_hook`, 1%"
METHODS: dict[str, Register] = {
    PLAIN: plain,
    "`fp16_compress_hook`": fp16,
    "`powerSGD_hook`, rank 1": power(1),
    "`powerSGD_hook`, rank 4": power(4),
    ONE_PERCENT: ours(density=0.01),
    "the same, values in bfloat16": ours(density=0.01, wire_dtype=torch.bfloat16),
    "`sparse_hook`, 0.1%": ours(density=0.001),
}
