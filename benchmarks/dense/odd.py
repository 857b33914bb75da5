"""`optim.SGD` where parameters, gradients or state are not what most programs have.

80 tensors of 64 x 64, hot. What a row changes between two steps is not timed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

from benchmarks.dense.peers import OPTIMIZERS
from subgrad_fast.bench.harness import OURS, Contender, Row, Target, nothing
from subgrad_fast.bench.sgd import DEFAULT, FOREACH, FUSED

COUNT, WIDTH = 80, 64
SHAPE = (WIDTH, WIDTH)


class Named(torch.nn.Parameter):
    """A parameter of a library's, as FSDP1's: torch's operations see a plain one."""


def random(dtype: torch.dtype = torch.float32) -> Tensor:
    """A contiguous tensor."""
    return torch.randn(SHAPE, dtype=dtype)


def transposed() -> Tensor:
    """A tensor that is dense, and lies column by column."""
    return random().t()


def swap_one(parameters: Sequence[Tensor], _: torch.optim.Optimizer) -> Callable[[], None]:
    """Gives one parameter other memory before every step."""
    turns = cycle([parameters[3].data, parameters[3].data.clone()])

    def change() -> None:
        parameters[3].data = next(turns)

    return change


def swap_all(parameters: Sequence[Tensor], _: torch.optim.Optimizer) -> Callable[[], None]:
    """The same for all of them."""
    turns = cycle([[p.data for p in parameters], [p.data.clone() for p in parameters]])

    def change() -> None:
        for parameter, memory in zip(parameters, next(turns), strict=True):
            parameter.data = memory

    return change


def replace_buffer(
    parameters: Sequence[Tensor], optimizer: torch.optim.Optimizer
) -> Callable[[], None]:
    """Puts a copy in the place of one momentum buffer, each parameter's in its turn."""
    turns = cycle(parameters)

    def change() -> None:
        slots = optimizer.state[next(turns)]
        slots["momentum_buffer"] = slots["momentum_buffer"].clone()

    return change


@dataclass(frozen=True)
class Odd:
    """What a row's tensors are, and what happens to them between two steps."""

    name: str
    title: str
    limit: float
    parameter: Callable[[], Tensor] = random
    gradient: Callable[[], Tensor] = random
    between: Callable[..., Callable[[], None]] | None = None
    make: Callable[[Tensor], Tensor] = torch.nn.Parameter
    peer: str = FUSED
    alone: bool = False
    """Whether each parameter has an optimizer of its own, which a hook steps within backward."""

    def contender(self, name: str) -> Contender:
        """A contender with parameters of its own."""
        torch.manual_seed(0)
        parameters = [self.make(self.parameter()) for _ in range(COUNT)]
        gradients = [self.gradient() for _ in range(COUNT)]
        if self.alone:
            return in_hooks(name, parameters, gradients)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer = OPTIMIZERS[name](parameters)
        optimizer.step()
        between = nothing if self.between is None else self.between(parameters, optimizer)
        return Contender(name, optimizer.step, between)

    def contenders(self) -> list[Contender]:
        """Ours, the peer that is asked for and torch's default."""
        return [self.contender(name) for name in dict.fromkeys((DEFAULT, self.peer, OURS))]


def in_hooks(name: str, parameters: list[Tensor], gradients: list[Tensor]) -> Contender:
    """One optimizer a parameter, each stepped by the hook that its gradient calls."""
    optimizers = [OPTIMIZERS[name]([parameter]) for parameter in parameters]

    def hook(optimizer: torch.optim.Optimizer, _: Any) -> None:
        optimizer.step()

    for parameter, optimizer in zip(parameters, optimizers, strict=True):
        parameter.register_post_accumulate_grad_hook(partial(hook, optimizer))
    return Contender(
        name,
        partial(torch.autograd.backward, parameters, gradients),
        lambda: [optimizer.zero_grad() for optimizer in optimizers],
    )


ODD = [
    Odd("subclass", "`nn.Parameter` subclasses", 0.5, make=Named),
    Odd("data-one", "one `p.data = ...` before each step", 0.6, between=swap_one),
    Odd("data-all", "all `p.data = ...` before each step", 1.0, between=swap_all),
    Odd("buffer", "a momentum buffer replaced before each step", 0.6, between=replace_buffer),
    Odd("permuted", "permuted dense", 0.6, parameter=transposed, gradient=transposed),
    Odd("transposed", "transposed gradients", 1.0, gradient=transposed),
    Odd(
        "complex",
        "complex64",
        0.6,
        parameter=partial(random, torch.complex64),
        gradient=partial(random, torch.complex64),
        peer=FOREACH,
    ),
    Odd("hooks", "one optimizer a parameter, in `post_accumulate_grad` hooks", 0.2, alone=True),
]


def rows(threads: int) -> list[Row]:
    """Build the rows: on one thread, and on all."""
    return [
        Row(
            name=f"optim-odd-{odd.name}",
            title=f"80 tensors 64 x 64: {odd.title}",
            threads=n,
            build=odd.contenders,
            targets=[Target(odd.peer, odd.limit), Target(DEFAULT)],
            block=20,
            budget_s=5,
        )
        for odd in ODD
        for n in sorted({1, threads})
    ]
