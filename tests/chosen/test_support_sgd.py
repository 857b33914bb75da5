"""`optim.SupportSGD`: the bits of `optim.SGD` with masked gradients, which weights are chosen, and
its state."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

import subgrad_fast as sf  # noqa: E402
from subgrad_fast.optim import SGD, SupportSGD  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For networks too small to gain from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(dtype: Any = torch.float32, memory: Any = torch.contiguous_format) -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.Flatten(), nn.Linear(48, 5)
    )
    return made.to(dtype=dtype, memory_format=memory)


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    while True:
        yield (
            torch.randn(4, 3, 6, 6, generator=generator),
            torch.randint(5, (4,), generator=generator),
        )


def backward(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    model.zero_grad()
    x = x.to(next(model.parameters()).dtype)
    nn.functional.cross_entropy(model(x).double(), y).backward()


def mask_of(optimizer: SupportSGD, param: Tensor) -> Tensor:
    flat = torch.zeros(param.numel(), dtype=torch.bool)
    indices = optimizer.state[param].get("indices")
    if indices is not None:
        flat[indices.long()] = True
    return flat.reshape(param.shape)


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


TERMS: list[dict[str, Any]] = [
    {"lr": 0.1},
    {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "maximize": True},
    {"lr": 0.1, "momentum": 0.9, "max_norm": 0.05, "clip_value": 0.01},
    {"lr": 0.1, "momentum": 0.9, "max_norm": 0.05, "max_norm_scope": "tensor"},
]


@pytest.mark.parametrize("terms", TERMS, ids=str)
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_the_bits_of_sgd_with_masked_gradients(dtype: Any, memory: Any, terms: Any) -> None:
    model, twin = network(dtype, memory), network(dtype, memory)
    ours = SupportSGD(model.parameters(), density=0.05, calibrate=2, measure_norm=True, **terms)
    dense = SGD(twin.parameters(), measure_norm=True, **terms)
    start = weights(model)
    for i, batch in zip(range(8), batches(), strict=False):
        backward(model, batch)
        backward(twin, batch)
        assert ours.calibrating is (i < 2)
        ours.step()
        if i < 2:
            assert same(weights(model), start)
            continue
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            assert q.grad is not None
            q.grad.mul_(mask_of(ours, p))
        dense.step()
        assert ours.grad_norm == dense.grad_norm
        assert same(weights(model), weights(twin))
    chosen = sum(int(mask_of(ours, p).sum()) for p in model.parameters())
    assert chosen == max(1, round(0.05 * sum(p.numel() for p in model.parameters())))
    for p, before in zip(model.parameters(), start, strict=True):
        assert torch.equal(p[~mask_of(ours, p)], before[~mask_of(ours, p)])


def test_weight_decay_acts_on_the_support_alone() -> None:
    p = nn.Parameter(torch.ones(6))
    mask = torch.tensor([True, False] * 3)
    optimizer = SupportSGD([p], lr=0.5, weight_decay=0.5, masks=[mask])
    p.grad = torch.zeros(6)
    optimizer.step()
    assert p.tolist() == [0.75, 1.0] * 3


# --- which weights --------------------------------------------------------------------------------


def scores(model: nn.Module, score: str, passes: int) -> list[Tensor]:
    """What `passes` backward passes say of each weight, by their sums in float32."""
    sums = [torch.zeros_like(p) for p in model.parameters()]
    for _, batch in zip(range(passes), batches(), strict=False):
        backward(model, batch)
        for total, p in zip(sums, model.parameters(), strict=True):
            assert p.grad is not None
            total.add_(p.grad.abs() if score == "gradient" else p.grad.square())
    return sums


@pytest.mark.parametrize("scope", ["global", "tensor"])
@pytest.mark.parametrize("score", ["gradient", "fisher", "weight"])
def test_the_largest_scores_are_chosen(score: str, scope: str) -> None:
    model = network()
    found = scores(model, score, 3) if score != "weight" else weights(model)
    asked: dict[str, Any] = {} if score == "weight" else {"calibrate": 3}
    optimizer = SupportSGD(model.parameters(), k=20, score=score, scope=scope, **asked)
    for _, batch in zip(range(3), batches(), strict=False):
        backward(model, batch)
        optimizer.step()
    flat = [x.abs().reshape(-1) for x in found]
    if scope == "global":
        best = torch.cat(flat).topk(20).indices
        want = torch.zeros(sum(x.numel() for x in flat), dtype=torch.bool)
        want[best] = True
        masks = list(want.split([x.numel() for x in flat]))
    else:
        masks = []
        for x in flat:
            masks.append(torch.zeros(x.numel(), dtype=torch.bool))
            masks[-1][x.topk(min(20, x.numel())).indices] = True
    for p, mask in zip(model.parameters(), masks, strict=True):
        assert torch.equal(mask_of(optimizer, p).reshape(-1), mask)
        assert "score" not in optimizer.state[p]
        assert optimizer.state[p]["indices"].dtype == torch.int32


def test_chance_is_torchs() -> None:
    found = []
    for seed in (1, 1, 2):
        model = network()
        optimizer = SupportSGD(model.parameters(), density=0.2, score="random", lr=0.1)
        backward(model, next(batches()))
        torch.manual_seed(seed)
        optimizer.step()
        found.append([optimizer.state[p]["indices"].tolist() for p in model.parameters()])
    assert found[0] == found[1] != found[2]
    sizes = [p.numel() for p in network().parameters()]
    assert sum(map(len, found[0])) == round(0.2 * sum(sizes))
    for indices, size in zip(found[0], sizes, strict=True):
        assert indices == sorted(set(indices))
        assert all(0 <= i < size for i in indices)


def test_groups_have_their_own() -> None:
    model = network()
    first, *rest = model.parameters()
    masks = [torch.rand(p.shape) < 0.5 for p in rest]
    optimizer = SupportSGD([{"params": [first], "k": 3, "lr": 0.0}], density=0.1, calibrate=1)
    optimizer.add_param_group({"params": rest, "masks": masks, "calibrate": None})
    assert optimizer.calibrating
    before = weights(model)
    backward(model, next(batches()))
    optimizer.step()
    assert optimizer.state[first]["indices"].numel() == 3
    assert torch.equal(first, before[0])
    for p, mask, old in zip(rest, masks, before[1:], strict=True):
        assert torch.equal(mask_of(optimizer, p), mask)
        assert not torch.equal(p, old)
        assert torch.equal(p[~mask], old[~mask])


def test_what_has_no_gradient_while_it_looks_rests() -> None:
    a, b = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    optimizer = SupportSGD([a, b], lr=1.0, density=1.0, calibrate=1)
    a.grad = torch.ones(4)
    optimizer.step()
    b.grad = torch.ones(4)
    optimizer.step()
    assert a.tolist() == [0.0] * 4
    assert b.tolist() == [1.0] * 4
    assert b not in optimizer.state


def test_passes_that_are_not_finite_do_not_count() -> None:
    p = nn.Parameter(torch.ones(4))
    optimizer = SupportSGD([p], lr=1.0, k=1, calibrate=1, skip_nonfinite=True, momentum=0.9)
    p.grad = torch.tensor([0.0, torch.inf, 0.0, 0.0])
    optimizer.step()
    assert optimizer.calibrating
    p.grad = torch.tensor([0.0, 0.0, 2.0, 0.0])
    optimizer.step()
    assert optimizer.state[p]["indices"].tolist() == [2]
    p.grad = torch.tensor([0.0, 0.0, torch.nan, 0.0])
    optimizer.step()
    assert "momentum_buffer" not in optimizer.state[p]
    p.grad = torch.tensor([0.0, torch.nan, 0.5, 0.0])  # nobody looks at the second
    optimizer.step()
    assert p.tolist() == [1.0, 1.0, 0.5, 1.0]


# --- state ----------------------------------------------------------------------------------------


def saved(state: Any) -> Any:
    memory = io.BytesIO()
    torch.save(state, memory)
    memory.seek(0)
    return torch.load(memory)


Copies = Callable[[nn.Module, SupportSGD], tuple[nn.Module, SupportSGD]]
MADE: dict[str, Any] = {"density": 0.05, "calibrate": 4, "lr": 0.1, "momentum": 0.9,
                        "score": "fisher"}  # fmt: skip


def by_state_dict(model: nn.Module, optimizer: SupportSGD) -> tuple[nn.Module, SupportSGD]:
    twin = copy.deepcopy(model)
    other = SupportSGD(twin.parameters(), **{**MADE, "calibrate": 9})
    other.load_state_dict(saved(optimizer.state_dict()))
    return twin, other


def by_pickle(model: nn.Module, optimizer: SupportSGD) -> tuple[nn.Module, SupportSGD]:
    found: tuple[nn.Module, SupportSGD] = pickle.loads(pickle.dumps((model, optimizer)))
    return found


def by_copy(model: nn.Module, optimizer: SupportSGD) -> tuple[nn.Module, SupportSGD]:
    return copy.deepcopy((model, optimizer))


@pytest.mark.parametrize("way", [by_state_dict, by_pickle, by_copy])
@pytest.mark.parametrize("steps", [0, 2, 4, 5, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_resumed_run_has_the_same_bits(dtype: Any, steps: int, way: Copies) -> None:
    model = network(dtype)
    optimizer = SupportSGD(model.parameters(), **MADE)
    stream = batches()
    for _ in range(steps):
        backward(model, next(stream))
        optimizer.step()
    twin, other = way(model, optimizer)
    for _ in range(5):
        batch = next(stream)
        for net, steps_it in ((model, optimizer), (twin, other)):
            backward(net, batch)
            steps_it.step()
        assert same(weights(model), weights(twin))
    assert all(
        torch.equal(optimizer.state[p]["indices"], other.state[q]["indices"])
        for p, q in zip(model.parameters(), twin.parameters(), strict=True)
        if p in optimizer.state
    )


def test_the_state_is_what_is_chosen() -> None:
    p = nn.Parameter(torch.ones(100, 100))
    optimizer = SupportSGD([p], density=0.005, calibrate=1, momentum=0.9)
    for _ in range(2):
        p.grad = torch.randn(100, 100)
        optimizer.step()
    slots = optimizer.state[p]
    assert {name: x.numel() for name, x in slots.items()} == {"indices": 50, "momentum_buffer": 50}
    bytes_held = sum(x.numel() * x.element_size() for x in slots.values())
    assert bytes_held <= 0.02 * p.numel() * 4


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("indices", torch.tensor([2, 1]), ValueError),
        ("indices", torch.tensor([0, 9]), ValueError),
        ("indices", torch.tensor([-1, 1]), ValueError),
        ("indices", torch.tensor([0.0, 1.0]), TypeError),
        ("indices", [0, 1], TypeError),
        ("momentum_buffer", torch.ones(3), ValueError),
        ("momentum_buffer", torch.ones(2, dtype=torch.int64), TypeError),
        ("score", torch.ones(2), ValueError),
    ],
)
def test_a_state_that_does_not_fit_is_refused(name: str, value: Any, error: Any) -> None:
    p = nn.Parameter(torch.ones(4))
    optimizer = SupportSGD([p], k=2, calibrate=1, momentum=0.9)
    for _ in range(2):
        p.grad = torch.arange(4.0)
        optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    state["state"][0][name] = value
    before = repr(optimizer.state_dict())
    with pytest.raises(error, match=rf"^state_dict\['state'\]\[0\]\['{name}'\]: expected "):
        optimizer.load_state_dict(state)
    assert repr(optimizer.state_dict()) == before


def test_indices_that_were_edited_are_looked_at_again() -> None:
    p = nn.Parameter(torch.zeros(4))
    optimizer = SupportSGD([p], lr=1.0, masks=[torch.tensor([True, False, False, False])])
    p.grad = torch.ones(4)
    optimizer.step()
    optimizer.state[p]["indices"].fill_(2)
    optimizer.step()
    assert p.tolist() == [-1.0, 0.0, -1.0, 0.0]
    optimizer.state[p]["indices"].fill_(4)
    with pytest.raises(ValueError, match=r"^indices of params\[0\]: 4 at position 0 is outside"):
        optimizer.step()
    assert p.tolist() == [-1.0, 0.0, -1.0, 0.0]


def test_closures_and_schedulers() -> None:
    p = nn.Parameter(torch.ones(4))
    optimizer = SupportSGD([p], lr=1.0, density=0.5, calibrate=1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (p * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 10.0
    scheduler.step()
    optimizer.step(closure)
    assert p.tolist() == [1.0, 1.0, -0.5, -1.0]


def test_under_a_grad_scaler() -> None:
    p = nn.Parameter(torch.ones(4))
    optimizer = SupportSGD([p], lr=1.0, k=1, calibrate=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for i in range(3):
        optimizer.zero_grad()
        factor = torch.inf if i == 1 else 1.0
        scaler.scale((p * torch.tensor([0.0, 0.5, 0.0, 0.0])).sum() * factor).backward()
        scaler.step(optimizer)
        scaler.update()
    assert p.tolist() == [1.0, 0.5, 1.0, 1.0]


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "error", "message"),
    [
        ({}, ValueError, "density, k, masks: expected exactly one of them, got none"),
        ({"density": 0.1, "k": 3}, ValueError, "density, k, masks: expected exactly one of them"),
        ({"density": 1.5}, ValueError, "density: expected a number from 0 to 1"),
        ({"k": -1}, ValueError, "k: expected an integer"),
        ({"k": 1, "score": "loss"}, ValueError, "score: expected 'gradient', 'fisher', 'weight'"),
        ({"k": 1, "scope": "layer"}, ValueError, "scope: expected 'tensor' or 'global'"),
        ({"k": 1, "calibrate": 0}, ValueError, "calibrate: expected an integer from 1"),
        ({"k": 1, "calibrate": 1, "score": "weight"}, ValueError, "calibrate: has a meaning"),
        ({"masks": [torch.ones(4)]}, TypeError, "masks[0]: expected a bool tensor"),
        ({"masks": [torch.ones(3, dtype=bool)]}, ValueError, "masks[0]: expected shape (4,)"),
        ({"masks": []}, ValueError, "masks: expected 1 like the parameters, got 0"),
        ({"masks": 3}, TypeError, "masks: expected a sequence of bool tensors"),
        ({"k": 1, "lr": -1.0}, ValueError, "lr: expected a number >= 0"),
        ({"k": 1, "max_norm": -1.0}, ValueError, "max_norm: expected a number >= 0"),
    ],
)
def test_wrong_settings_are_named(terms: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error) as raised:
        SupportSGD([nn.Parameter(torch.ones(4))], **terms)
    assert str(raised.value).startswith(message)


def test_other_places_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^params\[0\]: is on meta, where the step on chosen"):
        SupportSGD([nn.Parameter(torch.ones(4, device="meta"))], k=1)
    optimizer = SupportSGD([nn.Parameter(torch.ones(4))], k=1)
    with pytest.raises(ValueError, match=r"^params\[0\]: is on meta"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(4, device="meta"))]})
    assert len(optimizer.param_groups) == 1
    with pytest.raises(TypeError, match=r"^params\[0\]: expected a dense tensor"):
        SupportSGD([nn.Parameter(torch.ones(4, dtype=torch.complex64))], k=1)


def test_sparse_gradients_are_refused() -> None:
    p = nn.Parameter(torch.ones(4))
    optimizer = SupportSGD([p], k=1, calibrate=1)
    p.grad = torch.ones(4).to_sparse()
    with pytest.raises(TypeError, match=r"^grads: expected dense gradients"):
        optimizer.step()


def test_the_step_tells_autograd() -> None:
    p = nn.Parameter(torch.ones(4))
    before = p._version
    sf.support_step(p, torch.ones(4), torch.tensor([1]), lr=0.5)
    assert p._version > before
    assert p.tolist() == [1.0, 0.5, 1.0, 1.0]
