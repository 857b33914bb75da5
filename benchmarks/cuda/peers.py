"""The contenders: ours, torch's, and apex's where it is installed.

Every contender has sets of arrays of its own and takes turns with them, see device.py.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain, count
from typing import Any

import torch

import subgrad_fast as sf
from benchmarks.cuda.device import Device, Step, in_turns
from benchmarks.threshold import peers as threshold_peers
from subgrad_fast.bench.harness import OURS, Contender
from subgrad_fast.bench.sgd import FOREACH, FUSED, HYPERPARAMETERS, OURS_F32
from subgrad_fast.bench.workloads import Shapes
from subgrad_fast.optim import SGD

APEX = "`apex.optimizers.FusedSGD`"
FUSED_BF16 = "`torch.optim.SGD(fused=True)`, all bfloat16"
TOPK = "`torch.topk(x.abs(), k, sorted=False)`"
RANDPERM, SELECT = "`torch.randperm`", "`torch.randperm`, a loop of `torch.index_select`"

Make = Callable[..., torch.optim.Optimizer]


def optimizers() -> dict[str, Make]:
    """Who is compared. On a GPU, foreach is torch's default."""
    found: dict[str, Make] = {
        FOREACH: partial(torch.optim.SGD, **HYPERPARAMETERS, foreach=True),
        FUSED: partial(torch.optim.SGD, **HYPERPARAMETERS, fused=True),
    }
    try:
        apex = importlib.import_module("apex.optimizers")
    except ImportError:
        pass
    else:
        found[APEX] = partial(apex.FusedSGD, **HYPERPARAMETERS)
    return found | {OURS: partial(SGD, **HYPERPARAMETERS)}


def randoms(device: Device, shapes: Shapes, dtype: torch.dtype) -> list[torch.Tensor]:
    """The same numbers every time."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator).to(device.torch_name, dtype) for s in shapes]


def turns(device: Device, steps: Iterable[Step], *, graph: bool) -> Step:
    """The steps of all sets by turns, as they are or as graphs."""
    return in_turns([device.captured(step) if graph else step for step in steps])


def results(optimizers: Sequence[torch.optim.Optimizer]) -> list[Any]:
    """Every parameter of every set, then every momentum buffer."""
    groups = chain.from_iterable(optimizer.param_groups for optimizer in optimizers)
    parameters = chain.from_iterable(group["params"] for group in groups)
    states = chain.from_iterable(
        optimizer.state_dict()["state"].values() for optimizer in optimizers
    )
    momentum = (state["momentum_buffer"] for state in states)
    return [t.detach().cpu().numpy() for t in chain(parameters, momentum)]


def dense(device: Device, shapes: Shapes, *, graph: bool = False) -> list[Contender]:
    """float32 parameters, gradients and momentum."""
    sets = device.sets(12 * sum(map(math.prod, shapes)))
    gradients = [randoms(device, shapes, torch.float32) for _ in range(sets)]

    def contender(name: str, make: Make) -> Contender:
        made = []
        for grads in gradients:
            parameters = [torch.nn.Parameter(torch.zeros_like(grad)) for grad in grads]
            for parameter, grad in zip(parameters, grads, strict=True):
                parameter.grad = grad
            made.append(make(parameters))
        step = turns(device, (optimizer.step for optimizer in made), graph=graph)
        return Contender(name, step, results=partial(results, made))

    return [contender(name, make) for name, make in optimizers().items()]


def low_precision(device: Device, shapes: Shapes) -> list[Contender]:
    """`sgd_step` on bfloat16 parameters and gradients with float32 momentum.

    torch has no such step: beside it are its fused one with everything in bfloat16, and ours with
    everything in float32.
    """
    sets = device.sets(8 * sum(map(math.prod, shapes)))

    def ours(name: str, dtype: torch.dtype) -> Contender:
        steps = []
        for _ in range(sets):
            grads = randoms(device, shapes, dtype)
            parameters = [torch.ones_like(grad) for grad in grads]
            momentum = [torch.zeros_like(grad, dtype=torch.float32) for grad in grads]
            steps.append(partial(sf.sgd_step, parameters, grads, momentum, **HYPERPARAMETERS))
        return Contender(name, in_turns(steps))

    def fused() -> Contender:
        steps = []
        for _ in range(sets):
            parameters = []
            for grad in randoms(device, shapes, torch.bfloat16):
                parameters.append(torch.nn.Parameter(torch.ones_like(grad)))
                parameters[-1].grad = grad
            steps.append(torch.optim.SGD(parameters, **HYPERPARAMETERS, fused=True).step)
        return Contender(FUSED_BF16, in_turns(steps))

    return [ours(OURS_F32, torch.float32), fused(), ours(OURS, torch.bfloat16)]


def top(device: Device, n: int, k: int) -> list[Contender]:
    """Indices and values of the k largest magnitudes. Any of two such arrays evicts the other."""
    arrays = [randoms(device, [(n,)], torch.float32)[0] for _ in range(device.sets(4 * n))]

    def topk(x: torch.Tensor) -> object:
        return torch.topk(x.abs(), k, sorted=False)

    def ours(x: torch.Tensor) -> object:
        return sf.select(x, k=k)

    return [
        Contender(TOPK, in_turns([partial(topk, x) for x in arrays])),
        Contender(OURS, in_turns([partial(ours, x) for x in arrays])),
    ]


def threshold(device: Device, n: int, density: float) -> list[Contender]:
    """Error feedback, threshold and update."""
    gradient = randoms(device, [(n,)], torch.float32)[0]
    limit = float(gradient.abs().kthvalue(n - round(density * n)).values)
    return [*threshold_peers.contenders(gradient, limit)]


def orders(device: Device, rows: int) -> list[Contender]:
    """A shuffled order of so many rows, another one in every step."""
    outputs = [torch.zeros(rows, dtype=torch.int64, device=device.torch_name) for _ in range(2)]
    epochs = count()

    def permuted() -> None:
        torch.randperm(rows, out=outputs[0], device=device.torch_name)

    def ours() -> None:
        sf.Permutation(rows, epoch=next(epochs)).slice(0, rows, out=outputs[1])

    return [Contender(RANDPERM, permuted), Contender(OURS, ours)]


def epochs(device: Device, rows: int, width: int, size: int) -> list[Contender]:
    """One epoch of shuffled batches of float32 rows and their int64 labels, all on the device."""
    x = randoms(device, [(rows, width)], torch.float32)[0]
    y = torch.zeros(rows, dtype=torch.int64, device=device.torch_name)

    def selected() -> None:
        order = torch.randperm(rows, device=device.torch_name)
        for first in range(0, rows, size):
            batch = order[first : first + size]
            torch.index_select(x, 0, batch)
            torch.index_select(y, 0, batch)

    loader = sf.BatchLoader((x, y), sf.BatchSampler(rows, size))

    def ours() -> None:
        for _ in loader:
            pass

    return [Contender(SELECT, selected), Contender(OURS, ours)]
