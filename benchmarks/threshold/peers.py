"""The contenders: ours, torch's operations, and a dense step."""

from __future__ import annotations

import torch

import subgrad_fast as sf
from subgrad_fast.bench.harness import OURS, Contender
from subgrad_fast.bench.workloads import heavy_tailed

OPERATIONS = "torch: `v += g; mask = abs(v) >= t; w -= lr * v * mask; v *= ~mask`"
DENSE = "`torch.optim.SGD(fused=True)`, a dense step"
UNREPORTED = "ours, without the report"
LR = 1e-3


def gradient_and_threshold(n: int, density: float) -> tuple[torch.Tensor, float]:
    """A gradient, and the threshold that `density` of it reaches."""
    gradient = torch.from_numpy(heavy_tailed(n))
    return gradient, sf.kth_magnitude(gradient, round(density * n))


def contenders(gradient: torch.Tensor, limit: float) -> tuple[Contender, Contender]:
    """torch's operations and ours; every step begins with an empty residual.

    Raises:
        RuntimeError: they come to different results.
    """
    weights = [torch.zeros_like(gradient) for _ in range(2)]
    residuals = [torch.zeros_like(gradient) for _ in range(2)]

    def operations() -> None:
        w, v = weights[0], residuals[0]
        v.add_(gradient)
        mask = v.abs() >= limit
        w.sub_(LR * v * mask)
        v.mul_(~mask)

    def ours() -> None:
        sf.threshold_step(weights[1], gradient, residuals[1], lr=LR, threshold=limit)

    operations()
    ours()
    if not (torch.allclose(*weights) and torch.equal(*residuals)):
        raise RuntimeError("ours and torch's operations come to different results")
    return (
        Contender(OPERATIONS, operations, residuals[0].zero_),
        Contender(OURS, ours, residuals[1].zero_),
    )


def threshold(n: int, density: float) -> list[Contender]:
    """Error feedback, threshold and update, beside a dense step of torch's."""
    gradient, limit = gradient_and_threshold(n, density)
    operations, ours = contenders(gradient, limit)
    param = torch.nn.Parameter(torch.zeros(n))
    param.grad = gradient
    dense = torch.optim.SGD([param], lr=LR, momentum=0.9, fused=True)
    return [operations, Contender(DENSE, dense.step), ours]


def reported(n: int, density: float) -> list[Contender]:
    """The same step with and without a report of indices and values."""
    gradient, limit = gradient_and_threshold(n, density)
    w, v = torch.zeros(n), torch.zeros(n)

    def step(emit: str | None) -> sf.ThresholdResult:
        return sf.threshold_step(w, gradient, v, lr=LR, threshold=limit, emit=emit)

    return [
        Contender(UNREPORTED, lambda: step(None), v.zero_),
        Contender(OURS, lambda: step("int32"), v.zero_),
    ]
