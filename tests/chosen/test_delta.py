"""Deltas: what was fine-tuned is put into the base model and taken out, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from tests.bits import assert_same_bytes
from tests.cases import DTYPES, LAYOUTS, special_values


def arrays(seed: int, dtype: str = "float32") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"a": (40, 30), "b": (7,), "c": ()}
    return {
        name: special_values(DTYPES[dtype], int(np.prod(shape)), rng).reshape(shape)
        for name, shape in shapes.items()
    }


def delta_of(model: dict[str, np.ndarray], seed: int = 1) -> dict[str, tuple[Any, Any]]:
    rng = np.random.default_rng(seed)
    found = {}
    for name in ("a", "b"):
        x = model[name]
        indices = np.sort(rng.choice(x.size, x.size // 3, replace=False)).astype(np.int32)
        found[name] = (indices, special_values(x.dtype, len(indices), rng))
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_in_and_out_again(dtype: str, layout: str) -> None:
    before = arrays(0, dtype)
    model = {name: LAYOUTS[layout](x.copy()) if x.ndim else x.copy() for name, x in before.items()}
    delta = delta_of(before)
    kept = {name: (i.copy(), v.copy()) for name, (i, v) in delta.items()}
    base = sf.apply_delta_(model, delta)
    for name, (indices, values) in delta.items():
        want = np.array(before[name]).reshape(-1)
        want[indices] = values
        assert_same_bytes(np.array(model[name]).reshape(-1), want)
        assert_same_bytes(base[name][1], before[name].reshape(-1)[indices])
        assert_same_bytes(values, kept[name][1])
    assert_same_bytes(np.array(model["c"]), before["c"])
    again = {name: (i, v.copy()) for name, (i, v) in base.items()}
    sf.revert_delta_(model, base)
    for name, x in before.items():
        assert_same_bytes(np.array(model[name]), x)
    for name, (_, values) in base.items():
        assert_same_bytes(values, again[name][1])


def test_several_take_turns() -> None:
    model = arrays(0)
    before = {name: x.copy() for name, x in model.items()}
    deltas = [delta_of(model, seed) for seed in range(3)]
    for delta in (*deltas, deltas[0]):
        base = sf.apply_delta_(model, delta)
        for name, (indices, values) in delta.items():
            assert_same_bytes(model[name].reshape(-1)[indices], values)
        sf.revert_delta_(model, base)
        for name, x in before.items():
            assert_same_bytes(model[name], x)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"d": (np.array([0]), np.ones(1, np.float32))}, ValueError,
         "delta: the model has no parameter 'd'"),
        ({"b": (np.array([0]), np.ones(1))}, TypeError, "delta['b']: expected float32"),
        ({"b": (np.array([0, 1]), np.ones(1, np.float32))}, ValueError,
         "delta['b']: expected shape (2,)"),
        ({"b": (np.array([7]), np.ones(1, np.float32))}, ValueError,
         "delta['b']: 7 at position 0 is outside the 7 elements of model['b']"),
        ({"b": (np.array([1, 0]), np.ones(2, np.float32))}, ValueError,
         "delta['b']: expected ascending numbers"),
        ({"b": (np.array([0.5]), np.ones(1, np.float32))}, TypeError,
         "delta['b']: expected int32 or int64"),
        ({"b": 3}, TypeError, "delta['b']: expected (indices, values), got int"),
        ({"b": (np.array([0]), [1.0])}, TypeError, "delta['b']: expected a NumPy array"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(change: Any, error: Any, message: str) -> None:
    model = arrays(0)
    before = {name: x.copy() for name, x in model.items()}
    with pytest.raises(error) as raised:
        sf.apply_delta_(model, {"a": delta_of(model)["a"], **change})
    assert str(raised.value).startswith(message)
    for name, x in before.items():
        assert_same_bytes(model[name], x)


def test_flat_and_back() -> None:
    delta = delta_of(arrays(0))
    flat = sf.flatten_delta(delta)
    assert [*flat] == ["a.indices", "a.values", "b.indices", "b.values"]
    back = sf.unflatten_delta(dict(reversed([*flat.items()])))
    assert {*back} == {"a", "b"}
    assert all(back[name][0] is delta[name][0] for name in delta)
    with pytest.raises(ValueError, match=r"^arrays: a\.indices missing"):
        sf.unflatten_delta({"a.values": np.ones(1)})
    with pytest.raises(ValueError, match=r"^arrays: expected names that end in"):
        sf.unflatten_delta({"a": np.ones(1)})


def fine_tuned() -> Any:
    """A base model, one that SupportSGD has fine-tuned from it, and the delta."""
    torch = pytest.importorskip("torch")
    from subgrad_fast.optim import SupportSGD

    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 4))
    model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 4))
    model.load_state_dict(base.state_dict())
    optimizer = SupportSGD(model.parameters(), lr=0.1, density=0.1, calibrate=1, momentum=0.9)
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(8, 20)).square().sum().backward()
        optimizer.step()
    return base, model, optimizer.delta(model)


@pytest.mark.torch
def test_a_delta_makes_the_base_the_fine_tuned_model() -> None:
    torch = pytest.importorskip("torch")
    base, model, delta = fine_tuned()
    before = {name: p.detach().clone() for name, p in base.named_parameters()}
    found = sf.apply_delta_(base, delta)
    for p, q in zip(base.parameters(), model.parameters(), strict=True):
        assert torch.equal(p, q)
    sf.revert_delta_(base, found)
    for name, p in base.named_parameters():
        assert torch.equal(p, before[name])


@pytest.mark.torch
def test_saved_with_safetensors(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    base, model, delta = fine_tuned()
    file = tmp_path / "delta.safetensors"
    safetensors.save_file(sf.flatten_delta(delta), file)
    sf.apply_delta_(base, sf.unflatten_delta(safetensors.load_file(file)))
    for p, q in zip(base.parameters(), model.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.torch
def test_modules_are_named() -> None:
    _, model, delta = fine_tuned()
    with pytest.raises(TypeError, match=r"^model: expected a module or a dict of arrays, got int"):
        sf.apply_delta_(3, delta)
    with pytest.raises(TypeError, match=r"^delta: expected a dict, got list"):
        sf.apply_delta_(model, [])
