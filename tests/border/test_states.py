"""States are inputs: what does not fit is refused, and the object is then as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf

X = np.arange(60.0).reshape(20, 3)


def updated() -> sf.WeightedSampler:
    sampler = sf.WeightedSampler(np.arange(1.0, 21.0), 2, seed=1)
    sampler.update([3], [9.0])
    return sampler


OBJECTS: dict[str, Callable[[], Any]] = {
    "batches": lambda: sf.BatchSampler(20, 2, seed=1),
    "weighted": lambda: sf.WeightedSampler(np.arange(1.0, 21.0), 2, seed=1),
    "updated": updated,
    "balanced": lambda: sf.ClassBalancedSampler(np.arange(20) % 4, 2, seed=1),
    "stratified": lambda: sf.StratifiedSampler(np.arange(20) % 4, 4, seed=1),
    "groups": lambda: sf.GroupSampler(np.arange(20) % 4, 2, 2, seed=1),
    "iterator": lambda: iter(sf.BatchSampler(20, 2, seed=1)),
    "loader": lambda: sf.BatchLoader(X, sf.BatchSampler(20, 2, seed=1)),
    "indices": lambda: sf.BatchLoader(X, [[1, 2], [3, 4]]),
    "fused": lambda: sf.FusedSGD([np.ones(3, np.float32)] * 1, lr=0.1, momentum=0.9),
}

WRONG: list[Any] = [None, "x", -1, 2**70, 0.5, float("nan"), [1], {}, b"1", object()]

# Keys that may be left out, and values that are right for their key.
OPTIONAL = {"drawn", "exponent"}
RIGHT: dict[str, list[Any]] = {"exponent": [None], "sampler": []}


def moved(kind: str) -> Any:
    """One that has gone on, so that each part of its state is another than a fresh one's."""
    made = OBJECTS[kind]()
    if kind == "fused":
        made(np.ones(3, np.float32))
    elif kind == "iterator":
        next(made)
    else:
        next(iter(made))
    if isinstance(made, sf.WeightedSampler):
        made.draw(3)
    return made


def snapshot(made: Any) -> Any:
    return repr(made.state_dict())


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_state_that_is_none_of_its_own_changes_nothing(kind: str) -> None:
    made = OBJECTS[kind]()
    before, state = snapshot(made), moved(kind).state_dict()
    wrong: list[Any] = [None, 3, "state", [], {}]
    for key in state:
        if key not in OPTIONAL:
            wrong.append({k: v for k, v in state.items() if k != key})
        right = [state[key], *RIGHT.get(key, [])] if not isinstance(state[key], list) else []
        wrong += [{**state, key: value} for value in WRONG if value not in right]
    if kind == "indices":  # whose sampler has no state
        wrong = [w for w in wrong if not isinstance(w, dict) or w.get("sampler", 1) is not None]
    for bad in wrong:
        with pytest.raises((TypeError, ValueError, KeyError)):
            made.load_state_dict(bad)
        assert snapshot(made) == before


def test_the_state_of_updated_weights_belongs_to_them() -> None:
    a = sf.WeightedSampler(np.ones(10), 2, seed=1)
    a.update([0], [1e30])
    b = sf.WeightedSampler(np.ones(10), 2, seed=1)
    before = b.state_dict()
    with pytest.raises(ValueError, match=r"^state\['exponent'\]: \d+, which is that of other"):
        b.load_state_dict(a.state_dict())
    assert b.state_dict() == before
    b.update([0], [1e30])
    b.load_state_dict(a.state_dict())
    assert np.array_equal(a.draw(100), b.draw(100))


@pytest.mark.parametrize("exponent", [-1100, -70, 3, 5, 60, 1100])
def test_draws_are_rows_whatever_the_state_says(exponent: int) -> None:
    sampler = sf.WeightedSampler(np.arange(1.0, 11.0), 2, seed=1)
    try:
        sampler.load_state_dict({**sampler.state_dict(), "exponent": exponent})
    except ValueError:
        assert "exponent" not in sampler.state_dict()
    rows = sampler.draw(1000)
    assert rows.min() >= 0
    assert rows.max() < 10


BUFFERS: list[Any] = [
    [np.full(3, 5.0), np.array([1j, 2, 3])],
    [np.full(3, 5.0), np.ones(4)],
    [np.full(3, 5.0)],
    [np.full(3, 5.0), "ones"],
    [np.full(3, 5.0), np.array([object()] * 3)],
    np.ones((2, 3)),
    7,
]


@pytest.mark.parametrize("buffers", BUFFERS, ids=range(len(BUFFERS)))
def test_fused_sgd_takes_all_buffers_or_none(buffers: Any) -> None:
    step = sf.FusedSGD([np.ones(3, np.float32) for _ in range(2)], lr=0.1, momentum=0.9)
    step([np.ones(3, np.float32)] * 2)
    before = snapshot(step)
    with pytest.raises((TypeError, ValueError), match=r"^state\['momentum_buffers'\]"):
        step.load_state_dict({"momentum_buffers": buffers, "first_step": False})
    assert snapshot(step) == before


def test_a_state_from_before_the_first_momentum_takes_the_momentum_away() -> None:
    w = np.zeros(2, np.float32)
    step = sf.FusedSGD(w, lr=1.0)
    state = step.state_dict()
    step.momentum = 0.5
    step(np.ones(2, np.float32))
    step.load_state_dict(state)
    assert step.momentum_buffers == []
    step(np.ones(2, np.float32))
    assert (w == -2).all()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", None),
        ("steps", -1),
        ("lr", -1.0),
        ("scope", "all"),
        ("density", 2.0),
        ("selector", "best"),
        ("warmup_steps", 0),
        ("warmup", [3.0]),
    ],
)
def test_threshold_sgd_takes_a_state_whole_or_not_at_all(key: str, value: Any) -> None:
    torch = pytest.importorskip("torch")
    from subgrad_fast.optim import ThresholdSGD

    p = torch.nn.Parameter(torch.ones(4))
    optimizer = ThresholdSGD([p], lr=0.1, density=0.5)
    p.grad = torch.ones(4)
    optimizer.step()
    before, at = repr(optimizer.state_dict()), p.detach().clone()
    state = optimizer.state_dict()
    state["param_groups"][0][key] = value
    with pytest.raises((TypeError, ValueError), match=f"^{key}|^selector|^lr"):
        optimizer.load_state_dict(state)
    assert repr(optimizer.state_dict()) == before
    optimizer.param_groups[0][key] = value  # by hand, past any check
    with pytest.raises((TypeError, ValueError)):
        optimizer.step()
    assert torch.equal(p, at)


def test_a_thresholded_step_that_raises_leaves_no_slots_of_state() -> None:
    torch = pytest.importorskip("torch")
    from subgrad_fast.optim import ThresholdSGD

    params = [torch.nn.Parameter(torch.ones(4, dtype=d)) for d in (torch.float32, torch.float64)]
    optimizer = ThresholdSGD(params, lr=0.1, density=0.5, scope="global")
    for p in params:
        p.grad = torch.ones_like(p)
    with pytest.raises(TypeError, match=r"^scope: "):
        optimizer.step()
    assert len(optimizer.state) == 0


COUNTED: dict[str, Callable[[], Any]] = {
    "ours": lambda: sf.BatchSampler(20, 2, seed=1),
    "a list": lambda: np.arange(20).reshape(10, 2).tolist(),
}


@pytest.mark.parametrize("kind", COUNTED)
def test_a_loader_counts_batches_from_the_beginning_of_the_epoch(kind: str) -> None:
    loader = sf.BatchLoader(X, COUNTED[kind]())
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    state = loader.state_dict()
    assert state["batches"] == 3
    resumed = sf.BatchLoader(X, COUNTED[kind]())
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    for i, _ in enumerate(resumed):
        assert resumed.state_dict()["batches"] == 4 + i
    assert resumed.state_dict()["batches"] == 0


@pytest.mark.parametrize("rows", [1, 3000], ids=["in turn", "background"])
def test_a_batch_that_raises_does_not_count(rows: int) -> None:
    x = np.zeros((5000, 40), np.float32)
    loader = sf.BatchLoader(x, [[0] * rows, [len(x)] * rows, [1] * rows])
    iterator = iter(loader)
    next(iterator)
    with pytest.raises(IndexError):
        next(iterator)
    assert loader.state_dict()["batches"] == 1


def test_a_mapped_file_that_was_cut_is_an_error_when_an_epoch_begins(tmp_path: Any) -> None:
    path = tmp_path / "x.bin"
    x = np.memmap(path, np.float32, "w+", offset=8192, shape=(5000, 64))
    x[:] = 1
    x.flush()
    loader = sf.BatchLoader((x, x[::2].repeat(2, axis=0)), sf.BatchSampler(5000, 100))
    assert len(list(loader)) == 50
    with path.open("r+b") as file:
        file.truncate(8192 + 100)
    with pytest.raises(ValueError, match=r"^arrays\[0\]: its file has 8292 bytes and needs"):
        next(iter(loader))
