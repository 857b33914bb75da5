"""Whether contenders came to the same weights, and which of them promise it."""

from __future__ import annotations

from typing import Any

import torch

from subgrad_fast.bench.loop import Loop
from subgrad_fast.optim import SGD

_HOW = {"params", "foreach", "fused", "differentiable"}
"""What a group says beside the terms of its step."""
_EXACT = (torch.float32, torch.float64)


def _terms(group: dict[str, Any]) -> dict[str, Any]:
    """The terms of a group that do something: torch's has no others of ours."""
    return {term: value for term, value in group.items() if term not in _HOW and value}


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def same_bits(a: Loop, b: Loop) -> bool:
    """Whether all parameters of the two are the same, bit for bit."""
    pairs = zip(a.parameters, b.parameters, strict=True)
    return all(torch.equal(_bits(p), _bits(q)) for p, q in pairs)


def largest_difference(a: Loop, b: Loop) -> float:
    """The largest difference of two weights, as a share of the largest weight of `a`. A NaN of one
    alone makes it NaN."""
    wide = torch.complex128 if any(p.is_complex() for p in a.parameters) else torch.float64
    difference = largest = 0.0
    for p, q in zip(a.parameters, b.parameters, strict=True):
        if p.numel():
            x, y = p.detach().cpu().to(wide), q.detach().cpu().to(wide)
            gap = torch.where(_equal(x, y), torch.zeros_like(x), x - y).abs().max()
            difference = max(float(gap), difference) if gap == gap else float("nan")
            largest = max(largest, float(x.abs().nan_to_num(0.0).max()))
    return difference / largest if largest else difference


def _equal(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x == y) | (x.isnan() & y.isnan())


def is_torchs_default(optimizer: Any) -> bool:
    """Whether this is torch's SGD as it is without `fused` and `foreach`."""
    plain = type(optimizer) is torch.optim.SGD
    return plain and not any(g.get("fused") or g.get("foreach") for g in optimizer.param_groups)


def promised(reference: Loop, other: Loop) -> bool:
    """Whether the two have to end on the same bits.

    That holds of torch's default SGD and ours, of float32 and float64, with the same terms, where
    neither clips: torch's norm has not the same bits at each run.
    """
    pair = (reference.optimizer, other.optimizer)
    if not any(is_torchs_default(o) for o in pair) or not any(type(o) is SGD for o in pair):
        return False
    if any(loop.clips or loop.expanded_gradient for loop in (reference, other)):
        return False
    if any(p.dtype not in _EXACT for p in reference.parameters):
        return False
    groups = [[*map(_terms, o.param_groups)] for o in pair]
    return groups[0] == groups[1]


def agreement(reference: Loop, other: Loop) -> dict[str, Any]:
    """What can be said of the weights of the two after the same number of steps."""
    same_batches = (
        other.source is reference.source or other.source.prints == reference.source.prints
    )
    same = same_bits(reference, other)
    return {
        "same_batches": same_batches,
        "same_bits": same,
        "largest_difference": 0.0 if same else largest_difference(reference, other),
        "promised": same_batches and promised(reference, other),
    }
