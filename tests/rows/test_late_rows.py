"""optim.SGD(sparse_rows="dense"): sparse embeddings train like dense ones, bit for bit."""

# ruff: noqa: E402
from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch.nn import Embedding, EmbeddingBag, Linear, Module, Parameter
from torch.nn.functional import embedding

from subgrad_fast.optim import SGD, late_rows
from tests.cases import RULE
from tests.optim.torch_twins import assert_same

pytestmark = pytest.mark.torch

DENSE: dict[str, Any] = {"sparse_rows": "dense"}


class Model(Module):
    """Two tables, one of which is read twice, and a head. No row is named twice in a bag."""

    def __init__(self, sparse: bool) -> None:
        super().__init__()
        self.words = Embedding(50, 8, sparse=sparse, padding_idx=0)
        self.bags = EmbeddingBag(30, 8, sparse=sparse, mode="sum")
        self.head = Linear(8, 1)

    def forward(self, words: Any, bags: Any) -> Any:
        read = self.words(words) + self.bags(bags)
        return self.head(torch.tanh(read))


def inputs(steps: int, seed: int = 0) -> Iterator[Any]:
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        # Rows that are named once: torch adds those of several in another order.
        words = (50 * rng.permutation(50)[:6] ** 2 // 2500).clip(0, 49)
        words = np.unique(words)[:3]
        bags = rng.permutation(30)[: 2 * len(words)].reshape(len(words), 2)
        yield torch.from_numpy(words), torch.from_numpy(bags)


Make = Callable[[Model], Any]


def trained(sparse: bool, make: Make, steps: int = 60, after: Any = None) -> tuple[Model, Any]:
    torch.manual_seed(0)
    model = Model(sparse)
    optimizer = make(model)
    for step, (words, bags) in enumerate(inputs(steps)):
        optimizer.zero_grad()
        (model(words, bags) - 1).pow(2).mean().backward()
        optimizer.step()
        if after is not None:
            after(step, model, optimizer)
    return model, optimizer


def state_of(model: Model, optimizer: Any) -> Any:
    state = optimizer.state_dict()
    return [dict(model.state_dict()), state["state"]]


@pytest.mark.parametrize(
    "rule",
    [
        {"lr": 0.1},
        RULE,
        {**RULE, "nesterov": True},
        {**RULE, "dampening": 0.3, "maximize": True},
        {"lr": 0.1, "weight_decay": 0.01, "l1": 1e-3},
        {**RULE, "clip_value": 1e-3, "ema_decay": 0.9},
    ],
    ids=str,
)
def test_it_is_the_dense_optimizer(rule: dict[str, Any]) -> None:
    late = trained(True, lambda model: SGD(model.parameters(), **rule, **DENSE))
    whole = trained(False, lambda model: SGD(model.parameters(), **rule))
    assert_same(state_of(*late), state_of(*whole))
    lazy = trained(True, lambda model: SGD(model.parameters(), **rule))
    differs = set(rule) - {"lr", "maximize"}
    same = torch.equal(lazy[0].words.weight, whole[0].words.weight)
    assert same == (not differs), "the control"


def test_it_is_torchs_dense_optimizer_with_a_schedule() -> None:
    def run(sparse: bool, cls: Any, **more: Any) -> Any:
        schedulers: list[Any] = []

        def make(model: Model) -> Any:
            optimizer = cls(model.parameters(), **RULE, **more)
            schedulers.append(torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300))
            return optimizer

        model, optimizer = trained(sparse, make, steps=300, after=lambda *_: schedulers[0].step())
        return state_of(model, optimizer)

    assert_same(run(True, SGD, **DENSE), run(False, torch.optim.SGD))


def test_evaluation_reads_what_is_true_now() -> None:
    seen: dict[bool, list[Any]] = {True: [], False: []}

    def look(sparse: bool) -> Any:
        def after(step: int, model: Model, _: Any) -> None:
            if step % 7 == 3:
                model.eval()
                with torch.no_grad():
                    seen[sparse].append(model(torch.arange(9), torch.arange(18).reshape(9, 2)))
                model.train()

        return after

    trained(True, lambda m: SGD(m.parameters(), **RULE, **DENSE), after=look(True))
    trained(False, lambda m: SGD(m.parameters(), **RULE), after=look(False))
    assert_same(seen[True], seen[False])


def test_states_are_up_to_date_and_go_on_alike() -> None:
    """The model's and the optimizer's states: saved, loaded into others, crossed with torch's."""

    def resumed(sparse: bool, cls: Any, more: dict[str, Any]) -> Any:
        make: Make = lambda m: cls(m.parameters(), **RULE, **more)  # noqa: E731
        model, optimizer = trained(sparse, make, steps=30)
        file = io.BytesIO()
        torch.save([model.state_dict(), optimizer.state_dict()], file)
        file.seek(0)
        weights, state = torch.load(file, weights_only=True)
        other = Model(sparse)
        second = make(other)
        other.load_state_dict(weights)
        second.load_state_dict(state)
        for words, bags in inputs(20, seed=1):
            for m, o in ((model, optimizer), (other, second)):
                o.zero_grad()
                (m(words, bags) - 1).pow(2).mean().backward()
                o.step()
        assert_same(state_of(other, second), state_of(model, optimizer))
        return [dict(model.state_dict()), optimizer.state_dict()["state"]]

    assert_same(resumed(True, SGD, DENSE), resumed(False, SGD, {}))
    model, optimizer = trained(True, lambda m: SGD(m.parameters(), **RULE, **DENSE))
    theirs = torch.optim.SGD(Model(False).parameters(), **RULE)
    theirs.load_state_dict(optimizer.state_dict())
    assert_same(theirs.state_dict()["state"], optimizer.state_dict()["state"])


def test_weights_that_are_loaded_take_the_place_of_late_rows() -> None:
    def run(sparse: bool, more: dict[str, Any]) -> Any:
        torch.manual_seed(1)
        saved = dict(Model(sparse).state_dict())

        def load(step: int, model: Model, _: Any) -> None:
            if step == 20:
                model.load_state_dict(saved)

        return state_of(*trained(sparse, lambda m: SGD(m.parameters(), **RULE, **more), after=load))

    assert_same(run(True, DENSE), run(False, {}))


@pytest.mark.parametrize(
    "make", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["copy", "pickle"]
)
def test_copies_go_on_alike(make: Any) -> None:
    model, optimizer = trained(True, lambda m: SGD(m.parameters(), **RULE, **DENSE), steps=30)
    optimizer.materialize()
    other, second = make((model, optimizer))
    for words, bags in inputs(20, seed=1):
        for m, o in ((model, optimizer), (other, second)):
            o.zero_grad()
            m(words, bags).sum().backward()
            o.step()
    assert second._tables, "it steps late as well"
    assert_same(state_of(other, second), state_of(model, optimizer))


def test_accumulated_gradients_and_steps_without_one() -> None:
    def run(sparse: bool, more: dict[str, Any]) -> Any:
        torch.manual_seed(0)
        model = Model(sparse)
        optimizer = SGD(model.parameters(), **RULE, **more)
        for step, (words, bags) in enumerate(inputs(40)):
            if step % 3 == 0:
                optimizer.zero_grad()
            out = model(words, bags) if step % 5 else model.head(model.words(words))
            out.sum().backward()
            if step % 3 == 2:
                optimizer.step()
        return state_of(model, optimizer)

    late, whole = run(True, DENSE), run(False, {})
    for name, tensor in late[0].items():
        torch.testing.assert_close(tensor, whole[0][name], rtol=1e-5, atol=1e-6)


def test_state_edits() -> None:
    def run(sparse: bool, more: dict[str, Any]) -> Any:
        def edit(step: int, model: Model, optimizer: Any) -> None:
            if step == 10:
                optimizer.materialize()
                optimizer.state.clear()
            if step == 20:
                optimizer.param_groups[0]["momentum"] = 0
            if step == 30:
                optimizer.param_groups[0]["momentum"] = 0.5
            if step == 40:
                optimizer.materialize()
                for slots in optimizer.state.values():
                    slots["momentum_buffer"] = slots["momentum_buffer"] * 2

        return state_of(*trained(sparse, lambda m: SGD(m.parameters(), **RULE, **more), after=edit))

    assert_same(run(True, DENSE), run(False, {}))


# --- readers that are not embeddings -------------------------------------------------------------


def table_and_optimizer(**more: Any) -> tuple[Embedding, Any]:
    torch.manual_seed(0)
    table = Embedding(9, 4, sparse=True)
    optimizer = SGD(table.parameters(), **RULE, **{**DENSE, **more})
    for rows in ([1, 2], [3]):
        optimizer.zero_grad()
        table(torch.tensor(rows)).sum().backward()
        optimizer.step()
    optimizer.zero_grad()
    return table, optimizer


@pytest.mark.parametrize("check", [True, False])
def test_a_reader_past_the_embedding(check: bool) -> None:
    table, optimizer = table_and_optimizer(check_reads=check)
    embedding(torch.tensor([5]), table.weight, sparse=True).sum().backward()
    before = table.weight.detach().clone()
    if check:
        message = r"row 5 of the table of shape \(9, 4\) has a gradient and lacked steps"
        with pytest.raises(RuntimeError, match=message):
            optimizer.step()
        assert torch.equal(before, table.weight)
        optimizer.materialize()
    optimizer.step()
    assert not torch.equal(before, table.weight)


@pytest.mark.parametrize("check", [True, False])
def test_a_tied_weight(check: bool) -> None:
    table, optimizer = table_and_optimizer(check_reads=check)
    (torch.ones(2, 4) @ table.weight.t()).sum().backward()
    if check:
        with pytest.raises(RuntimeError, match=r"shape \(9, 4\) is dense, so all of its rows"):
            optimizer.step()
    optimizer.materialize()
    optimizer.step()
    assert not optimizer._tables[table.weight].history.pending


def test_a_writer() -> None:
    table, optimizer = table_and_optimizer()
    with torch.no_grad():
        table.weight.mul_(2)
    message = "was written while rows lacked steps; call"
    with pytest.raises(RuntimeError, match=message):
        table(torch.tensor([1]))
    with pytest.raises(RuntimeError, match=message):
        optimizer.materialize()
    table, optimizer = table_and_optimizer()
    optimizer.materialize()
    with torch.no_grad():
        table.weight.mul_(2)
    table(torch.tensor([1])).sum().backward()
    optimizer.step()


def test_rows_that_are_scaled_down_when_they_are_read() -> None:
    def run(sparse: bool, more: dict[str, Any]) -> Any:
        torch.manual_seed(0)
        table = Embedding(9, 4, sparse=sparse, max_norm=0.5)
        optimizer = SGD(table.parameters(), **RULE, **more)
        for i in range(20):
            optimizer.zero_grad()
            table(torch.tensor([i % 4, 4 + i % 5])).sum().backward()
            optimizer.step()
        optimizer.state_dict()
        return table.weight.detach()

    assert_same(run(True, DENSE), run(False, {}))


def test_rows_that_do_not_exist_are_the_embeddings_to_refuse() -> None:
    table, _ = table_and_optimizer()
    with pytest.raises(IndexError):
        table(torch.tensor([9]))
    with pytest.raises(IndexError):
        table(torch.tensor([-1]))
    table(torch.zeros(0, dtype=torch.int64))
    table(input=torch.tensor([[1]], dtype=torch.int32))


# --- what it is not for --------------------------------------------------------------------------


def test_what_is_refused() -> None:
    p = Parameter(torch.zeros(4, 3))
    for more, kind, message in (
        ({"sparse_rows": "eager"}, ValueError, "sparse_rows: expected 'lazy' or 'dense'"),
        ({"sparse_rows": True}, TypeError, "sparse_rows: expected 'lazy' or 'dense'"),
        ({"check_reads": "no"}, TypeError, "check_reads: expected"),
        ({**DENSE, "foreach": True}, ValueError, 'sparse_rows: "dense" is a step of this class'),
        ({**DENSE, "fused": False}, ValueError, 'sparse_rows: "dense" is a step of this class'),
    ):
        with pytest.raises(kind, match=message):
            SGD([p], lr=0.1, **more)
    transposed = Parameter(torch.zeros(3, 4).t())
    for param, grad in (
        (transposed, torch.ones(4, 3).to_sparse(1)),
        (p, torch.ones(4, 3).to_sparse()),
    ):
        optimizer = SGD([param], lr=0.1, **DENSE)
        param.grad = grad
        with pytest.raises(TypeError, match=r'sparse_rows: "dense" cannot step the table of shape'):
            optimizer.step()
        assert not param.any()


def test_nothing_is_left_when_nobody_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_rows, "_readers", weakref.WeakValueDictionary())
    monkeypatch.setattr(late_rows, "_handles", [])
    hooks = torch.nn.modules.module._global_forward_pre_hooks
    before = len(hooks)
    _, optimizer = table_and_optimizer()
    Linear(1, 1)(torch.zeros(1))
    assert late_rows._readers and len(hooks) == before + 1
    del optimizer
    gc.collect()
    assert not late_rows._readers
    Linear(1, 1)(torch.zeros(1))
    assert not late_rows._handles and len(hooks) == before
