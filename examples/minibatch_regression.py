"""Fit y = 2 x + 1 + noise by SGD, from single samples to large batches. NumPy only.

Each batch size runs three times: with a batch of BatchLoader and a call of sgd_step for each step,
with what a loop can keep between steps, and as one would write it in NumPy. All end within BOUND
of the least-squares answer. A model of two numbers is all overhead: a batch costs two new arrays,
a step a look at its arguments. FusedSGD has looked at them, and a large batch can be taken apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from plots import new_figure, parser_of, save

import subgrad_fast as sf

SLOPE, INTERCEPT, NOISE = 2.0, 1.0, 0.3
POINTS, CHUNK = 2048, 512
"""The learning rate falls after each chunk of points."""
BOUND = 0.01
"""How far from the least-squares answer slope and intercept may end."""

# Smaller batches have noisier gradients and take more steps, so smaller ones.
LEARNING_RATES = {1: 0.02, 8: 0.1, 64: 0.4, 512: 0.8}

Array = npt.NDArray[np.float64]
Data = tuple[Array, Array]  # points x and y, float64 [n]
Way = tuple[Callable[[], Iterable[Iterable[Data]]], Callable[[float], Callable[[Array], object]]]
"""The chunks of an epoch, which are batches; and the step with a learning rate, of a gradient."""


class Fit(NamedTuple):
    """Where a run ended: [slope, intercept], and its larger distance from least squares."""

    line: Array
    distance: float
    seconds: float  # of a step
    losses: list[float]  # before each epoch


def make_data(seed: int) -> Data:
    """Draw points around the line."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, POINTS)
    return x, SLOPE * x + INTERCEPT + NOISE * rng.standard_normal(POINTS)


def by_calls(data: Data, line: Array, size: int, seed: int) -> Way:
    """A batch of BatchLoader and a call of sgd_step for each step."""
    loader = sf.BatchLoader(data, sf.BatchSampler(POINTS, size, seed=seed))

    def chunks() -> Iterator[Iterable[Data]]:
        batches = iter(loader)
        return (islice(batches, CHUNK // size) for _ in range(POINTS // CHUNK))

    return chunks, lambda lr: lambda gradient: sf.sgd_step(line, gradient, lr=lr)


def by_what_is_kept(data: Data, line: Array, size: int, seed: int) -> Way:
    """A FusedSGD, and batches of BatchLoader that are a chunk, taken apart."""
    loader = sf.BatchLoader(data, sf.BatchSampler(POINTS, CHUNK, seed=seed))
    step = sf.FusedSGD(line, lr=0.0)

    def chunks() -> Iterator[Iterable[Data]]:
        for x, y in loader:
            yield ((x[i : i + size], y[i : i + size]) for i in range(0, CHUNK, size))

    def step_with(lr: float) -> sf.FusedSGD:
        step.lr = lr
        return step

    return chunks, step_with


def by_numpy(data: Data, line: Array, size: int, seed: int) -> Way:
    """The same as one would write it in NumPy."""
    (x, y), rng = data, np.random.default_rng(seed)

    def chunks() -> Iterator[Iterable[Data]]:
        order = rng.permutation(POINTS).reshape(-1, CHUNK // size, size)
        return (((x[rows], y[rows]) for rows in chunk) for chunk in order)

    return chunks, lambda lr: lambda gradient: np.subtract(line, lr * gradient, out=line)


WAYS = {"each by a call": by_calls, "kept between steps": by_what_is_kept, "NumPy": by_numpy}


def fit(data: Data, size: int, epochs: int, seed: int, name: str) -> Fit:
    """Run SGD from zero, with a learning rate that falls linearly to zero."""
    line, losses, done = np.zeros(2), [], 0
    chunks, step_with = WAYS[name](data, line, size, seed)
    start = time.perf_counter()
    for _ in range(epochs):
        losses.append(float(np.mean((line[0] * data[0] + line[1] - data[1]) ** 2)))
        for chunk in chunks():
            step = step_with(LEARNING_RATES[size] * (1 - done * CHUNK / (epochs * POINTS)))
            for x, y in chunk:
                error = line[0] * x + line[1] - y
                step(np.array([error @ x, error.sum()]) / size)
            done += 1
    seconds = (time.perf_counter() - start) / (epochs * POINTS // size)
    best = np.polynomial.Polynomial.fit(*data, 1, domain=[]).coef[::-1]  # least squares
    return Fit(line, float(np.abs(line - best).max()), seconds, losses)


def save_plot(runs: dict[int, dict[str, Fit]], path: Path) -> None:
    """Draw the loss before each epoch, and what a step takes by each way."""
    figure = new_figure(10)
    left, right = figure.subplots(1, 2)
    for size, fits in runs.items():
        left.semilogy(fits["NumPy"].losses, label=f"batch size {size}")
    for j, name in enumerate(WAYS):
        times = [fits[name].seconds * 1e6 for fits in runs.values()]
        right.bar(np.arange(len(runs)) + 0.27 * (j - 1), times, 0.25, label=name)
    left.set(xlabel="epoch", ylabel="mean squared error", title="y = 2 x + 1 + noise")
    right.set(xlabel="batch size", ylabel="time of a step, µs", title="batch, gradient and step")
    right.set_xticks(range(len(runs)), [str(size) for size in runs])
    left.legend()
    right.legend()
    save(figure, path, "loss curves, and the time of a step")


def main(argv: list[str] | None = None) -> dict[int, dict[str, Fit]]:
    """Run all batch sizes by all ways. Returns the fits."""
    parser = parser_of(__doc__, "minibatch_regression.png")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    data = make_data(options.seed)
    print("distance from least squares, time of a step:" + "".join(f"{name:>20}" for name in WAYS))
    runs: dict[int, dict[str, Fit]] = {}
    for size in LEARNING_RATES:
        runs[size] = {name: fit(data, size, options.epochs, options.seed, name) for name in WAYS}
        cells = (f"{run.distance:.5f}  {run.seconds * 1e6:5.1f} us" for run in runs[size].values())
        print(f"batch size {size:3}" + " " * 31, *cells, sep="   ")
    save_plot(runs, options.plot)
    return runs


if __name__ == "__main__":
    main()
