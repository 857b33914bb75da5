"""The rows that need no checkout: a minute's look at what the library is for.

Those of NumPy need nothing else; those of torch are there where torch is.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from subgrad_fast.bench.circumstances import has_torch
from subgrad_fast.bench.harness import OURS, Contender, Row, Subject, Target
from subgrad_fast.bench.sgd import DEFAULT, FUSED, HYPERPARAMETERS, LEARNING_RATE, MOMENTUM
from subgrad_fast.bench.workloads import Shapes
from subgrad_fast.dense import FusedSGD
from subgrad_fast.loading.loader import BatchLoader
from subgrad_fast.sampling import BatchSampler, choose
from subgrad_fast.select.magnitudes import select

Array = npt.NDArray[Any]

NUMPY = "NumPy: `m *= 0.9; m += g; w -= lr * m`"
TAKE = "a loop of `numpy.take`"
PARTITION = "`numpy.argpartition` of the magnitudes"
CHOICE = "`numpy.random.Generator.choice`"
DATA_LOADER = "`torch.utils.data.DataLoader(TensorDataset)`"

SMALL: Shapes = [(64, 64)] * 80 + [(64,)] * 80
ROWS, WIDTH, BATCH = 100_000, 64, 128


def _gradients(shapes: Shapes) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def steps(shapes: Shapes) -> list[Contender]:
    """`FusedSGD` against the three lines that people write, for each array. No weight decay."""
    gradients = _gradients(shapes)

    def arrays() -> list[Array]:
        return [np.zeros(shape, np.float32) for shape in shapes]

    weights, momentum, ours = arrays(), arrays(), arrays()

    def idiom() -> None:
        for w, g, m in zip(weights, gradients, momentum, strict=True):
            np.multiply(m, MOMENTUM, out=m)
            np.add(m, g, out=m)
            np.subtract(w, LEARNING_RATE * m, out=w)

    step = FusedSGD(ours, lr=LEARNING_RATE, momentum=MOMENTUM)
    return [Contender(NUMPY, idiom), Contender(OURS, partial(step, gradients))]


def top(n: int, k: int) -> list[Contender]:
    """Indices and values of the k largest magnitudes."""
    (x,) = _gradients([(n,)])

    def partition() -> tuple[Array, Array]:
        indices = np.argpartition(np.abs(x), n - k)[n - k :]
        return indices, x[indices]

    return [Contender(PARTITION, partition), Contender(OURS, partial(select, x, k=k))]


def batches() -> list[Contender]:
    """One epoch: shuffle, and gather every batch of rows and labels."""
    (x,) = _gradients([(ROWS, WIDTH)])
    y, rng = np.arange(ROWS), np.random.default_rng(0)

    def take() -> None:
        order = rng.permutation(ROWS)
        for first in range(0, ROWS, BATCH):
            rows = order[first : first + BATCH]
            _ = np.take(x, rows, axis=0), np.take(y, rows)

    loader = BatchLoader((x, y), BatchSampler(ROWS, BATCH))
    return [Contender(TAKE, take), Contender(OURS, partial(_go_through, loader))]


def draws(n: int, k: int) -> list[Contender]:
    """k different ones of n."""
    rng, numbers = np.random.default_rng(1), count()

    def ours() -> Array:
        return choose(n, k, draw=next(numbers))

    return [Contender(CHOICE, partial(rng.choice, n, k, replace=False)), Contender(OURS, ours)]


def _go_through(batches: Iterable[Any]) -> None:
    for _ in batches:
        pass


def torch_steps(shapes: Shapes) -> list[Contender]:
    """`optim.SGD` against torch's, on the same gradients again and again."""
    torch = importlib.import_module("torch")
    optim = importlib.import_module("subgrad_fast.optim")
    gradients = [torch.from_numpy(g) for g in _gradients(shapes)]

    def contender(name: str, make: Callable[..., Any], **kwargs: Any) -> Contender:
        parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer = make(parameters, **HYPERPARAMETERS, **kwargs)
        return Contender(
            name, optimizer.step, results=lambda: [p.detach().numpy() for p in parameters]
        )

    return [
        contender(DEFAULT, torch.optim.SGD),
        contender(FUSED, torch.optim.SGD, fused=True),
        contender(OURS, optim.SGD),
    ]


def torch_epochs() -> list[Contender]:
    """One epoch of the two loaders of one name."""
    data = importlib.import_module("torch.utils.data")
    ours = importlib.import_module("subgrad_fast.data")
    torch = importlib.import_module("torch")
    (x,) = _gradients([(ROWS, WIDTH)])
    dataset = data.TensorDataset(torch.from_numpy(x), torch.arange(ROWS))
    loaders = {
        DATA_LOADER: data.DataLoader(dataset, batch_size=BATCH, shuffle=True),
        OURS: ours.DataLoader(dataset, batch_size=BATCH, shuffle=True),
    }
    return [Contender(name, partial(_go_through, loader)) for name, loader in loaders.items()]


def subject(threads: int) -> Subject:
    """Build the rows, as far as there are libraries for them."""

    def row(name: str, title: str, build: Callable[[], list[Contender]], *peers: str) -> Row:
        return Row(
            name=name,
            title=title,
            threads=threads,
            build=build,
            targets=[Target(peer) for peer in peers],
            block=3,
            budget_s=4,
        )

    small, large = "160 small arrays, 332,800 float32", "10M float32"
    epoch = f"an epoch of {ROWS:,} rows in batches of {BATCH}"
    rows = [
        row("numpy-small", f"`FusedSGD`: {small}", partial(steps, SMALL), NUMPY),
        row("numpy-large", f"`FusedSGD`: {large}", partial(steps, [(10**7,)]), NUMPY),
        row("top", "`select`: the top 1% of 10M", partial(top, 10**7, 10**5), PARTITION),
        row("batches", f"`BatchLoader`: {epoch}", batches, TAKE),
        row("draws", "`choose`: 128 different of 1e8", partial(draws, 10**8, 128), CHOICE),
    ]
    if has_torch():
        steps_of = partial(partial, torch_steps)
        rows += [
            row("torch-small", f"`optim.SGD`: {small}", steps_of(SMALL), FUSED, DEFAULT),
            row("torch-large", f"`optim.SGD`: {large}", steps_of([(10**7,)]), FUSED, DEFAULT),
            row("torch-batches", f"`data.DataLoader`: {epoch}", torch_epochs, DATA_LOADER),
        ]
    return Subject(rows=rows, reference=DEFAULT)
