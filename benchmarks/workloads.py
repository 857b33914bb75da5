"""What is stepped: networks that really train, and lists of parameter shapes."""

from __future__ import annotations

import math

from torch import nn

Shapes = list[tuple[int, ...]]


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


def resnet50_shapes() -> Shapes:
    """ResNet-50's 161 parameters: 53 convolutions without bias, 53 batch norms, a linear layer."""

    def conv_and_norm(channels_in: int, channels_out: int, kernel: int) -> Shapes:
        return [(channels_out, channels_in, kernel, kernel), (channels_out,), (channels_out,)]

    shapes = conv_and_norm(3, 64, 7)
    channels = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            shapes += conv_and_norm(channels, width, 1)
            shapes += conv_and_norm(width, width, 3)
            shapes += conv_and_norm(width, 4 * width, 1)
            if block == 0:
                shapes += conv_and_norm(channels, 4 * width, 1)
            channels = 4 * width
    shapes += [(1000, 2048), (1000,)]
    assert len(shapes) == 161
    assert sum(map(math.prod, shapes)) == 25_557_032
    return shapes
