"""Clipping by itself, averages within the step, and all of it at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

import subgrad_fast as sf
from subgrad_fast import optim
from subgrad_fast.bench.harness import OURS, Contender, Row, Target
from subgrad_fast.bench.sgd import HYPERPARAMETERS
from subgrad_fast.bench.workloads import Shapes, resnet50_shapes

TORCH_CLIP = "`torch.nn.utils.clip_grad_norm_`"
TORCH_ALL = "unscale, `clip_grad_norm_`, fused step, `_foreach_lerp_`, `zero_grad`"
SCALE = 1024.0
WITHOUT = "the same step without an average"


def clipping(shapes: Shapes) -> list[Contender]:
    """Halve the gradients, which are put back before every step."""
    generator = torch.Generator().manual_seed(0)
    originals = [torch.randn(shape, generator=generator) for shape in shapes]
    bound = sf.total_norm(originals) / 2

    def contender(name: str, clip: Callable[..., Any]) -> Contender:
        parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
        gradients = [torch.empty(shape) for shape in shapes]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        return Contender(
            name,
            partial(clip, parameters, bound),
            partial(torch._foreach_copy_, gradients, originals),
        )

    return [
        contender(TORCH_CLIP, torch.nn.utils.clip_grad_norm_),
        contender(OURS, optim.clip_grad_norm_),
    ]


def everything(shapes: Shapes) -> list[Contender]:
    """Unscale, clip, step, average and zero: hot, with gradients that are put back before."""
    generator = torch.Generator().manual_seed(0)
    originals = [torch.randn(shape, generator=generator) * SCALE for shape in shapes]
    bound = sf.total_norm(originals) / SCALE / 2

    def tensors() -> list[torch.nn.Parameter]:
        parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)
        return parameters

    def torchs() -> Contender:
        parameters = tensors()
        gradients = [p.grad for p in parameters]
        averages = [torch.zeros(shape) for shape in shapes]
        optimizer = torch.optim.SGD(parameters, fused=True, **HYPERPARAMETERS)
        found, inverse = torch.zeros(1), torch.full((1,), 1 / SCALE)

        def step() -> None:
            torch._amp_foreach_non_finite_check_and_unscale_(gradients, found, inverse)
            torch.nn.utils.clip_grad_norm_(parameters, bound, foreach=True)
            optimizer.step()
            torch._foreach_lerp_(averages, [p.detach() for p in parameters], 1e-3)
            optimizer.zero_grad(set_to_none=False)

        return Contender(TORCH_ALL, step, partial(torch._foreach_copy_, gradients, originals))

    def ours() -> Contender:
        parameters = tensors()
        gradients = [p.grad for p in parameters]
        optimizer = optim.SGD(parameters, max_norm=bound, ema_decay=0.999, **HYPERPARAMETERS)
        # What a GradScaler sets. Its own look at the gradients is in neither way.
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(SCALE), torch.tensor(0.0)

        def step() -> None:
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)

        return Contender(OURS, step, partial(torch._foreach_copy_, gradients, originals))

    return [torchs(), ours()]


def averaging(length: int) -> list[Contender]:
    """`FusedSGD` on one float32 array, with an average of it and without."""
    gradient = np.random.default_rng(0).standard_normal(length, dtype=np.float32)

    def contender(name: str, decay: float | None) -> Contender:
        step = sf.FusedSGD(np.ones(length, np.float32), ema_decay=decay, **HYPERPARAMETERS)
        return Contender(name, partial(step, gradient))

    return [contender(WITHOUT, None), contender(OURS, 0.999)]


def rows(threads: int) -> list[Row]:
    """Build the rows."""
    return [
        *(
            Row(
                name=f"clip-{name}",
                title=f"`optim.clip_grad_norm_`: {title}",
                threads=n,
                build=partial(clipping, shapes),
                targets=[Target(TORCH_CLIP, limit)],
                block=block,
                budget_s=10,
            )
            for name, title, shapes, limit, block in (
                ("1000x1k", "1000 x 1K", [(1024,)] * 1000, 1 / 8, 10),
                ("resnet50", "ResNet-50's shapes", resnet50_shapes(), 1 / 1.8, 5),
            )
            for n in sorted({1, threads})
        ),
        *(
            Row(
                name=f"between-{name}",
                title=f"unscale, clip, step, average, zero: {title}",
                threads=n,
                build=partial(everything, shapes),
                targets=[Target(TORCH_ALL, limit if n == 1 else on_more)],
                block=block,
                budget_s=15,
            )
            for name, title, shapes, limit, on_more, block in (
                ("1000x1k", "1000 x 1K", [(1024,)] * 1000, 1 / 9, 1 / 9, 10),
                ("resnet50", "ResNet-50's shapes", resnet50_shapes(), 1 / 2.2, 1 / 2, 5),
            )
            for n in sorted({1, threads})
        ),
        Row(
            name="ema",
            title="`FusedSGD` with `ema_decay`: 25.6M float32",
            threads=threads,
            build=partial(averaging, 25_600_000),
            targets=[Target(WITHOUT, 1.3)],
            block=5,
            budget_s=15,
            read_bytes=(12 + 4) * 25_600_000,
        ),
    ]
