"""The contenders: ours, and what one uses in torch for the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

import subgrad_fast as sf
from subgrad_fast.bench.harness import OURS, Contender
from subgrad_fast.bench.workloads import Values

TOPK = "`torch.topk(x.abs(), k, sorted=False)`"


def top(values: Callable[[int], Values], n: int, k: int) -> list[Contender]:
    """Indices and values of the k largest magnitudes."""
    x = torch.from_numpy(values(n))

    def topk() -> torch.Tensor:
        return torch.topk(x.abs(), k, sorted=False).values

    def ours() -> sf.Selection:
        return sf.select(x, k=k)

    # Both keep the same magnitudes; which of equal ones is torch's own choice.
    mine, theirs = ours().values.abs().numpy(), topk().numpy()
    if not np.array_equal(np.sort(mine), np.sort(theirs)):
        raise RuntimeError("ours and torch.topk keep different magnitudes")
    return [Contender(TOPK, topk), Contender(OURS, ours)]
