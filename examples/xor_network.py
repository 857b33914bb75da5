"""Train a two-layer network on XOR, one random sample a step; then with classes of 1 to 20.

NumPy only: backpropagation is written by hand, sgd_step takes the steps with a falling learning
rate. In the second part the class whose signs differ is rare. Sampled uniformly, the network learns
to overlook it; WeightedSampler and ClassBalancedSampler show it as often as the other, and its
recall comes back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from plots import new_figure, parser_of, save

import subgrad_fast as sf

HIDDEN = 12
STEPS = 8000
LEARNING_RATE, HALF_LIFE = 0.3, 2000
"""The rate at step k is LEARNING_RATE / (1 + k / HALF_LIFE)."""
RARE, EVERY = 20, 200
"""In the second part, one in so many is of class 1. The recall is looked at every so many steps."""

Array = npt.NDArray[np.float64]


class Data(NamedTuple):
    """Points, float64 [n, 2], and classes, int64 [n]: 1 where the signs of the corner differ."""

    x: Array
    y: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """On test data: share of right answers, and of class 1 that is recognised; by step, too."""

    accuracy: float
    recall: float
    losses: Array
    recalls: list[float]


def make_data(n: int, share: float, noise: float, rng: np.random.Generator) -> Data:
    """Draw noisy corners of a square; a `share` of them is of class 1."""
    y = (rng.random(n) < share).astype(np.int64)
    first = rng.choice([-1.0, 1.0], n)
    corners = np.stack([first, np.where(y == 1, -first, first)], axis=1)
    return Data(corners + noise * rng.standard_normal((n, 2)), y)


class Network:
    """2 inputs, HIDDEN tanh units, 1 logit."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.w1, self.b1 = rng.standard_normal((2, HIDDEN)), np.zeros(HIDDEN)
        self.w2, self.b2 = rng.standard_normal(HIDDEN) / HIDDEN**0.5, np.zeros(1)

    def parameters(self) -> list[Array]:
        return [self.w1, self.b1, self.w2, self.b2]

    def logits(self, x: Array) -> Array:
        return np.asarray(np.tanh(x @ self.w1 + self.b1) @ self.w2 + self.b2)

    def loss_and_gradients(self, x: Array, y: Array) -> tuple[float, list[Array]]:
        """Cross-entropy of a batch and its gradients, by the chain rule."""
        hidden = np.tanh(x @ self.w1 + self.b1)
        logits = hidden @ self.w2 + self.b2
        loss = float(np.mean(np.logaddexp(0, logits) - y * logits))
        error = (1 / (1 + np.exp(-logits)) - y) / len(y)
        inner = np.outer(error, self.w2) * (1 - hidden**2)
        return loss, [x.T @ inner, inner.sum(0), hidden.T @ error, error.sum(keepdims=True)]


def train(data: Data, sampler: Iterable[Any], test: Data, rng: np.random.Generator) -> Score:
    """Take STEPS steps, one batch each."""
    network, losses, recalls = Network(rng), np.empty(STEPS), []
    rare = test.x[test.y == 1]
    parameters = network.parameters()
    step = 0
    while step < STEPS:
        for x, y in sf.BatchLoader(data, sampler):
            losses[step], gradients = network.loss_and_gradients(x, y)
            sf.sgd_step(parameters, gradients, lr=LEARNING_RATE / (1 + step / HALF_LIFE))
            step += 1
            if step % EVERY == 0:
                recalls.append(float((network.logits(rare) > 0).mean()))
            if step == STEPS:
                break
    right = (network.logits(test.x) > 0) == test.y
    return Score(float(right.mean()), recalls[-1], losses, recalls)


def run_xor(seed: int) -> Score:
    """XOR with equal classes, one uniformly drawn sample a step."""
    rng = np.random.default_rng(seed)
    data, test = (make_data(n, 0.5, 0.3, rng) for n in (1000, 4000))
    sampler = sf.BatchSampler(len(data.y), 1, seed=seed, replacement=True)
    return train(data, sampler, test, rng)


def run_imbalanced(seed: int) -> dict[str, Score]:
    """Overlapping corners, class 1 rare, sampled in three ways; tested on equal classes."""
    rng = np.random.default_rng(seed)
    data, test = make_data(4000, 1 / (RARE + 1), 0.6, rng), make_data(4000, 0.5, 0.6, rng)
    samplers = {
        "uniform": sf.BatchSampler(len(data.y), 1, seed=seed, replacement=True),
        "weighted": sf.WeightedSampler(1 / np.bincount(data.y)[data.y], 1, seed=seed),
        "class-balanced": sf.ClassBalancedSampler(data.y, 1, seed=seed),
    }
    return {
        name: train(data, sampler, test, np.random.default_rng(seed))
        for name, sampler in samplers.items()
    }


def save_plot(scores: dict[str, Score], path: Path) -> None:
    """Draw the losses, averaged over EVERY steps, and the recall of the rare class."""
    figure = new_figure(10)
    left, right = figure.subplots(1, 2)
    for name, score in scores.items():
        left.plot(np.convolve(score.losses, np.full(EVERY, 1 / EVERY), mode="valid"))
        right.plot(np.arange(EVERY, STEPS + 1, EVERY), score.recalls, label=name)
    left.set(xlabel="step", ylabel="cross-entropy of the samples shown", title="XOR")
    right.set(xlabel="step", ylabel="recall of class 1", title="The rare class, in test data")
    right.legend()
    save(figure, path, "losses and recall")


def main(argv: list[str] | None = None) -> dict[str, Score]:
    """Run everything, print the scores, write the plot."""
    parser = parser_of(__doc__, "xor_network.png")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    scores = {"XOR": run_xor(options.seed)}
    scores |= {f"1:{RARE} {k}": v for k, v in run_imbalanced(options.seed).items()}
    for name, score in scores.items():
        print(f"{name:20} accuracy {score.accuracy:6.1%}   recall of class 1 {score.recall:6.1%}")
    save_plot(scores, options.plot)
    return scores


if __name__ == "__main__":
    main()
