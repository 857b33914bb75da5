"""The bits of torch's sequences: clip_grad_norm_, clip_grad_value_, SGD, _foreach_lerp_."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import subgrad_fast as sf  # noqa: E402

SHAPES = [(40,), (3, 5), (1,), (4097,), (64, 33)]
SGD_TERMS: list[dict[str, Any]] = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "weight_decay": 0.01, "nesterov": True},
    {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1, "maximize": True},
]


class Twins:
    """Parameters of ours and of torch's, with a FusedSGD and a torch.optim.SGD."""

    def __init__(self, dtype: Any, terms: dict[str, Any], **stages: Any) -> None:
        generator = torch.Generator().manual_seed(3)
        self.generator, self.dtype = generator, dtype
        self.ours = [torch.randn(s, generator=generator, dtype=dtype) for s in SHAPES]
        self.theirs = [torch.nn.Parameter(p.clone()) for p in self.ours]
        self.fused = sf.FusedSGD(self.ours, lr=0.1, **terms, **stages)
        self.torch = torch.optim.SGD(self.theirs, lr=0.1, foreach=False, **terms)

    def draw(self, scale: float = 1.0) -> list[Any]:
        made = [torch.randn(s, generator=self.generator, dtype=self.dtype) * scale for s in SHAPES]
        for p, g in zip(self.theirs, made, strict=True):
            p.grad = g.clone()
        return made

    def same(self) -> bool:
        return all(torch.equal(a, b) for a, b in zip(self.ours, self.theirs, strict=True))


@pytest.mark.parametrize("terms", SGD_TERMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clipping_by_norm(dtype: Any, terms: dict[str, Any]) -> None:
    compared = 0
    for bound in (0.5, 1e9):
        twins = Twins(dtype, terms, max_norm=bound)
        for seed in range(16):
            twins.generator.manual_seed(seed)
            twins.fused(twins.draw())
            norm = torch.nn.utils.clip_grad_norm_(twins.theirs, bound)
            ours = torch.tensor(twins.fused.grad_norm, dtype=dtype)
            torch.testing.assert_close(norm, ours)
            if not torch.equal(norm, ours):  # the order of torch's additions is another
                twins = Twins(dtype, terms, max_norm=bound)
                continue
            twins.torch.step()
            compared += 1
            assert twins.same()
    assert compared >= 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clipping_each_tensor(dtype: Any) -> None:
    """A bound of norms of one element each, whose bits leave no choice."""
    ours = [torch.full((1,), float(i), dtype=dtype) for i in range(5)]
    theirs = [torch.nn.Parameter(p.clone()) for p in ours]
    grads = [torch.full((1,), 0.37 * i, dtype=dtype) for i in range(5)]
    for p, g in zip(theirs, grads, strict=True):
        p.grad = g.clone()
        torch.nn.utils.clip_grad_norm_(p, 0.5)
    sf.sgd_step(ours, grads, lr=0.1, max_norm=0.5, max_norm_scope="tensor")
    torch.optim.SGD(theirs, lr=0.1, foreach=False).step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("terms", SGD_TERMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clipping_by_value(dtype: Any, terms: dict[str, Any]) -> None:
    twins = Twins(dtype, terms, clip_value=0.7)
    for _ in range(4):
        twins.fused(twins.draw())
        torch.nn.utils.clip_grad_value_(twins.theirs, 0.7)
        twins.torch.step()
        assert twins.same()
    assert twins.fused.grad_norm is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unscaling(dtype: Any) -> None:
    twins = Twins(dtype, {"momentum": 0.9}, grad_scale=2.0**16, skip_nonfinite=True)
    for i in range(6):
        grads = twins.draw(2.0**16)
        if i in (0, 3):
            grads[3][77] = torch.inf
        twins.fused(grads)
        if i not in (0, 3):
            for p in twins.theirs:
                p.grad /= 2.0**16
            twins.torch.step()
        assert twins.same()
        assert twins.fused._plan.first_step == (i == 0)


@pytest.mark.parametrize("decay", [0.0, 0.1, 0.5, 0.50001, 0.9, 0.9999, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_averages_have_the_bits_of_lerp(dtype: Any, decay: float) -> None:
    twins = Twins(dtype, {"momentum": 0.9}, ema_decay=decay)
    averages: list[Any] = []
    for _ in range(5):
        twins.fused(twins.draw())
        twins.torch.step()
        weights = [p.detach() for p in twins.theirs]
        if averages:
            torch._foreach_lerp_(averages, weights, 1 - decay)
        else:
            averages = [w.clone() for w in weights]
        for a, b in zip(twins.fused.ema, averages, strict=True):
            assert torch.equal(a, b)


def test_averages_are_those_of_averaged_model() -> None:
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 3))
    twin = [p.detach().clone() for p in model.parameters()]
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=False)
    step = sf.FusedSGD(twin, lr=0.1, momentum=0.9, ema_decay=0.9)
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(8, 20)).square().sum().backward()
        step([p.grad for p in model.parameters()])
        optimizer.step()
        averaged.update_parameters(model)
    for a, b in zip(step.ema, averaged.module.parameters(), strict=True):
        assert torch.equal(a, b)
