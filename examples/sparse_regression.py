"""Recover a planted sparse model: as few non-zero weights as possible, subject to loss < EPS.

y = X w + noise, where 20 of the 1000 weights are not zero and there are but 300 samples, so that
least squares alone fits anything. NumPy only, full gradients. L1: a proximal step (l1= of sgd_step)
shrinks weights to exactly zero; the penalty falls until the weights left, fitted again without it,
reach the bound. L0: a step, then hard_threshold_ keeps the k largest weights; the smallest k that
reaches the bound is found by bisection. Sparsity is looked at after every step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from plots import new_figure, parser_of, save

import subgrad_fast as sf

SAMPLES, WEIGHTS, PLANTED = 300, 1000, 20
NOISE = 0.1
EPS = NOISE**2
"""The bound on the loss, mean((X w - y)^2) / 2: twice what the noise alone makes of it."""

Array = npt.NDArray[np.float64]


class Problem(NamedTuple):
    """X, float64 [SAMPLES, WEIGHTS]; y, float64 [SAMPLES]; the weights that made y; a safe rate."""

    x: Array
    y: Array
    planted: Array
    lr: float

    def loss(self, w: Array) -> float:
        return float(np.mean((self.x @ w - self.y) ** 2) / 2)

    def gradient(self, w: Array) -> Array:
        return np.asarray(self.x.T @ (self.x @ w - self.y) / len(self.y))

    def refit(self, w: Array) -> Array:
        """Least squares on the support of `w`, which removes the bias that shrinkage leaves."""
        out, support = np.zeros_like(w), np.flatnonzero(w)
        out[support] = np.linalg.lstsq(self.x[:, support], self.y, rcond=None)[0]
        return out


class Fit(NamedTuple):
    """The weights found, and the number of non-zeros after each step."""

    w: Array
    nonzeros: list[int]


def make_problem(seed: int) -> Problem:
    """Plant weights of size 1 to 2 and of either sign."""
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((SAMPLES, WEIGHTS)), np.zeros(WEIGHTS)
    where = rng.choice(WEIGHTS, PLANTED, replace=False)
    w[where] = rng.uniform(1, 2, PLANTED) * rng.choice([-1.0, 1.0], PLANTED)
    y = x @ w + NOISE * rng.standard_normal(SAMPLES)
    return Problem(x, y, w, lr=SAMPLES / float(np.linalg.norm(x, 2)) ** 2)


def fit(problem: Problem, steps: int, w: Array, change: Callable[[Array, Array], object]) -> Fit:
    """Call change(w, gradient) so many times."""
    nonzeros = []
    for _ in range(steps):
        change(w, problem.gradient(w))
        nonzeros.append(np.count_nonzero(w))
    return Fit(w, nonzeros)


def fit_l1(problem: Problem, penalty: float, steps: int, start: Array) -> Fit:
    """Minimise loss + penalty * |w|_1 by proximal steps (ISTA)."""
    return fit(problem, steps, start.copy(), partial(sf.sgd_step, lr=problem.lr, l1=penalty))


def fit_l0(problem: Problem, k: int, steps: int) -> Fit:
    """Minimise the loss among weights with at most k non-zeros (iterative hard thresholding)."""

    def step_and_project(w: Array, gradient: Array) -> None:
        sf.sgd_step(w, gradient, lr=0.5)
        sf.hard_threshold_(w, k=k)

    return fit(problem, steps, np.zeros(WEIGHTS), step_and_project)


def sparsest_l1(problem: Problem, steps: int) -> tuple[Fit, float]:
    """Lower the penalty, each time from the last weights, until their support reaches the bound."""
    found = Fit(np.zeros(WEIGHTS), [])
    penalty = float(np.abs(problem.gradient(found.w)).max())  # at this one all weights are zero
    while problem.loss(problem.refit(found.w)) >= EPS:
        penalty *= 0.8
        later = fit_l1(problem, penalty, steps, found.w)
        found = Fit(later.w, found.nonzeros + later.nonzeros)
    return found, penalty


def sparsest_l0(problem: Problem, steps: int) -> tuple[Fit, int]:
    """Bisect for the smallest k whose weights reach the bound."""
    too_few, enough = 0, WEIGHTS // 8
    while enough - too_few > 1:
        k = (too_few + enough) // 2
        reached = problem.loss(fit_l0(problem, k, steps).w) < EPS
        too_few, enough = (too_few, k) if reached else (k, enough)
    return fit_l0(problem, enough, steps), enough


def save_plot(fits: dict[str, Fit], path: Path) -> None:
    """Draw the number of non-zeros after each step."""
    figure = new_figure()
    axes: Any = figure.subplots()
    for name, found in fits.items():
        axes.plot(found.nonzeros, label=name)
    axes.axhline(PLANTED, color="gray", linestyle=":", label=f"planted: {PLANTED}")
    title = f"Of {WEIGHTS} weights, those that {SAMPLES} samples leave"
    axes.set(xlabel="step", ylabel="non-zero weights", title=title)
    axes.legend()
    save(figure, path, "non-zeros by step")


def main(argv: list[str] | None = None) -> tuple[Problem, Fit, float, Fit]:
    """Run both, print what they found, write the plot."""
    parser = parser_of(__doc__, "sparse_regression.png")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    problem = make_problem(options.seed)
    (l1, penalty), (l0, k) = sparsest_l1(problem, steps=60), sparsest_l0(problem, steps=60)
    fits = {f"L1, penalty {penalty:.3f}": l1, f"L0, k = {k}": l0}
    for name, (w, _) in fits.items():
        right, loss = np.count_nonzero(w * problem.planted), problem.loss(problem.refit(w))
        print(
            f"{name:18} {np.count_nonzero(w)} non-zeros, {right} of the {PLANTED} planted;", end=""
        )
        print(f" loss {loss:.5f} < {EPS:.5f}")
    save_plot(fits, options.plot)
    return problem, l1, penalty, l0


if __name__ == "__main__":
    main()
