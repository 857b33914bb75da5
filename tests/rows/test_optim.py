"""optim.SGD with row-sparse gradients: embeddings in training, state, resuming, what goes to torch.

Duplicates apart, the result without momentum is torch's; with momentum the reference is NumPy.
"""

# ruff: noqa: E402
from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch.nn import Embedding, EmbeddingBag, Linear, Parameter

from subgrad_fast import _core
from subgrad_fast.optim import SGD
from subgrad_fast.rows import row_step
from tests.bits import assert_same_bits
from tests.cases import RULE
from tests.optim.torch_twins import (
    TorchSteps,
    assert_same,
    assert_twins,
    give_gradients,
    parameters,
    snapshot,
    to_numpy,
)
from tests.oracles.dense import sgd_rows

pytestmark = pytest.mark.torch


def row_grad(rows: Any, values: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """An uncoalesced COO tensor, as Embedding(sparse=True) makes it."""
    return torch.sparse_coo_tensor(torch.tensor(rows)[None], values, shape, check_invariants=True)


def random_grad(p: torch.Tensor, n: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    values = torch.randn(n, *p.shape[1:], dtype=dtype or p.dtype)
    return row_grad(torch.randint(len(p), (n,)).tolist(), values, tuple(p.shape))


@pytest.fixture(params=["exchange", "attributes"])
def reach(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both ways of getting at a tensor's memory: torch >= 2.10's, and the older one."""
    old = _core.testing.use_exchange_api(request.param == "exchange")
    yield request.param
    _core.testing.use_exchange_api(old)


# --- the formula ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kwargs", [{}, {"maximize": True}, {"dampening": 0.5}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_momentum_and_duplicates_it_is_torchs(
    reach: str, kwargs: dict[str, Any], dtype: torch.dtype
) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        p, other = parameters((20, 7), (5,), dtype=dtype)
        optimizer = cls([p, other], lr=0.1, **kwargs)
        for i in range(4):
            give_gradients([p, other])
            if i != 2:  # and a dense gradient among them
                p.grad = row_grad(torch.randperm(20)[:6].tolist(), p.grad[:6], (20, 7))
            optimizer.step()
            yield optimizer

    assert_twins(scenario, routed=False)


def test_without_momentum_exact_sums_are_torchs() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        p = Parameter(torch.randint(-8, 8, (20, 4)).float())
        optimizer = cls([p], lr=0.5)
        for _ in range(4):
            p.grad = row_grad(
                torch.randint(20, (50,)).tolist(), torch.randint(-8, 8, (50, 4)).float(), (20, 4)
            )
            optimizer.step()
            yield p

    assert_twins(scenario, routed=False)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        {"momentum": 0.9, "dampening": 0.3, "maximize": True},
        {"weight_decay": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtypes", ["float32", "float64", "bfloat16", "float16"])
def test_against_the_formula(reach: str, dtypes: str, kwargs: dict[str, Any]) -> None:
    torch.manual_seed(0)
    p = Parameter(torch.randn(12, 5).to(getattr(torch, dtypes)))
    optimizer = SGD([p], lr=0.1, **kwargs)
    w = to_numpy(p)
    m = np.zeros_like(w) if "momentum" in kwargs else None
    with TorchSteps() as steps:
        for _ in range(5):
            p.grad = random_grad(p, 9)
            rows, values = p.grad._indices()[0].numpy(), to_numpy(p.grad._values())
            w, m = sgd_rows(w, rows, values, m, lr=0.1, **kwargs)
            optimizer.step()
            assert_same_bits(to_numpy(p), w)
            if m is not None:
                assert_same_bits(to_numpy(optimizer.state[p]["momentum_buffer"]), m)
    assert not steps.params


def test_all_rows_named_is_the_dense_step() -> None:
    def run(sparse: bool) -> Any:
        torch.manual_seed(0)
        p = parameters((6, 3))[0]
        optimizer = SGD([p], **RULE, dampening=0.2)
        for _ in range(3):
            give_gradients([p])
            if sparse:
                p.grad = p.grad.to_sparse(1)
            optimizer.step()
        return snapshot([p, optimizer.state[p]["momentum_buffer"]])

    assert_same(run(True), run(False))


def test_rows_rest_when_they_are_not_named_where_torch_moves_them() -> None:
    moved = {}
    for cls in (SGD, torch.optim.SGD):
        p = Parameter(torch.zeros(3, 2))
        optimizer = cls([p], lr=1.0, momentum=0.5)
        for row in (0, 1):
            p.grad = row_grad([row], torch.ones(1, 2), (3, 2))
            optimizer.step()
        moved[cls] = p.detach()[:, 0].tolist()
    assert moved == {SGD: [-1, -1, 0], torch.optim.SGD: [-1.5, -1, 0]}


# --- training ------------------------------------------------------------------------------------


class Model(torch.nn.Module):
    """Two tables with row-sparse gradients, one with dense ones, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.words = Embedding(50, 8, sparse=True, padding_idx=0)
        self.bags = EmbeddingBag(30, 8, sparse=True, mode="mean")
        self.dense = Embedding(10, 8)
        self.head = Linear(8, 1)

    def forward(self) -> torch.Tensor:
        words = self.words(torch.randint(50, (16, 3))).sum(1)
        bags = self.bags(torch.randint(30, (16, 4)))
        return self.head(torch.tanh(words + bags + self.dense(torch.randint(10, (16,)))))


def trained(cls: type, steps: int = 30, **kwargs: Any) -> tuple[Model, Any, list[float]]:
    torch.manual_seed(0)
    model = Model()
    optimizer = cls(model.parameters(), **kwargs)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model() - 1).pow(2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, optimizer, losses


@pytest.mark.parametrize("kwargs", [{"lr": 0.1}, RULE, {**RULE, "nesterov": True}], ids=str)
def test_a_model_of_embeddings_trains(kwargs: dict[str, Any]) -> None:
    with TorchSteps() as steps:
        model, optimizer, losses = trained(SGD, **kwargs)
    assert not steps.params
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    for p in model.parameters():
        assert p._version > 1
        if "momentum" in kwargs:
            buffer = optimizer.state[p]["momentum_buffer"]
            assert (buffer.layout, buffer.shape) == (torch.strided, p.shape)
    # Without momentum torch's result, but for the order of sums.
    if "momentum" not in kwargs:
        theirs, _, _ = trained(torch.optim.SGD, **kwargs)
        for a, b in zip(model.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b)


def test_accumulated_and_expanded_gradients() -> None:
    torch.manual_seed(0)
    table = Embedding(9, 4, sparse=True)
    before = to_numpy(table.weight)
    index = torch.tensor([3, 5, 3])
    table(index).sum().backward()  # values of stride 0
    (2 * table(index[:2])).sum().backward()
    optimizer = SGD(table.parameters(), lr=0.5)
    optimizer.step()
    want = before.copy()
    want[[3, 5]] -= np.float32([[2.0], [1.5]])
    np.testing.assert_allclose(to_numpy(table.weight), want, rtol=1e-6)


def test_coalesced_gradients() -> None:
    def run(coalesce: bool) -> torch.Tensor:
        torch.manual_seed(0)
        p = Parameter(torch.zeros(9, 4))
        optimizer = SGD([p], lr=1.0, momentum=0.5)
        for _ in range(3):
            p.grad = row_grad([7, 2, 7], torch.randint(9, (3, 4)).float(), (9, 4))
            p.grad = p.grad.coalesce() if coalesce else p.grad
            optimizer.step()
        return p.detach()

    assert_same(run(True), run(False))


# --- state ---------------------------------------------------------------------------------------


def test_the_state_is_bounded_by_the_dense_size() -> None:
    torch.manual_seed(0)
    p = parameters((1000, 4))[0]
    optimizer = SGD([p], **RULE)
    for _ in range(40):
        p.grad = random_grad(p, 300)
        optimizer.step()
        (buffer,) = (state["momentum_buffer"] for state in optimizer.state.values())
        assert buffer.numel() == p.numel() and not buffer.is_sparse
    # The control: torch's grows by the rows of every step.
    q = Parameter(p.detach().clone())
    optimizer = torch.optim.SGD([q], lr=0.1, momentum=0.9)
    for _ in range(40):
        q.grad = random_grad(q, 300)
        optimizer.step()
    assert optimizer.state[q]["momentum_buffer"]._nnz() > 1000


def through_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_resuming_gives_the_same_bits() -> None:
    def run(resume: bool) -> Any:
        torch.manual_seed(0)
        p, dense = parameters((40, 5), (7,))
        optimizer = SGD([p, dense], **RULE, dampening=0.3)
        for i in range(6):
            if resume and i == 3:
                state = through_file(optimizer.state_dict())
                p, dense = (Parameter(x.detach().clone()) for x in (p, dense))
                optimizer = SGD([p, dense], lr=9.0)
                optimizer.load_state_dict(state)
            give_gradients([dense])
            p.grad = random_grad(p, 12)
            optimizer.step()
        return snapshot(optimizer)

    assert_same(run(True), run(False))


def test_copies_go_on_alike() -> None:
    torch.manual_seed(0)
    p = parameters((40, 5))[0]
    first = SGD([p], **RULE)
    p.grad = random_grad(p, 12)
    first.step()
    second = copy.deepcopy(first)
    second.param_groups[0]["params"][0].grad = p.grad
    first.step()
    second.step()
    assert_same(snapshot(second), snapshot(first))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torchs_sparse_momentum_is_loaded(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    p = parameters((10, 3), dtype=dtype)[0]
    theirs = torch.optim.SGD([p], lr=0.1, momentum=0.9)
    for _ in range(3):
        p.grad = random_grad(p, 5)
        theirs.step()
    buffer = theirs.state[p]["momentum_buffer"]
    assert buffer.is_sparse and not buffer.is_coalesced()
    ours = SGD([p], lr=0.1, momentum=0.9)
    ours.load_state_dict(theirs.state_dict())
    loaded = ours.state[p]["momentum_buffer"]
    assert_same(loaded, buffer.to_dense())
    w, m = p.detach().clone(), loaded.clone()
    p.grad = random_grad(p, 5)
    row_step(w, p.grad, m, lr=0.1, momentum=0.9)
    with TorchSteps() as steps:
        ours.step()
    assert not steps.params
    assert_same([p.detach(), ours.state[p]["momentum_buffer"]], [w, m])
    # Back again: torch takes the dense buffer.
    theirs.load_state_dict(ours.state_dict())
    theirs.step()
    # An optimizer that was told to be torch's keeps torch's buffer.
    torchs = SGD([p], lr=0.1, momentum=0.9, foreach=False)
    torchs.load_state_dict(through_file({**theirs.state_dict(), "state": {}}))
    torchs.step()
    state = torchs.state_dict()
    torchs.load_state_dict(state)
    assert torchs.state[p]["momentum_buffer"].is_sparse
    torchs.step()


def test_dense_and_row_sparse_gradients_in_turn() -> None:
    torch.manual_seed(0)
    p = parameters((6, 3))[0]
    optimizer = SGD([p], lr=0.1, momentum=0.9)
    w, m = to_numpy(p), np.zeros((6, 3), np.float32)
    with TorchSteps() as steps:
        for kind in "sddssdsd":
            if kind == "s":
                p.grad = random_grad(p, 3)
                rows, g = p.grad._indices()[0].numpy(), to_numpy(p.grad._values())
            else:
                p.grad = torch.randn(6, 3)
                rows, g = np.arange(6), to_numpy(p.grad)
            w, m = sgd_rows(w, rows, g, m, lr=0.1, momentum=0.9)
            optimizer.step()
            assert_same_bits(to_numpy(p), w)
    assert not steps.params


def test_momentum_that_starts_and_stops() -> None:
    torch.manual_seed(0)
    p = parameters((6, 3))[0]
    optimizer = SGD([p], lr=0.1)
    w, m = to_numpy(p), np.zeros((6, 3), np.float32)
    for momentum in (0, 0.9, 0.9, 0, 0.5, 0.5):
        optimizer.param_groups[0]["momentum"] = momentum
        p.grad = random_grad(p, 3)
        rows, g = p.grad._indices()[0].numpy(), to_numpy(p.grad._values())
        w, m = sgd_rows(w, rows, g, m, lr=0.1, momentum=momentum)
        optimizer.step()
        assert_same_bits(to_numpy(p), w)


# --- what goes to torch, and errors --------------------------------------------------------------


def test_other_sparse_gradients_go_to_torch() -> None:
    p, q = parameters((6, 3), (6, 3))
    optimizer = SGD([p, q], lr=0.1, momentum=0.9)
    with TorchSteps() as steps:
        for _ in range(2):
            p.grad, q.grad = torch.randn_like(p).to_sparse(), random_grad(q, 3)
            optimizer.step()
    assert steps.had(p) and not steps.had(q)


def test_a_transposed_parameter_goes_to_torch() -> None:
    p = Parameter(torch.randn(3, 6).t())
    optimizer = SGD([p], lr=0.1)
    p.grad = random_grad(p, 3)
    with TorchSteps() as steps:
        optimizer.step()
    assert steps.had(p)


def test_a_group_of_torchs_stays_torchs() -> None:
    p = parameters((6, 3))[0]
    optimizer = SGD([p], lr=torch.tensor(0.1, requires_grad=True))
    p.grad = random_grad(p, 3)
    with TorchSteps() as steps, pytest.raises(NotImplementedError):
        optimizer.step()  # torch has no such step
    assert steps.had(p)


@pytest.mark.parametrize("bad", ["rows", "torch"])
def test_an_error_leaves_everything_as_it_was(bad: str) -> None:
    p, q, dense = parameters((6, 3), (6, 3), (5,))
    optimizer = SGD([p, q, dense], lr=0.1, momentum=0.9, weight_decay=0.1)
    before = snapshot(optimizer)
    give_gradients([dense])
    p.grad = random_grad(p, 3)
    if bad == "rows":
        with torch.sparse.check_sparse_tensor_invariants(False):
            q.grad = torch.sparse_coo_tensor([[0]], torch.ones(1, 3), (6, 3))
        q.grad._indices()[0, 0] = 6
        message = r"grads\[1\]: row 6 at position 0 is outside the 6 rows of params\[1\]"
    else:
        q.grad = torch.randn_like(q).to_sparse()  # which torch refuses to decay
        message = "add"
    with pytest.raises((ValueError, RuntimeError), match=message):
        optimizer.step()
    assert_same(snapshot(optimizer), before)
    q.grad = None
    optimizer.step()
    assert snapshot(optimizer)["state_dict"]["state"].keys() == {0, 2}


def test_torch_tensors_in_row_step(reach: str) -> None:
    w, m = torch.ones(5, 2), torch.zeros(5, 2)
    grad = row_grad([3, 3], torch.tensor([[1.0, 2.0], [3.0, 4.0]]), (5, 2))
    row_step(w, grad, m, lr=0.5, momentum=0.9)
    assert w[3].tolist() == [-1.0, -2.0] and w[:3].eq(1).all() and w._version == m._version == 1
    row_step([w], [(torch.tensor([3], dtype=torch.int32), torch.ones(1, 2).bfloat16())], lr=1.0)
    assert w[3].tolist() == [-2.0, -3.0]
    with pytest.raises(ValueError, match=r"grads: expected shape \(5, 2\), got \(6, 2\)"):
        row_step(w, row_grad([3], torch.ones(1, 2), (6, 2)), lr=0.5)
    with pytest.raises(ValueError, match="one sparse dimension, got 2"):
        row_step(w, torch.ones(5, 2).to_sparse(), lr=0.5)
    with pytest.raises(TypeError, match=r"expected \(rows, values\) or a sparse COO tensor"):
        row_step(w, torch.ones(5, 2), lr=0.5)
    with pytest.raises(TypeError, match="expected row numbers as int32 or int64"):
        row_step(w, (torch.ones(2), torch.ones(2, 2)), lr=0.5)
