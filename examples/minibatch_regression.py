"""Fit y = 2 x + 1 + noise by SGD, from single samples to large batches. NumPy only.

Each batch size runs twice: with BatchLoader and sgd_step, and as one would write it in NumPy. Both
end within BOUND of the least-squares answer. A model of two numbers is all overhead, so here NumPy
alone is as fast or faster; what the library gains grows with the rows and the weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import subgrad_fast as sf

SLOPE, INTERCEPT, NOISE = 2.0, 1.0, 0.3
POINTS = 2000
BOUND = 0.01
"""How far from the least-squares answer slope and intercept may end."""

# Smaller batches have noisier gradients and take more steps, so smaller ones.
LEARNING_RATES = {1: 0.02, 8: 0.1, 64: 0.4, 512: 0.8}

Array = npt.NDArray[np.float64]
Batches = Callable[[], Iterable[Any]]
Step = Callable[[Array, Array, float], None]


class Data(NamedTuple):
    """Points, both float64 [n]."""

    x: Array
    y: Array


@dataclass(frozen=True)
class Fit:
    """Where a run ended: [slope, intercept], and its larger distance from least squares."""

    line: Array
    distance: float
    steps: int
    seconds: float
    losses: list[float]


def make_data(seed: int) -> Data:
    """Draw points around the line."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, POINTS)
    return Data(x, SLOPE * x + INTERCEPT + NOISE * rng.standard_normal(POINTS))


def least_squares(data: Data) -> Array:
    """Return the line with the smallest squared error."""
    design = np.stack([data.x, np.ones(POINTS)], axis=1)
    return np.asarray(np.linalg.lstsq(design, data.y, rcond=None)[0])


def gradient(line: Array, x: Array, y: Array) -> Array:
    """Return the gradient of half the mean squared error of a batch."""
    error = line[0] * x + line[1] - y
    return np.array([error @ x, error.sum()]) / len(x)


def with_library(data: Data, batch_size: int, seed: int) -> tuple[Batches, Step]:
    """One epoch's batches and a step, by the library."""
    loader = sf.BatchLoader(data, sf.BatchSampler(POINTS, batch_size, seed=seed))
    return lambda: loader, lambda line, grad, lr: sf.sgd_step(line, grad, lr=lr)


def with_numpy(data: Data, batch_size: int, seed: int) -> tuple[Batches, Step]:
    """The same as one would write it in NumPy."""
    rng = np.random.default_rng(seed)

    def batches() -> Iterator[Any]:
        order = rng.permutation(POINTS)
        for first in range(0, POINTS, batch_size):
            rows = order[first : first + batch_size]
            yield data.x[rows], data.y[rows]

    def step(line: Array, grad: Array, lr: float) -> None:
        line -= lr * grad

    return batches, step


def fit(data: Data, batch_size: int, epochs: int, batches: Batches, step: Step) -> Fit:
    """Run SGD from zero, with a learning rate that falls linearly to zero."""
    line, losses = np.zeros(2), []
    done, steps = 0, epochs * -(-POINTS // batch_size)
    start = time.perf_counter()
    for _ in range(epochs):
        losses.append(float(np.mean((line[0] * data.x + line[1] - data.y) ** 2)))
        for x, y in batches():
            step(line, gradient(line, x, y), LEARNING_RATES[batch_size] * (1 - done / steps))
            done += 1
    seconds = time.perf_counter() - start
    return Fit(line, float(np.abs(line - least_squares(data)).max()), steps, seconds, losses)


def save_plot(runs: dict[int, tuple[Fit, Fit]], path: Path) -> None:
    """Draw the loss before each epoch, one curve a batch size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes: Any = figure.subplots()
    for size, (ours, _) in runs.items():
        axes.semilogy(ours.losses, label=f"batch size {size}")
    axes.set(xlabel="epoch", ylabel="mean squared error", title="y = 2 x + 1 + noise")
    axes.legend()
    figure.savefig(path, dpi=120)


def main(argv: list[str] | None = None) -> dict[int, tuple[Fit, Fit]]:
    """Run all batch sizes. Returns our fit and NumPy's for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, default=Path("minibatch_regression.png"))
    options = parser.parse_args(argv)
    data = make_data(options.seed)
    slope, intercept = least_squares(data)
    print(f"least squares: slope {slope:.4f}, intercept {intercept:.4f}; bound {BOUND}\n")
    print(f"{'distance from it, time per step':34} {'ours':18} NumPy")
    runs: dict[int, tuple[Fit, Fit]] = {}
    for size in LEARNING_RATES:
        ours, numpys = (
            fit(data, size, options.epochs, *how(data, size, options.seed))
            for how in (with_library, with_numpy)
        )
        runs[size] = ours, numpys
        cells = (f"{r.distance:.5f} {r.seconds / r.steps * 1e6:5.1f} us" for r in runs[size])
        print(f"batch size {size:3}, {ours.steps:5} steps" + " " * 10 + "   ".join(cells))
    save_plot(runs, options.plot)
    print(f"\nloss curves: {options.plot}")
    return runs


if __name__ == "__main__":
    main()
