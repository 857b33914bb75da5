"""The contenders: torch's three implementations of SGD, NumPy's idiom, a triad, and ours.

Contenders hold their own parameters and momentum; nobody writes the gradients, so they are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

import subgrad_fast as sf
from benchmarks.dense.workloads import chain_of_linears, mnist_like, mnist_mlp
from subgrad_fast.bench.harness import OURS, Contender
from subgrad_fast.bench.sgd import (
    DEFAULT,
    FOREACH,
    FUSED,
    HYPERPARAMETERS,
    LEARNING_RATE,
    MOMENTUM,
    OURS_F32,
)
from subgrad_fast.data import DataLoader as OurDataLoader
from subgrad_fast.optim import SGD

NUMPY = "NumPy: `m *= 0.9; m += g; p -= lr * m`"
TRIAD = "the triad `x += y * z`"

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    DEFAULT: partial(torch.optim.SGD, **HYPERPARAMETERS),
    FOREACH: partial(torch.optim.SGD, **HYPERPARAMETERS, foreach=True),
    FUSED: partial(torch.optim.SGD, **HYPERPARAMETERS, fused=True),
    OURS: partial(SGD, **HYPERPARAMETERS),
}


MAX_NORM = 1.0
CLIPPED, FORGETTING, TRAINING = (
    {name: text.format(name) for name in (FUSED, DEFAULT)} | {OURS: OURS}
    for text in (
        "`clip_grad_norm_(foreach=True)`, {}, `zero_grad`",
        "`zero_grad` of {}",
        "`DataLoader`, `clip_grad_norm_(foreach=True)`, {}, `zero_grad`",
    )
)
"""What contenders are called where more than the step is timed, by their optimizer."""


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


def clip_step_forget(name: str, model: torch.nn.Module) -> Callable[[], None]:
    """All that a loop does to a model between backward and forward. Ours clips within the step."""
    parameters = list(model.parameters())
    if name == OURS:
        ours = SGD(parameters, **HYPERPARAMETERS, max_norm=MAX_NORM)

        def work() -> None:
            ours.step()
            ours.zero_grad()

        return work

    theirs = OPTIMIZERS[name](parameters)

    def torchs_work() -> None:
        torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM, foreach=True)
        theirs.step()
        theirs.zero_grad()

    return torchs_work


def between(*, depth: int, width: int, batch: int = 16) -> list[Contender]:
    """As `in_the_loop`, but clipping and forgetting are timed with the step."""
    x, y = torch.randn(2, batch, width, generator=torch.Generator().manual_seed(1))

    def contender(name: str) -> Contender:
        torch.manual_seed(0)
        model = chain_of_linears(depth, width)

        def forward_and_backward() -> None:
            torch.nn.functional.mse_loss(model(x), y).backward()

        return Contender(CLIPPED[name], clip_step_forget(name, model), forward_and_backward)

    return [contender(name) for name in CLIPPED]


def forgetting(*, depth: int, width: int, batch: int = 16) -> list[Contender]:
    """As `in_the_loop`, but the step goes before, and `zero_grad()` alone is timed."""
    x, y = torch.randn(2, batch, width, generator=torch.Generator().manual_seed(1))

    def contender(name: str) -> Contender:
        torch.manual_seed(0)
        model = chain_of_linears(depth, width)
        optimizer = OPTIMIZERS[name](model.parameters())

        def up_to_the_step() -> None:
            torch.nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()

        return Contender(FORGETTING[name], optimizer.zero_grad, up_to_the_step)

    return [contender(name) for name in FORGETTING]


def for_ever(loader: Iterable[Any]) -> Iterator[Any]:
    """Epoch after epoch of batches."""
    while True:
        yield from loader


def training(*, batch: int) -> list[Contender]:
    """All that an iteration does outside forward and backward: the batch comes from memory."""
    dataset = mnist_like()

    def contender(name: str) -> Contender:
        torch.manual_seed(0)
        model = mnist_mlp()
        loader = OurDataLoader if name == OURS else DataLoader
        batches = for_ever(loader(dataset, batch_size=batch, shuffle=True))
        x, y = next(batches)
        work = clip_step_forget(name, model)

        def forward_and_backward() -> None:
            torch.nn.functional.cross_entropy(model(x), y).backward()

        def up_to_the_next_batch() -> None:
            nonlocal x, y
            work()
            x, y = next(batches)

        return Contender(TRAINING[name], up_to_the_next_batch, forward_and_backward)

    return [contender(name) for name in TRAINING]


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


def low_precision(shapes: Sequence[tuple[int, ...]], momentum: torch.dtype) -> list[Contender]:
    """`sgd_step` on bfloat16 parameters and gradients with such momentum, and on float32."""

    def contender(name: str, dtype: torch.dtype) -> Contender:
        generator = torch.Generator().manual_seed(0)
        parameters = [torch.ones(shape, dtype=dtype) for shape in shapes]
        gradients = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
        kept = torch.promote_types(dtype, momentum)
        momentum_buffers = [torch.zeros(shape, dtype=kept) for shape in shapes]
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
