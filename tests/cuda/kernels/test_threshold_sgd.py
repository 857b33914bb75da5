"""optim.ThresholdSGD on a device: the bits of the CPU, in torch's stream, without a wait.

Under the interpreter these are torch's CPU tensors in a disguise (disguise.py).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import subgrad_fast as sf  # noqa: E402
from subgrad_fast import _core  # noqa: E402
from subgrad_fast.optim import ThresholdSGD  # noqa: E402
from tests.cuda import disguise  # noqa: E402
from tests.cuda import twins as base  # noqa: E402
from tests.cuda.disguise import DEVICE, DISGUISED  # noqa: E402
from tests.cuda.twins import SHAPES  # noqa: E402


@contextlib.contextmanager
def host() -> Iterator[None]:
    """Where torch's tensors are on the CPU, in a disguise or not."""
    old = _core.testing.use_exchange_api(not DISGUISED)
    yield
    _core.testing.use_exchange_api(old)


class Twins(base.Twins):
    """Each with an optimizer."""

    def __init__(
        self, dtype: torch.dtype = torch.float32, groups: bool = False, **how: Any
    ) -> None:
        super().__init__(SHAPES, dtype)
        self.optimizers = [
            ThresholdSGD(self.split(params) if groups else params, **how)
            for params in (self.on_device, self.on_cpu)
        ]

    @staticmethod
    def split(params: list[torch.Tensor]) -> list[dict]:
        more = {"lr": 0.5, "threshold": 1.0, "momentum": 0.0}
        return [{"params": params[:3]}, {"params": params[3:5], **more}, {"params": params[5:]}]

    def step(self) -> None:
        self.backward()
        self.optimizers[0].step()
        with host():
            self.optimizers[1].step()
        self.check()

    def check(self) -> None:
        ours, theirs = self.optimizers
        for a, b in zip(self.on_device, self.on_cpu, strict=True):
            assert torch.equal(a.cpu(), b)
            assert ours.state[a].keys() == theirs.state[b].keys()
            for name, value in theirs.state[b].items():
                got = ours.state[a][name]
                assert torch.equal(got.cpu(), value) and got.dtype == value.dtype, name
                assert torch.equal(torch.signbit(got.cpu()), torch.signbit(value)), name
        a, b = ours.last_result, theirs.last_result
        assert a is not None and b is not None
        assert isinstance(a, sf.ThresholdResult) and a.device_kept is not None
        assert (a.kept, a.sizes, a.thresholds) == (b.kept, b.sizes, b.thresholds)
        assert a.density == b.density
        if b.energies is not None:
            np.testing.assert_allclose(a.energies, b.energies, rtol=1e-13)
        for x, y in zip(a.selections or [], b.selections or [], strict=True):
            assert torch.equal(x.indices.cpu(), y.indices)
            assert torch.equal(x.values.cpu(), y.values)


CHOICES: list[dict[str, Any]] = [
    {"density": 0.1},
    {"density": 0.1, "scope": "global"},
    {"threshold": 1.5},
    {"selector": sf.Exact(density=1.0)},
]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"momentum": 0.9, "weight_decay": 0.01, "nesterov": True},
        {"momentum": 0.9, "momentum_masking": False, "maximize": True},
        {"momentum": 0.9, "momentum_correction": False, "decoupled_weight_decay": True,
         "weight_decay": 0.1},
        {"momentum": 0.9, "error_feedback": False},
    ],
    ids=lambda h: "-".join(h) or "plain",
)  # fmt: skip
def test_the_cpus_bits(choice: dict[str, Any], how: dict[str, Any]) -> None:
    twins = Twins(lr=0.1, **choice, **how)
    for _ in range(3):
        twins.step()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes(dtype: torch.dtype) -> None:
    for choice in CHOICES[:3]:
        twins = Twins(dtype, lr=0.1, momentum=0.9, **choice)
        for _ in range(3):
            twins.step()


def test_groups_and_reports() -> None:
    how = {"lr": 0.1, "density": 0.05, "momentum": 0.9, "measure": True, "emit": "int32"}
    twins = Twins(groups=True, **how)
    for _ in range(4):
        twins.step()


def in_two_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has tensors of an odd number of elements, and what belongs to them, live on the host."""
    if not DISGUISED:
        pytest.skip("a tensor's place is told by its size only in a disguise")
    monkeypatch.setattr(disguise, "is_honest", lambda x: x.numel() % 2 == 1)


def test_places_are_stepped_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    in_two_places(monkeypatch)
    for more in ({"emit": "int32", "measure": True}, {}):
        twins = Twins(lr=0.1, density=0.1, momentum=0.9, groups=True, **more)
        for _ in range(3):
            twins.backward()
            twins.optimizers[0].step()
            with host():
                twins.optimizers[1].step()
            ours, theirs = (o.last_result for o in twins.optimizers)
            assert ours is not None and theirs is not None
            for name in ("kept", "sizes", "thresholds", "density"):
                assert getattr(ours, name) == getattr(theirs, name)
            assert ours.sizes == [p.numel() for p in twins.on_device]
            assert (ours.energies is None) == (ours.selections is None) == (not more)
            assert len(ours.selections or SHAPES) == len(SHAPES)
            assert twins.same()
        assert [group["steps"] for group in twins.optimizers[0].param_groups] == [3, 3, 3]
        [here, there] = ours._places
        assert {here.on_host, there.on_host} == {True, False}
        by_place = [member.place for member in ours._report.members]
        odd = [bool(p.numel() % 2) for p in twins.on_device]
        assert [ours._places[place].on_host for place in by_place] == odd


def test_a_global_scope_is_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    in_two_places(monkeypatch)
    twins = Twins(lr=0.1, density=0.1, scope="global")
    for p in twins.on_device:
        p.grad = torch.ones_like(p)
    with pytest.raises(ValueError, match="scope: one threshold needs one device, and of its param"):
        twins.optimizers[0].step()
    assert not twins.optimizers[0].state


def test_warmup() -> None:
    twins = Twins(lr=0.1, density=0.01, warmup=2)
    for _ in range(4):
        twins.step()


def test_estimates_are_exact_here() -> None:
    for selector in ("sampled", "reused"):
        twins = Twins(lr=0.1, density=0.1)
        twins.optimizers[0] = ThresholdSGD(twins.on_device, lr=0.1, density=0.1, selector=selector)
        for _ in range(2):
            twins.step()


def test_a_state_is_resumed() -> None:
    twins = Twins(torch.bfloat16, lr=0.1, momentum=0.9, density=0.1)
    for i in range(4):
        twins.step()
        if i == 1:
            saved = copy.deepcopy(twins.optimizers[0].state_dict())
            again = ThresholdSGD(twins.on_device, lr=0.7, density=0.5)
            again.load_state_dict(saved)
            twins.optimizers[0] = again


def test_a_learning_rate_on_the_device_is_read_there() -> None:
    for how in ({"density": 0.1, "momentum": 0.9}, {"threshold": 1.0}):
        twins = Twins(lr=0.1, **how)
        lr = torch.tensor(0.1, device=DEVICE)
        twins.optimizers[0].param_groups[0]["lr"] = lr
        for value in (0.1, 0.05, 0.3):
            lr.fill_(value)
            twins.optimizers[1].param_groups[0]["lr"] = torch.tensor(value).item()
            twins.step()


def test_a_bad_tensor_leaves_everything_as_it_was() -> None:
    twins = Twins(lr=0.1, density=0.1)
    ours = twins.optimizers[0]
    for p in twins.on_device:
        p.grad = torch.ones_like(p)
    twins.on_device[-1].grad = torch.ones(65, 33, device=DEVICE).t()
    with pytest.raises(ValueError, match=r"grads\[6\]: on cuda:0 an array must be contiguous"):
        ours.step()
    assert not ours.state and ours.last_result is None
    assert twins.same()


def test_selection_of_tensors() -> None:
    x = torch.randn(40, 60).t()
    with host():
        want = sf.select(x, density=0.1)
    got = sf.select(x.to(DEVICE), density=0.1)
    assert torch.equal(got.indices.cpu(), want.indices) and got.indices.dtype == torch.int64
    assert torch.equal(got.values.cpu(), want.values)
    assert float(got.threshold) == want.threshold
    assert float(sf.kth_magnitude(x.to(DEVICE), 240)) == want.threshold


@pytest.mark.skipif(DISGUISED, reason="a graph needs a GPU")
def test_a_step_can_be_captured() -> None:
    for choice in ({"density": 0.1}, {"threshold": 1.0}):
        twins = Twins(lr=0.1, momentum=0.9, **choice)
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            twins.step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            twins.optimizers[0].step()
        for _ in range(2):
            for a, b in zip(twins.on_device, twins.on_cpu, strict=True):
                b.grad = twins.random(tuple(b.shape))
                assert a.grad is not None
                a.grad.copy_(b.grad)
            graph.replay()
            twins.optimizers[1].step()
            twins.check()
