"""What several subjects work on: a network's shapes, and values as gradients have them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Shapes = list[tuple[int, ...]]
Values = npt.NDArray[np.float32]


def heavy_tailed(n: int) -> Values:
    """Student's t with 3 degrees of freedom: like gradients, it has some values far out."""
    return np.random.default_rng(0).standard_t(3, n).astype(np.float32)


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
