"""Learn from 3,000 unlabelled digits, then from 500 labelled ones: better than from these alone.

The winner-take-all autoencoder (Makhzani and Frey, 2015) may keep one number of each feature map,
so that its features become strokes. Its encoder, with a new last layer, is then fine-tuned as a
classifier: the first convolution frozen, the second with a smaller learning rate than the last
layer; by dense steps and by ThresholdSGD. The same network trained from scratch trains every layer.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import mnist5k
import numpy as np
import numpy.typing as npt
import torch
from plots import new_figure, parser_of, save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from subgrad_fast.optim import SGD, ThresholdSGD

UNLABELLED, LABELLED, TEST = 250, 50, 200
"""Images of each digit. The autoencoder sees the labelled ones too."""
MAPS = 32
PRETRAINING_EPOCHS, PRETRAINING_RATE = 6, 1.0
EPOCHS, MOMENTUM, DENSITY = 5, 0.9, 0.01
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda groups: SGD(groups, momentum=MOMENTUM),
    "ThresholdSGD": lambda groups: ThresholdSGD(
        groups, momentum=MOMENTUM, density=DENSITY, scope="global"
    ),
}

Key = tuple[str, str]
"""An optimizer, and where it started."""

RATES: dict[Key, tuple[float, float]] = {
    ("SGD", "from scratch"): (0.03, 0.03),
    ("SGD", "pre-trained"): (0.01, 0.03),
    ("ThresholdSGD", "from scratch"): (0.13, 0.13),
    ("ThresholdSGD", "pre-trained"): (0.02, 0.04),
}
"""Learning rates of the encoder and of the last layer: the best of some, on other seeds."""


class WinnerTakeAll(nn.Module):
    """Keeps the largest number of each feature map."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps * (maps == maps.amax((2, 3), keepdim=True))


def new_encoder() -> nn.Sequential:
    """[n, 1, 28, 28] -> [n, MAPS, 14, 14]."""
    first = nn.Conv2d(1, 8, 5, stride=2, padding=2)
    return nn.Sequential(first, nn.ReLU(), nn.Conv2d(8, MAPS, 5, padding=2), nn.ReLU())


def new_decoder() -> nn.Sequential:
    """Back, from one number of each map: a sum of 6 x 6 strokes."""
    return nn.Sequential(WinnerTakeAll(), nn.ConvTranspose2d(MAPS, 1, 6, stride=2, padding=2))


def new_head() -> nn.Sequential:
    """The classes, from the largest numbers of 4 x 4 parts of each map."""
    return nn.Sequential(nn.MaxPool2d(4, stride=3), nn.Flatten(), nn.Linear(16 * MAPS, 10))


def pretrain(encoder: nn.Sequential, images: Tensor, seed: int) -> nn.Sequential:
    """Train the encoder to reconstruct images. Returns the whole autoencoder."""
    autoencoder = nn.Sequential(encoder, new_decoder())
    optimizer = SGD(autoencoder.parameters(), lr=PRETRAINING_RATE, momentum=MOMENTUM)
    batches = mnist5k.batches(images, images, 32, seed)
    mnist5k.train(autoencoder, optimizer, mse_loss, batches, PRETRAINING_EPOCHS)
    return autoencoder


def fine_tune(
    classifier: nn.Sequential, key: Key, data: mnist5k.Examples, epochs: int, seed: int
) -> None:
    """Train a classifier (encoder, head); a layer that wants no gradient stays as it is."""
    groups = [
        {"params": [p for p in part.parameters() if p.requires_grad], "lr": rate}
        for part, rate in zip(classifier, RATES[key], strict=True)
    ]
    optimizer = OPTIMIZERS[key[0]](groups)
    batches = mnist5k.batches(*data, 16, seed)
    mnist5k.train(classifier, optimizer, cross_entropy, batches, epochs)


def run(seed: int, epochs: int) -> tuple[dict[Key, float], npt.NDArray[np.float32]]:
    """Test accuracies, and ten test images above their reconstructions, [2, 10, 28, 28]."""
    torch.manual_seed(seed)
    labelled, unlabelled, test = mnist5k.split(range(10), [LABELLED, UNLABELLED, TEST], seed)
    encoder, head = new_encoder(), new_head()
    pretrained = deepcopy(encoder)
    autoencoder = pretrain(pretrained, torch.cat([labelled.images, unlabelled.images]), seed)
    pretrained[0].requires_grad_(False)  # frozen
    accuracies = {}
    for key in RATES:
        start = pretrained if key[1] == "pre-trained" else encoder
        classifier = nn.Sequential(deepcopy(start), deepcopy(head))
        fine_tune(classifier, key, labelled, epochs, seed)
        accuracies[key] = mnist5k.accuracy(classifier, test)
    images = test.images[TEST // 2 :: TEST]  # one of each digit
    with torch.no_grad():
        return accuracies, torch.stack([images, autoencoder(images)]).squeeze(2).numpy()


def save_plot(runs: dict[Key, list[float]], digits: npt.NDArray[np.float32], path: Path) -> None:
    """Draw test images above what the autoencoder makes of them, and all accuracies."""
    figure = new_figure(9, 5)
    top, bottom = figure.subfigures(2, 1, height_ratios=[2, 3])
    top.suptitle(f"Test images, and reconstructions from one number of each of {MAPS} maps")
    cells = top.subplots(*digits.shape[:2]).flat
    for cell, digit in zip(cells, digits.reshape(-1, 28, 28), strict=True):
        cell.imshow(digit, cmap="gray_r", vmin=0, vmax=1)
        cell.set_axis_off()
    axes, names = bottom.subplots(), [f"{name}\n{start}" for name, start in runs]
    axes.barh(names, [np.mean(of) for of in runs.values()], color=["C0", "C1"] * 2)
    for i, of in enumerate(runs.values()):
        axes.plot(of, [i] * len(of), "k.")
    least = min(min(of) for of in runs.values()) - 0.02
    axes.set(xlabel="test accuracy: mean, and each seed", xlim=(least, 1), ylim=(3.5, -0.5))
    save(figure, path, "accuracies, and reconstructed digits")


def main(argv: list[str] | None = None) -> dict[Key, list[float]]:
    """Run every optimizer from both starts. Returns test accuracies, one for each seed."""
    parser = parser_of(__doc__, "autoencoder_transfer.png")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of fine-tuning")
    options = parser.parse_args(argv)
    with mnist5k.one_thread():
        results = [run(seed, options.epochs) for seed in range(options.seeds)]
    runs = {key: [accuracies[key] for accuracies, _ in results] for key in RATES}
    for (name, start), of in runs.items():
        each = "  ".join(f"{a:.1%}" for a in of)
        print(f"{name:12}  {start:12}  accuracy {np.mean(of):.1%}   by seed {each}")
    save_plot(runs, results[0][1], options.plot)
    return runs


if __name__ == "__main__":
    main()
