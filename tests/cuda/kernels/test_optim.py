"""optim.SGD on a device: torch's bits, in its stream, by our kernels.

Under the interpreter these are torch's CPU tensors in a disguise (disguise.py).
"""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from subgrad_fast.optim import SGD, planned_step, torchs_step  # noqa: E402
from tests.cuda.disguise import DEVICE, DISGUISED  # noqa: E402
from tests.cuda.twins import SHAPES, Twins  # noqa: E402

if DISGUISED:
    planned_step.new_buffer = lambda like: torch.empty_like(like.detach())


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if anything is left to torch's own code."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("left to torch")

    monkeypatch.setattr(torchs_step, "torch_sgd", refuse)


@pytest.fixture
def by_torch(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tensors each call of torch's own code got."""
    counts: list[int] = []

    def count(params: list[object], *args: object, **kwargs: object) -> None:
        counts.append(len(params))
        torch_sgd(params, *args, **kwargs)

    torch_sgd = torchs_step.torch_sgd
    monkeypatch.setattr(torchs_step, "torch_sgd", count)
    return counts


def groups(params: list[torch.Tensor]) -> list[dict]:
    """Two groups of other hyper-parameters."""
    return [{"params": params[:3]}, {"params": params[3:], "lr": 0.5, "weight_decay": 0.1}]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"momentum": 0.9, "weight_decay": 0.01},
        {"momentum": 0.9, "nesterov": True, "maximize": True},
        {"momentum": 0.9, "dampening": 0.3},
    ],
    ids=lambda a: "-".join(a) or "plain",
)
def test_torchs_bits(no_torch: None, arguments: dict, dtype: torch.dtype) -> None:
    twins = Twins(SHAPES, dtype)
    ours = SGD(groups(twins.on_device), lr=0.1, **arguments)
    theirs = torch.optim.SGD(groups(twins.on_cpu), lr=0.1, foreach=False, **arguments)
    for _ in range(4):
        twins.backward()
        ours.step()
        theirs.step()
        assert twins.same()
    for a, b in zip(twins.on_device, twins.on_cpu, strict=True):
        assert ours.state[a].keys() == theirs.state[b].keys()
        for name, value in theirs.state[b].items():
            assert torch.equal(ours.state[a][name].cpu(), value)


def test_a_state_is_resumed(no_torch: None) -> None:
    twins = Twins(SHAPES)
    ours = SGD(twins.on_device, lr=0.1, momentum=0.9)
    theirs = torch.optim.SGD(twins.on_cpu, lr=0.1, momentum=0.9, foreach=False)
    for i in range(4):
        twins.backward()
        ours.step()
        theirs.step()
        if i == 1:
            again = SGD(twins.on_device, lr=0.7, momentum=0.1)
            again.load_state_dict(ours.state_dict())
            ours = again
    assert twins.same()


def test_a_learning_rate_on_the_device_is_read_there(no_torch: None) -> None:
    twins = Twins(SHAPES)
    lr = torch.tensor(0.1, device=DEVICE)
    ours = SGD(twins.on_device, lr=lr, momentum=0.9)
    theirs = torch.optim.SGD(twins.on_cpu, lr=0.1, momentum=0.9, foreach=False)
    for value in (0.1, 0.05, 0.3):
        lr.fill_(value)
        theirs.param_groups[0]["lr"] = torch.tensor(value).item()  # rounded to float32
        twins.backward()
        ours.step()
        theirs.step()
        assert twins.same()


def test_strides_are_left_to_torch(by_torch: list[int]) -> None:
    twins = Twins([(4, 6), (4, 6), (4, 6), (4, 6)])
    holed = torch.zeros(4, 12, device=DEVICE)[:, ::2]
    twins.on_device[0] = holed.copy_(twins.on_device[0].detach())
    ours = SGD([p.requires_grad_() for p in twins.on_device], lr=0.1, momentum=0.9)
    theirs = torch.optim.SGD(twins.on_cpu, lr=0.1, momentum=0.9, foreach=False)
    for _ in range(3):
        twins.backward()
        twins.on_device[1].grad = twins.on_device[1].grad.t().contiguous().t()
        ours.step()
        theirs.step()
        assert twins.same()
    assert by_torch == [2, 2, 2]


@pytest.mark.skipif(DISGUISED, reason="a graph needs a GPU")
def test_a_step_can_be_captured(no_torch: None) -> None:
    twins = Twins(SHAPES)
    lr = torch.tensor(0.1, device=DEVICE)
    ours = SGD(twins.on_device, lr=lr, momentum=0.9)
    theirs = torch.optim.SGD(twins.on_cpu, lr=0.1, momentum=0.9, foreach=False)
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
    for value in (0.1, 0.05):
        lr.fill_(value)
        theirs.param_groups[0]["lr"] = torch.tensor(value).item()
        grads = [p.grad for p in twins.on_device]
        twins.backward()
        for p, grad in zip(twins.on_device, grads, strict=True):  # a graph knows addresses
            grad.copy_(p.grad)
            p.grad = grad
        graph.replay()
        theirs.step()
        assert twins.same()
