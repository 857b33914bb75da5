"""What the dense step is measured on: a network that really trains, and lists of shapes."""

from __future__ import annotations

from torch import nn

from benchmarks.workloads import Shapes


def chain_of_linears(depth: int, width: int) -> nn.Sequential:
    """`depth` x (Linear + ReLU). He's initialisation keeps gradients from vanishing on the way."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        linear = nn.Linear(width, width)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers)


def mixed_shapes() -> Shapes:
    """160 tensors of 64 to 16K elements, 504,000 in all."""
    counts = {64: 51, 512: 50, 4096: 40, 16384: 19}
    return [(length,) for length, count in counts.items() for _ in range(count)]
