"""Fine-tune a network by 1% or 0.1% of its gradient a step, or by a fixed 1% of its weights.

A network of 101,125 weights learns MNIST's digits 0-4 and is then fine-tuned on 5-9, densely and
with ThresholdSGD. What a step leaves out stays in a residual until it is large (error feedback;
Stich et al., Sparsified SGD with Memory, 2018), which keeps the accuracy. Without error feedback it
is dropped, and the accuracy goes with it. SupportSGD moves the same few weights in all steps, and
chooses them well: by their gradients in ten batches.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mnist5k
import numpy as np
import torch
from plots import new_figure, parser_of, save
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from subgrad_fast.optim import SGD, SupportSGD, ThresholdSGD

DENSITIES = (0.1, 0.01, 0.005, 0.001)
"""The shares of the weights that a step changes."""
LEARNING_RATE = 0.1
PRETRAINING_EPOCHS, EPOCHS, BATCH_SIZE = 10, 20, 32
TRAINING, TEST = 300, 200
"""Images of each digit."""
TOLERANCE = 0.01
"""What error feedback may cost in accuracy, as a mean over the seeds."""

# Few weights have to go further: what dense steps do best with leaves them behind.
SUPPORTED: dict[str, Any] = {"lr": 0.4, "momentum": 0.9, "score": "fisher", "calibrate": 10}

FEEDBACK, DROPPING, SUPPORT = "", "dropping the rest", "fixed support"
Key = tuple[float, str]
"""Density and method."""
DENSE, LAST_LAYER = (1.0, "dense"), (645 / 101_125, "last layer only")


@dataclass(frozen=True)
class Run:
    """Test accuracy, shares of weights changed by the last step and by all, seconds a step."""

    accuracy: float
    touched: float
    changed: float
    step_seconds: float


def pretrain(seed: int) -> nn.Sequential:
    """A network that knows 0-4, with a new last layer."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 5))
    (data,) = mnist5k.split(range(5), [TRAINING], seed)
    optimizer = SGD(network.parameters(), lr=LEARNING_RATE)
    batches = mnist5k.batches(*data, BATCH_SIZE, seed)
    mnist5k.train(network, optimizer, cross_entropy, batches, PRETRAINING_EPOCHS)
    network[-1] = nn.Linear(128, 5)
    return network


def optimizer_for(network: nn.Sequential, density: float, method: str) -> torch.optim.Optimizer:
    weights = [*network.parameters()]
    if (density, method) in (DENSE, LAST_LAYER):
        return SGD(weights if density == 1 else network[-1].parameters(), lr=LEARNING_RATE)
    if method == SUPPORT:
        return SupportSGD(weights, density=density, **SUPPORTED)
    feedback, scope = method == FEEDBACK, "global"
    return ThresholdSGD(
        weights, lr=LEARNING_RATE, density=density, scope=scope, error_feedback=feedback
    )


def fine_tune(pretrained: nn.Sequential, seed: int, density: float, method: str) -> Run:
    """Train a copy on 5-9 and test it."""
    network = copy.deepcopy(pretrained)
    optimizer = optimizer_for(network, density, method)
    data, test = mnist5k.split(range(5, 10), [TRAINING, TEST], seed)
    batches = mnist5k.batches(*data, BATCH_SIZE, seed)
    seconds = mnist5k.train(network, optimizer, cross_entropy, batches, EPOCHS)
    result = getattr(optimizer, "last_result", None)
    before, after = (parameters_to_vector(n.parameters()) for n in (pretrained, network))
    return Run(
        accuracy=mnist5k.accuracy(network, test),
        touched=result.density if result else density,
        changed=float((before != after).float().mean()),
        step_seconds=seconds,
    )


def mean(runs: list[Run], field: str) -> float:
    return float(np.mean([getattr(run, field) for run in runs]))


def save_plot(runs: dict[Key, list[Run]], path: Path) -> None:
    """Draw accuracy against density: means, and the range over the seeds."""
    figure = new_figure()
    axes: Any = figure.subplots()
    dense = mean(runs[DENSE], "accuracy")
    axes.axhspan(dense - TOLERANCE, dense, color="0.9", label="within 1 point of dense")
    axes.axhline(dense, color="0.3", linestyle="--", label="dense SGD")
    for method, name in ((FEEDBACK, "error feedback"), (DROPPING, DROPPING), (SUPPORT, SUPPORT)):
        densities = [d for d, of in runs if of == method]
        rows = [[run.accuracy for run in runs[d, method]] for d in densities]
        middle = np.mean(rows, axis=1)
        spread = np.abs(np.stack([np.min(rows, axis=1), np.max(rows, axis=1)]) - middle)
        axes.errorbar(densities, middle, spread, marker="o", capsize=3, label=name)
    axes.set(xscale="log", xlabel="density", ylabel="test accuracy", title="Digits 0-4 to 5-9")
    axes.legend()
    save(figure, path, "accuracy against density")


def main(argv: list[str] | None = None) -> dict[Key, list[Run]]:
    """Run every density with every method. Returns the runs, one for each seed."""
    parser = parser_of(__doc__, "tiny_gradient_transfer.png")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--densities", type=float, nargs="+", default=DENSITIES)
    options = parser.parse_args(argv)
    methods = (FEEDBACK, DROPPING, SUPPORT)
    keys = [DENSE, *((d, method) for d in options.densities for method in methods), LAST_LAYER]
    runs: dict[Key, list[Run]] = {key: [] for key in keys}
    with mnist5k.one_thread():
        for seed in range(options.seeds):
            network = pretrain(seed)
            for key in keys:
                runs[key].append(fine_tune(network, seed, *key))
    print(f"{options.seeds} seeds   test accuracy   changed by a step   by all   time of a step")
    for density, method in keys:
        of = runs[density, method]
        name = f"{density:6.1%} {method}"
        print(
            f"{name:25}{mean(of, 'accuracy'):6.1%}   {mean(of, 'touched'):8.2%}"
            f"   {mean(of, 'changed'):8.1%}   {mean(of, 'step_seconds') * 1e6:6.0f} us"
        )
    save_plot(runs, options.plot)
    return runs


if __name__ == "__main__":
    main()
