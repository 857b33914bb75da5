"""The contenders: ours, and the lines that one writes in torch for the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

import subgrad_fast as sf
from subgrad_fast.bench.harness import OURS, Contender
from subgrad_fast.bench.sgd import HYPERPARAMETERS
from subgrad_fast.bench.workloads import resnet50_shapes
from subgrad_fast.optim import SGD

PLAIN = "ours, without `l1`"
SOFT = "`torch.nn.functional.softshrink`, then `copy_`"
GROUP = "`torch.linalg.vector_norm`, then `mul_`"
HARD = "`torch.topk` of each tensor, then `masked_fill_`"
N_M = "`torch.topk` of each four, then `scatter_`"
MASK = "`torch.Tensor.mul_` by the mask"

Tensors = list[torch.Tensor]


def weights() -> Tensors:
    """Random weights of ResNet-50's shapes."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in resnet50_shapes()]


def l1() -> list[Contender]:
    """The same step with and without l1; so small a penalty that both go on with like weights."""
    gradients = weights()

    def contender(name: str, **kwargs: Any) -> Contender:
        parameters = [torch.nn.Parameter(w) for w in weights()]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        return Contender(name, SGD(parameters, **HYPERPARAMETERS, **kwargs).step)

    return [contender(PLAIN), contender(OURS, l1=1e-3)]


def in_place(
    peer: str, theirs: Callable[[Tensors], object], ours: Callable[[Tensors], object]
) -> list[Contender]:
    """The peer's idiom and ours, each on its own weights, which are restored before every step."""
    start = weights()

    def contender(name: str, change: Callable[[Tensors], object]) -> Contender:
        tensors = weights()

        def restore() -> None:
            for tensor, w in zip(tensors, start, strict=True):
                tensor.copy_(w)

        return Contender(name, partial(change, tensors), restore)

    return [contender(peer, theirs), contender(OURS, ours)]


def torch_soft(tensors: Tensors) -> None:
    """torch's idiom: shrink a copy, and copy it back."""
    for w in tensors:
        w.copy_(torch.nn.functional.softshrink(w, 0.1))


def torch_group(tensors: Tensors) -> None:
    """torch's idiom: the norm of each row, and what it leaves of the row."""
    for w in tensors:
        norms = torch.linalg.vector_norm(w.view(len(w), -1), dim=1).view(-1, *[1] * (w.dim() - 1))
        w.mul_((1 - 0.1 / norms).clamp_(min=0))


def torch_n_m(tensors: Tensors) -> None:
    """torch's idiom: set the two smallest of each four to zero."""
    for w in tensors:
        groups = w.view(-1, 4)
        drop = groups.abs().topk(2, dim=1, largest=False, sorted=False).indices
        groups.scatter_(1, drop, 0)


def torch_hard(tensors: Tensors) -> None:
    """torch's idiom: find the cut, and set what lies below it to zero."""
    for w in tensors:
        flat = w.view(-1)
        k = max(1, len(flat) // 10)
        cut = flat.abs().topk(k, sorted=False).values.min()
        flat.masked_fill_(flat.abs() < cut, 0)


def mask() -> list[Contender]:
    """Half of the entries masked."""
    masks = [w > 0 for w in weights()]

    def torch_mask(tensors: Tensors) -> None:
        for w, mask in zip(tensors, masks, strict=True):
            w.mul_(mask)

    return in_place(MASK, torch_mask, partial(sf.apply_mask_, mask=masks))


def fours(tensors: Tensors) -> Tensors:
    """Those whose last dimension is made of fours, as vectors."""
    return [w.view(-1) for w in tensors if w.numel() % 4 == 0]


def soft() -> list[Contender]:
    """The soft threshold."""
    return in_place(SOFT, torch_soft, partial(sf.soft_threshold_, lam=0.1))


def group() -> list[Contender]:
    """The soft threshold of each row's norm."""
    return in_place(GROUP, torch_group, partial(sf.group_soft_threshold_, lam=0.1))


def hard() -> list[Contender]:
    """The hard threshold: a tenth of each tensor stays."""
    return in_place(HARD, torch_hard, partial(sf.hard_threshold_, density=0.1))


def n_m() -> list[Contender]:
    """Two of four stay."""
    return in_place(N_M, lambda x: torch_n_m(fours(x)), lambda x: sf.n_m_(fours(x)))
