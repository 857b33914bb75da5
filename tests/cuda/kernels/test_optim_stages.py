"""optim.SGD with stages on a device: the bits and the state of the CPU, and nothing waits.

Under the interpreter these are torch's CPU tensors in a disguise (disguise.py), which the optimizer
on the CPU takes off for its own steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from subgrad_fast import optim  # noqa: E402
from subgrad_fast.optim import SGD, averages, planned_step, torchs_step  # noqa: E402
from tests.cuda import disguise  # noqa: E402
from tests.cuda.disguise import DEVICE, DISGUISED  # noqa: E402
from tests.cuda.twins import SHAPES, Twins  # noqa: E402

STAGES: list[dict[str, Any]] = [
    {"max_norm": 0.7},
    {"max_norm": 0.7, "max_norm_scope": "group"},
    {"max_norm": 0.7, "max_norm_scope": "tensor", "clip_value": 0.01},
    {"clip_value": 0.3, "measure_norm": True},
    {"ema_decay": 0.9},
    {"max_norm": 0.7, "skip_nonfinite": True, "ema_decay": 0.5},
]


@pytest.fixture(autouse=True)
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a tensor in disguise cannot say for itself."""
    if not DISGUISED:
        return

    def new_buffer(like: torch.Tensor, *, zeros: bool = False) -> torch.Tensor:
        return torch.empty_like(like.detach())

    for module in (planned_step, averages):
        monkeypatch.setattr(module, "new_buffer", new_buffer)
    monkeypatch.setattr(planned_step, "is_on_device", lambda tensor: not disguise.is_honest(tensor))


@contextmanager
def on_the_cpu() -> Iterator[None]:
    """Within it all tensors say the truth."""
    is_honest = disguise.is_honest
    disguise.is_honest = lambda _: True
    try:
        yield
    finally:
        disguise.is_honest = is_honest


@pytest.fixture
def nothing_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """A block within which no tensor may be read, and nothing is left to torch's own code."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the host has waited, or left a step to torch")

    @contextmanager
    def block() -> Iterator[None]:
        with monkeypatch.context() as patch:
            for name in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy"):
                patch.setattr(torch.Tensor, name, refuse)
            patch.setattr(torchs_step, "torch_sgd", refuse)
            yield

    return block


def groups(params: list[torch.Tensor]) -> list[dict[str, Any]]:
    """Two groups of other hyper-parameters."""
    return [{"params": params[:3]}, {"params": params[3:], "lr": 0.5, "weight_decay": 0.1}]


def pair(twins: Twins, **how: Any) -> tuple[SGD, SGD]:
    how = {"lr": 0.1, "momentum": 0.9, **how}
    return SGD(groups(twins.on_device), **how), SGD(groups(twins.on_cpu), **how)


def same_state(ours: SGD, theirs: SGD) -> None:
    got, want = ours.state_dict()["state"], theirs.state_dict()["state"]
    assert got.keys() == want.keys()
    for number, slots in want.items():
        assert got[number].keys() == slots.keys()
        for name, tensor in slots.items():
            assert torch.equal(got[number][name].cpu(), tensor), (number, name)


@pytest.mark.parametrize("how", STAGES, ids="-".join)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_bits_of_the_cpu(nothing_waits: Any, how: dict[str, Any], dtype: torch.dtype) -> None:
    twins = Twins(SHAPES, dtype)
    ours, theirs = pair(twins, **how)
    for _ in range(4):
        twins.backward()
        with nothing_waits():
            ours.step()
            norm = ours.grad_norm
        with on_the_cpu():
            theirs.step()
        assert twins.same()
        assert (norm is None) == (theirs.grad_norm is None)
        assert norm is None or (norm.shape == () and norm.item() == theirs.grad_norm.item())
    same_state(ours, theirs)


@pytest.mark.parametrize("dampening", [0.0, 0.3])
@pytest.mark.parametrize("how", [{}, {"max_norm": 0.7, "ema_decay": 0.5}], ids=["plain", "stages"])
def test_overflows_under_a_grad_scaler(
    nothing_waits: Any, how: dict[str, Any], dampening: float
) -> None:
    twins = Twins(SHAPES)
    ours, theirs = pair(twins, dampening=dampening, **how)
    scalers = [
        torch.amp.GradScaler(DEVICE, init_scale=64.0, growth_interval=3),
        torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3),
    ]
    assert ours._step_supports_amp_scaling and theirs._step_supports_amp_scaling
    for i in range(7):
        twins.backward()
        if i in (0, 3, 4):
            for params in (twins.on_device, twins.on_cpu):
                params[6].grad[5, 7] = float("inf")
        for scaler, device in zip(scalers, (DEVICE, "cpu"), strict=True):
            scaler.scale(torch.ones((), device=device))  # which makes the scale
        with nothing_waits():
            scalers[0].step(ours)
        with on_the_cpu():
            scalers[1].step(theirs)
        for scaler in scalers:
            scaler.update()
        assert scalers[0].get_scale() == scalers[1].get_scale()
        assert twins.same(), i
        if i in (0, 6):  # in between the device alone knows
            same_state(ours, theirs)
    assert scalers[0].get_scale() < 64.0


def test_a_skipped_first_step_leaves_no_momentum(nothing_waits: Any) -> None:
    twins = Twins([(5,), (3, 4)])
    ours = SGD(twins.on_device, lr=0.1, momentum=0.9, dampening=0.5, skip_nonfinite=True)
    twins.backward()
    twins.on_device[0].grad[2] = float("nan")
    before = [p.detach().clone() for p in twins.on_device]
    with nothing_waits():
        ours.step()
        ours.step()
    assert all(torch.equal(p, w) for p, w in zip(twins.on_device, before, strict=True))
    for param in twins.on_device:  # what is there does no harm
        assert (ours.state[param]["momentum_buffer"] == 0).all()
    assert copy.deepcopy(ours).state_dict()["state"] == {}
    assert ours.state_dict()["state"] == {}
    theirs = SGD(twins.on_cpu, lr=0.1, momentum=0.9, dampening=0.5)
    for _ in range(2):
        twins.backward()
        ours.step()
        with on_the_cpu():
            theirs.step()
    assert twins.same()
    same_state(ours, theirs)


def test_steps_that_cannot_be_skipped_are_counted_too(nothing_waits: Any) -> None:
    twins = Twins([(5,), (3, 4)])
    how = {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "ema_decay": 0.5}
    ours = SGD(twins.on_device, **how, skip_nonfinite=True)
    theirs = SGD(twins.on_cpu, **how)
    twins.backward()
    twins.on_device[0].grad[2] = float("nan")
    ours.step()
    ours._judging = ours._judging._replace(skip_nonfinite=False)
    ours._options = ours._judging.options()
    for i in range(4):
        twins.backward()
        if i == 1:
            ours.load_state_dict(ours.state_dict())
        with nothing_waits():
            ours.step()
        with on_the_cpu():
            theirs.step()
        assert twins.same(), i
    same_state(ours, theirs)


def test_a_buffer_that_was_put_there_is_not_taken_for_an_empty_one() -> None:
    twins = Twins([(5,)])
    ours = SGD(twins.on_device, lr=0.1, momentum=0.9, dampening=0.5, skip_nonfinite=True)
    theirs = SGD(twins.on_cpu, lr=0.1, momentum=0.9, dampening=0.5, skip_nonfinite=True)
    twins.backward()
    for optimizer, params in ((ours, twins.on_device), (theirs, twins.on_cpu)):
        params[0].grad[1] = float("inf")
        with on_the_cpu() if optimizer is theirs else nullcontext():
            optimizer.step()
    for optimizer, params in ((ours, twins.on_device), (theirs, twins.on_cpu)):
        optimizer.state[params[0]]["momentum_buffer"] = torch.ones_like(params[0].detach())
    twins.backward()
    ours.step()
    with on_the_cpu():
        theirs.step()
    assert twins.same()
    same_state(ours, theirs)


def test_more_counts_than_a_launch_takes(nothing_waits: Any) -> None:
    twins = Twins([(2,)] * 260)
    how = {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "skip_nonfinite": True}
    ours, theirs = SGD(twins.on_device, **how), SGD(twins.on_cpu, **how)
    for i in range(3):
        twins.backward()
        if i == 0:
            for params in (twins.on_device, twins.on_cpu):
                params[7].grad[0] = float("inf")
        with nothing_waits():
            ours.step()
        with on_the_cpu():
            theirs.step()
    assert twins.same()
    same_state(ours, theirs)


def test_averages_are_swapped_in_and_scheduled() -> None:
    twins = Twins([(5,), (3, 4)])
    asked: list[list[int]] = [[], []]

    def schedule(seen: list[int]) -> Callable[[int], float]:
        return lambda n: (seen.append(n), n / (n + 3))[1]

    how = {"lr": 0.1, "momentum": 0.9, "skip_nonfinite": True}
    ours = SGD(twins.on_device, **how, ema_decay=schedule(asked[0]))
    theirs = SGD(twins.on_cpu, **how, ema_decay=schedule(asked[1]))
    for i in range(5):
        twins.backward()
        if i in (0, 2):
            for params in (twins.on_device, twins.on_cpu):
                params[1].grad[0, 0] = float("nan")
        ours.step()
        with on_the_cpu():
            theirs.step()
        if i in (0, 4):
            with ours.averaged(), theirs.averaged():
                assert twins.same()
        assert twins.same()
    assert asked[0] == asked[1]
    same_state(ours, theirs)


def test_what_kernels_do_not_cover_is_judged_by_torch() -> None:
    twins = Twins([(4, 6), (4, 6)])
    how = {"lr": 0.1, "momentum": 0.9, "max_norm": 0.5, "skip_nonfinite": True}
    ours, theirs = SGD(twins.on_device, **how), SGD(twins.on_cpu, **how)
    for i in range(5):
        twins.backward()
        if i in (0, 3):
            for params in (twins.on_device, twins.on_cpu):
                params[1].grad[0, 0] = float("inf")
        if i == 2:  # another order than its parameter's
            twins.on_device[0].grad = twins.on_device[0].grad.t().contiguous().t()
        ours.step()
        with on_the_cpu():
            theirs.step()
        for a, b in zip(twins.on_device, twins.on_cpu, strict=True):
            torch.testing.assert_close(a.cpu(), b)
        norm, wanted = ours.grad_norm.item(), theirs.grad_norm.item()
        assert norm == pytest.approx(wanted, rel=1e-12, nan_ok=True)
    assert ours.state_dict()["state"].keys() == theirs.state_dict()["state"].keys()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("order", [2.0, float("inf")])
def test_clipping_by_torchs_names(nothing_waits: Any, dtype: torch.dtype, order: float) -> None:
    for bound in (0.5, 1e6):
        twins = Twins(SHAPES, dtype)
        twins.backward()
        with nothing_waits():
            norm = optim.clip_grad_norm_(twins.on_device, bound, order)
            again = optim.get_total_norm([p.grad for p in twins.on_device], order)
            optim.clip_grad_value_(twins.on_device, 0.01)
        with on_the_cpu():
            wanted = optim.clip_grad_norm_(twins.on_cpu, bound, order)
            wanted_again = optim.get_total_norm([p.grad for p in twins.on_cpu], order)
            optim.clip_grad_value_(twins.on_cpu, 0.01)
        for got, want in ((norm, wanted), (again, wanted_again)):
            assert got.dtype == want.dtype and got.shape == () and got.item() == want.item()
        for a, b in zip(twins.on_device, twins.on_cpu, strict=True):
            assert torch.equal(a.grad.cpu(), b.grad)


def test_a_norm_that_is_not_finite_is_an_error_if_it_is_to_be() -> None:
    twins = Twins([(5,)])
    twins.backward()
    grad = twins.on_device[0].grad
    optim.clip_grad_norm_(twins.on_device, 1.0, error_if_nonfinite=True)
    optim.get_total_norm([grad], error_if_nonfinite=True)
    grad[1] = float("inf")
    before = grad.clone()
    with pytest.raises(RuntimeError, match="non-finite"):
        optim.clip_grad_norm_(twins.on_device, 1.0, error_if_nonfinite=True)
    with pytest.raises(RuntimeError, match="non-finite"):
        optim.get_total_norm([grad], error_if_nonfinite=True)
    assert torch.equal(grad, before)


@pytest.mark.skipif(DISGUISED, reason="a graph needs a GPU")
def test_a_clipped_step_can_be_captured(nothing_waits: Any) -> None:
    twins = Twins(SHAPES)
    ours, theirs = pair(twins, max_norm=0.7, ema_decay=0.5)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(2):  # the first makes the momentum, the second the plan
            twins.backward()
            ours.step()
            theirs.step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ours.step()
    for _ in range(2):
        grads = [p.grad for p in twins.on_device]
        twins.backward()
        for p, grad in zip(twins.on_device, grads, strict=True):  # a graph knows addresses
            grad.copy_(p.grad)
            p.grad = grad
        graph.replay()
        theirs.step()
        assert twins.same()
        assert ours.grad_norm.item() == theirs.grad_norm.item()
