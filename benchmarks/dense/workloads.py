"""What the dense step is measured on: a network that really trains, and lists of shapes."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import TensorDataset

from subgrad_fast.bench.workloads import Shapes


def chain_of_linears(depth: int, width: int) -> nn.Sequential:
    """`depth` x (Linear + ReLU). He's initialisation keeps gradients from vanishing on the way."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        linear = nn.Linear(width, width)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers)


def mnist_like() -> TensorDataset:
    """As many images and labels as MNIST has, of noise."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(60_000, 784, generator=generator)
    return TensorDataset(images, torch.randint(10, (60_000,), generator=generator))


def mnist_mlp() -> nn.Sequential:
    """784-256-128-10, 235K weights."""
    return nn.Sequential(
        nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def mixed_shapes() -> Shapes:
    """160 tensors of 64 to 16K elements, 504,000 in all."""
    counts = {64: 51, 512: 50, 4096: 40, 16384: 19}
    return [(length,) for length, count in counts.items() for _ in range(count)]
