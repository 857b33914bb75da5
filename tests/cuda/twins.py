"""The same torch parameters twice: on the device, and on the CPU."""

from __future__ import annotations

import torch

from tests.cuda.disguise import DEVICE

SHAPES = [(3, 5), (1,), (0,), (700,), (4, 1), (), (33, 65)]


class Twins:
    """Random parameters of the given shapes, which `backward` gives the same gradients."""

    def __init__(self, shapes: list[tuple[int, ...]], dtype: torch.dtype = torch.float32) -> None:
        self.generator = torch.Generator().manual_seed(1)
        self.on_cpu = [self.random(s).to(dtype).requires_grad_() for s in shapes]
        self.on_device = [p.detach().clone().to(DEVICE).requires_grad_() for p in self.on_cpu]

    def random(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator)

    def backward(self) -> None:
        for a, b in zip(self.on_device, self.on_cpu, strict=True):
            b.grad = self.random(tuple(b.shape)).to(b.dtype)
            a.grad = b.grad.clone().to(DEVICE)

    def same(self) -> bool:
        pairs = zip(self.on_device, self.on_cpu, strict=True)
        return all(torch.equal(a.cpu(), b) for a, b in pairs)
