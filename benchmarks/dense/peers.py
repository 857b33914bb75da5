"""The contenders: torch's three implementations of SGD, NumPy's idiom, a triad, and ours.

Contenders hold their own parameters and momentum; nobody writes the gradients, so they are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

import subgrad_fast as sf
from benchmarks.dense.workloads import chain_of_linears
from benchmarks.harness import OURS, Contender
from benchmarks.sgd import (
    DEFAULT,
    FOREACH,
    FUSED,
    HYPERPARAMETERS,
    LEARNING_RATE,
    MOMENTUM,
    OURS_F32,
)
from subgrad_fast.optim import SGD

NUMPY = "NumPy: `m *= 0.9; m += g; p -= lr * m`"
TRIAD = "the triad `x += y * z`"

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    DEFAULT: partial(torch.optim.SGD, **HYPERPARAMETERS),
    FOREACH: partial(torch.optim.SGD, **HYPERPARAMETERS, foreach=True),
    FUSED: partial(torch.optim.SGD, **HYPERPARAMETERS, fused=True),
    OURS: partial(SGD, **HYPERPARAMETERS),
}


def results(optimizer: torch.optim.Optimizer) -> list[np.ndarray[Any, Any]]:
    """Every parameter, then every momentum buffer."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states = optimizer.state_dict()["state"].values()
    return [t.detach().numpy() for t in (*parameters, *(s["momentum_buffer"] for s in states))]


def in_the_loop(*, depth: int, width: int, batch: int = 16) -> list[Contender]:
    """Give each its own network; a real forward and backward goes before every timed step."""
    x, y = torch.randn(2, batch, width, generator=torch.Generator().manual_seed(1))

    def contender(name: str) -> Contender:
        torch.manual_seed(0)
        model = chain_of_linears(depth, width)
        optimizer = OPTIMIZERS[name](model.parameters())

        def forward_and_backward() -> None:
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.mse_loss(model(x), y).backward()

        return Contender(name, optimizer.step, forward_and_backward, partial(results, optimizer))

    return [contender(name) for name in OPTIMIZERS]


def hot(shapes: Sequence[tuple[int, ...]]) -> list[Contender]:
    """Repeat the step on the same parameters and the same gradients, with nothing in between."""
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(shape, generator=generator) for shape in shapes]

    def contender(name: str) -> Contender:
        parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer = OPTIMIZERS[name](parameters)
        return Contender(name, optimizer.step, results=partial(results, optimizer))

    return [contender(name) for name in OPTIMIZERS]


def hot_and_triad(length: int) -> list[Contender]:
    """One large tensor, and next to it what the memory can do."""
    return [*hot([(length,)]), triad(length)]


def triad(length: int) -> Contender:
    """`x += y * z` on three float32 arrays: reads 3, writes 1, 16 bytes an element.

    The SGD step reads 3 arrays and writes 2 of them back. Like the step, and unlike STREAM's
    `a = b + s * c`, this writes only what it has read: no cache line is fetched merely to be
    overwritten, and every byte that moves is counted.
    """
    x, y, z = torch.zeros(length), torch.ones(length), torch.full((length,), 1e-6)
    return Contender(TRIAD, partial(x.addcmul_, y, z))


def low_precision(shapes: Sequence[tuple[int, ...]]) -> list[Contender]:
    """`sgd_step` on bfloat16 parameters and gradients with float32 momentum, and on float32."""

    def contender(name: str, dtype: torch.dtype) -> Contender:
        generator = torch.Generator().manual_seed(0)
        parameters = [torch.ones(shape, dtype=dtype) for shape in shapes]
        gradients = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
        momentum_buffers = [torch.zeros(shape, dtype=torch.float32) for shape in shapes]
        return Contender(
            name, partial(sf.sgd_step, parameters, gradients, momentum_buffers, **HYPERPARAMETERS)
        )

    return [contender(OURS_F32, torch.float32), contender(OURS, torch.bfloat16)]


def numpy_arrays(length: int) -> list[Contender]:
    """`sgd_step` against the three lines that people write. No weight decay on either side."""
    g = np.random.default_rng(0).standard_normal(length, dtype=np.float32)

    def arrays() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        return np.ones(length, dtype=np.float32), np.zeros(length, dtype=np.float32)

    p, m = arrays()

    def idiom() -> None:
        nonlocal p, m
        m *= MOMENTUM
        m += g
        p -= LEARNING_RATE * m

    ours_p, ours_m = arrays()
    ours = partial(sf.sgd_step, ours_p, g, ours_m, lr=LEARNING_RATE, momentum=MOMENTUM)
    return [Contender(NUMPY, idiom), Contender(OURS, ours)]
