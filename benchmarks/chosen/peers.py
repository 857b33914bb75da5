"""The contenders: torch's and our dense step, and ours on the weights that were chosen."""

from __future__ import annotations

from typing import Any

import torch

from subgrad_fast.bench.harness import OURS, Contender
from subgrad_fast.bench.workloads import resnet50_shapes
from subgrad_fast.optim import SGD, SupportSGD

FUSED = "`torch.optim.SGD(fused=True)`, all weights"
OURS_DENSE = "ours, all weights"
HYPERPARAMETERS: dict[str, Any] = {"lr": 1e-3, "momentum": 0.9}


def parameters() -> list[torch.nn.Parameter]:
    """ResNet-50's, with gradients."""
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.ones(shape)) for shape in resnet50_shapes()]
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator)
    return params


def contenders(density: float, max_norm: float | None) -> list[Contender]:
    """Give each its own weights; a support is chosen before the first step that counts."""
    support = SupportSGD(
        parameters(), density=density, calibrate=1, max_norm=max_norm, **HYPERPARAMETERS
    )
    support.step()
    torchs = torch.optim.SGD(parameters(), fused=True, **HYPERPARAMETERS)
    ours = SGD(parameters(), max_norm=max_norm, **HYPERPARAMETERS)

    def clipped() -> None:
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(torchs.param_groups[0]["params"], max_norm)
        torchs.step()

    return [
        Contender(FUSED, clipped),
        Contender(OURS_DENSE, ours.step),
        Contender(OURS, support.step),
    ]
