"""Sparse weights: what shrinkage costs in the step, and thresholding, patterns and masks alone.

    python -m benchmarks.sparsify.rows                # everything, about a minute
    python -m benchmarks.sparsify.rows --rows l1      # rows whose name contains the text

`harness.py` says how the figures are taken. All rows are ResNet-50's 25.6M float32 on all threads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

import subgrad_fast as sf
from benchmarks.dense import rows as bench_update
from benchmarks.dense.peers import HYPERPARAMETERS
from benchmarks.harness import OURS, Contender, Row, Target
from benchmarks.workloads import resnet50_shapes
from subgrad_fast.optim import SGD

PLAIN, TORCH = "ours, plain", "torch"
ELEMENTS = 25_557_032
Tensors = list[torch.Tensor]


def weights() -> Tensors:
    """Random weights of ResNet-50's shapes."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in resnet50_shapes()]


def l1_in_the_step() -> list[Contender]:
    """The same step with and without l1; so small a penalty that both go on with like weights."""
    gradients = weights()

    def contender(name: str, **kwargs: Any) -> Contender:
        parameters = [torch.nn.Parameter(w) for w in weights()]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        return Contender(name, SGD(parameters, **HYPERPARAMETERS, **kwargs).step)

    return [contender(PLAIN), contender(OURS, l1=1e-3)]


def in_place(
    ours: Callable[[Tensors], object], torchs: Callable[[Tensors], object]
) -> list[Contender]:
    """Ours and torch's idiom, each on weights of its own, which are restored before every step."""
    start = weights()

    def contender(name: str, change: Callable[[Tensors], object]) -> Contender:
        tensors = weights()

        def restore() -> None:
            for tensor, w in zip(tensors, start, strict=True):
                tensor.copy_(w)

        return Contender(name, partial(change, tensors), restore)

    return [contender(TORCH, torchs), contender(OURS, ours)]


def torch_soft(tensors: Tensors) -> None:
    for w in tensors:
        w.copy_(torch.nn.functional.softshrink(w, 0.1))


def torch_group(tensors: Tensors) -> None:
    for w in tensors:
        norms = torch.linalg.vector_norm(w.view(len(w), -1), dim=1).view(-1, *[1] * (w.dim() - 1))
        w.mul_((1 - 0.1 / norms).clamp_(min=0))


def torch_n_m(tensors: Tensors) -> None:
    for w in tensors:
        groups = w.view(-1, 4)
        drop = groups.abs().topk(2, dim=1, largest=False, sorted=False).indices
        groups.scatter_(1, drop, 0)


def torch_hard(tensors: Tensors) -> None:
    for w in tensors:
        flat = w.view(-1)
        k = max(1, len(flat) // 10)
        cut = flat.abs().topk(k, sorted=False).values.min()
        flat.masked_fill_(flat.abs() < cut, 0)


def with_masks() -> list[Contender]:
    """Half of the entries masked."""
    masks = [w > 0 for w in weights()]

    def torch_mask(tensors: Tensors) -> None:
        for w, mask in zip(tensors, masks, strict=True):
            w.mul_(mask)

    return in_place(partial(sf.apply_mask_, mask=masks), torch_mask)


def fours(tensors: Tensors) -> Tensors:
    """Those whose last dimension is made of fours, as vectors."""
    return [w.view(-1) for w in tensors if w.numel() % 4 == 0]


def rows(threads: int) -> list[Row]:
    """Build the table."""
    step_bytes, read_and_write = 20 * ELEMENTS, 8 * ELEMENTS

    def row(
        name: str, title: str, build: Callable[[], list[Contender]], target: Target, moved: int
    ) -> Row:
        moved_bytes = dict.fromkeys((OURS, target.peer), moved)
        return Row(f"{name}@{threads}", title, threads, build, [target], 3, 10.0, moved_bytes)

    return [
        row("l1", "the step with l1, momentum 0.9, weight decay", l1_in_the_step,
            Target(PLAIN, 1.05), step_bytes),
        row("soft", "soft threshold",
            partial(in_place, partial(sf.soft_threshold_, lam=0.1), torch_soft),
            Target(TORCH, 1.0), read_and_write),
        row("group", "group soft threshold over rows",
            partial(in_place, partial(sf.group_soft_threshold_, lam=0.1), torch_group),
            Target(TORCH, 1.0), read_and_write),
        row("hard", "hard threshold, a tenth of each tensor",
            partial(in_place, partial(sf.hard_threshold_, density=0.1), torch_hard),
            Target(TORCH, 1 / 5), 3 * read_and_write // 2),
        row("2:4", "2:4 pattern",
            partial(in_place, lambda x: sf.n_m_(fours(x)), lambda x: torch_n_m(fours(x))),
            Target(TORCH, 1 / 5), read_and_write),
        row("mask", "mask, half of the entries",
            with_masks, Target(TORCH, 1.0), 9 * ELEMENTS),
    ]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen rows, print their table, write the JSON. Returns the exit status."""
    return bench_update.main(arguments, benchmark="shrink", rows_for=rows)


if __name__ == "__main__":
    sys.exit(main())
