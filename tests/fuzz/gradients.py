"""Shapes, layouts, gradients and terms for the optimizers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tests.fuzz.life import Life

NEUTRAL = {"momentum": 0, "nesterov": False, "dampening": 0, "weight_decay": 0, "maximize": False}

# None is expanded: torch rounds the last few elements of such gradients once more.
LAYOUTS = ("transposed", "sliced", "part")


class Derived(torch.Tensor):
    """A subclass, which the kernels leave to torch."""


def random_terms(life: Life) -> dict[str, Any]:
    """Hyper-parameters that torch's optimizer takes too."""
    terms: dict[str, Any] = {"lr": life.pick((0.1, 1.0, 1e-3, 0.0))}
    if life.chance(0.6):
        terms["momentum"] = life.pick((0.9, 0.5))
        if life.chance(0.3):
            terms["nesterov"] = True
        elif life.chance(0.3):
            terms["dampening"] = 0.3
    if life.chance(0.4):
        terms["weight_decay"] = life.pick((0.01, 0.5))
    if life.chance(0.2):
        terms["maximize"] = True
    return terms


def random_shape(life: Life) -> tuple[int, ...]:
    sizes = (0, 1, 1, 2, 3, 5, 8, 17)
    if life.chance(0.03):
        return (life.number(40_000, 70_000),)
    return tuple(life.pick(sizes) for _ in range(life.pick((0, 1, 1, 2, 2, 4))))


def laid_out(kind: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Random values in an order of their own."""
    if kind == "transposed":
        return torch.randn(shape[::-1], dtype=dtype).permute(tuple(range(len(shape)))[::-1])
    if kind == "sliced":
        whole = torch.randn([2 * n for n in shape], dtype=dtype)
        return whole[tuple(slice(None, None, 2) for _ in shape)]
    if kind == "part":
        return torch.randn(math.prod(shape) + 3, dtype=dtype)[3:].view(shape)
    return torch.randn(shape, dtype=dtype)


def random_gradient(
    life: Life, param: Tensor, group: dict[str, Any], *, covered: bool
) -> Tensor | None:
    """A gradient of any kind whose step is the same as torch's.

    Args:
        covered: only such as `ThresholdSGD` takes.
    """
    kind = life.pick(("same", "none", "new", "new", "new", *LAYOUTS, "negated", "derived"))
    kind = life.pick((kind, "sparse"))
    if kind == "same" and type(param.grad) is Tensor and not param.grad.is_sparse:
        return param.grad
    if kind == "none":
        return None
    plain = not group["momentum"] and not group["weight_decay"] and not covered
    # torch writes outside a parameter that is a part of a larger one where every dimension of a
    # gradient is sparse.
    whole = param.is_contiguous() and param.storage_offset() == 0
    if kind == "sparse" and plain and (param.ndim > 1 or (whole and param.ndim == 1)):
        named = torch.rand(param.shape[:1]) < 0.5
        dense = laid_out("plain", tuple(param.shape), param.dtype)
        dense *= named.reshape(-1, *[1] * (param.ndim - 1))
        return dense.to_sparse(param.ndim if whole and life.chance(0.3) else 1)
    if kind == "negated" and not covered:
        dtype = torch.complex64 if param.dtype == torch.float32 else torch.complex128
        return torch.randn(param.shape, dtype=dtype).conj().imag
    if kind == "derived" and not group["momentum"] and not covered:
        return torch.randn_like(param).detach().as_subclass(Derived)
    grad = laid_out(kind, tuple(param.shape), param.dtype)
    if life.chance(0.1) and grad.numel():
        grad.reshape(-1)[:1] = math.nan
    return grad
