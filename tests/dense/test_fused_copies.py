"""A FusedSGD copied, pickled, shown, and given an attribute that it does not have."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from tests.bits import assert_same_bits

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"lr": 0.1},
    "momentum": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "average": {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "ema_decay": 0.9, "max_norm": 0.5},
    "wide momentum": {"lr": 0.1, "momentum": 0.9, "momentum_dtype": "float32"},
}
WHOLE: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": lambda x, protocol=protocol: pickle.loads(
            pickle.dumps(x, protocol=protocol)
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


def arrays(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    dtypes = (np.float32, np.float64, np.float16)
    return [rng.standard_normal((5, 3)).astype(dtype) for dtype in dtypes]


def all_of(step: sf.FusedSGD) -> list[np.ndarray]:
    return [*step.params, *step.momentum_buffers, *step.ema]


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("way", WHOLE)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_copy_goes_on_with_the_same_bits(name: str, way: str, steps: int) -> None:
    step = sf.FusedSGD(arrays(), **SETTINGS[name])
    for i in range(steps):
        step(arrays(i + 1))
    other = WHOLE[way](step)
    assert other is not step
    assert repr(other) == repr(step)
    assert other.grad_norm == step.grad_norm
    for i in range(2):
        before = [a.copy() for a in all_of(other)]
        step(arrays(i + 9))
        for a, b in zip(all_of(other), before, strict=True):
            assert_same_bits(a, b)  # nothing is shared
        other(arrays(i + 9))
        for a, b in zip(all_of(step), all_of(other), strict=True):
            assert_same_bits(a, b)
    assert other.grad_norm == step.grad_norm


def test_a_shallow_copy_shares_the_arrays_and_nothing_else() -> None:
    step = sf.FusedSGD(arrays(), lr=0.1, momentum=0.9, ema_decay=0.5)
    step(arrays(1))
    other = copy.copy(step)
    for a, b in zip(all_of(step), all_of(other), strict=True):
        assert a is b
    other.lr = 0.5
    assert step.lr == 0.1
    want = copy.deepcopy(step)
    other.lr = 0.1
    other(arrays(2))
    want(arrays(2))
    for a, b in zip(all_of(step), all_of(want), strict=True):
        assert_same_bits(a, b)


def test_what_holds_both_the_weights_and_the_step_goes_on_with_both() -> None:
    w = np.ones(4, np.float32)
    trainer = {"w": w, "step": sf.FusedSGD(w, lr=0.5)}
    for make in WHOLE.values():
        made = make(trainer)
        made["step"](np.ones(4, np.float32))
        assert (made["w"] == 0.5).all()
        assert made["step"].params[0] is made["w"]
    assert (w == 1).all()


def test_messages_of_a_copy_are_those_of_the_first() -> None:
    for params, name in (
        (np.ones(3, np.float32), "grads"),
        ([np.ones(3, np.float32)], r"grads\[0\]"),
    ):
        other = copy.deepcopy(sf.FusedSGD(params, lr=0.1))
        with pytest.raises(ValueError, match=rf"^{name}: expected shape"):
            other(np.ones(4, np.float32) if name == "grads" else [np.ones(4, np.float32)])


class Mine(sf.FusedSGD):
    """With an attribute of its own."""

    note = "class"


def test_subclasses_have_attributes_of_their_own() -> None:
    step = Mine(np.ones(3, np.float32), lr=0.1, momentum=0.9)
    step.note = "mine"
    other = copy.deepcopy(step)
    assert type(other) is Mine
    assert other.note == "mine"
    other(np.ones(3, np.float32))


@pytest.mark.parametrize("name", ["learning_rate", "weightdecay", "Lr", "momentum_", "params_"])
def test_an_attribute_that_it_does_not_have_is_an_error(name: str) -> None:
    step = sf.FusedSGD(np.ones(3, np.float32), lr=0.1)
    with pytest.raises(AttributeError, match=name):
        setattr(step, name, 0)
    for read_only in ("params", "momentum_buffers", "ema", "grad_norm"):
        with pytest.raises(AttributeError):
            setattr(step, read_only, 0)


class Loud(np.ndarray):
    """Fails where its elements are looked at."""

    def __repr__(self) -> str:
        raise AssertionError("an array was looked at")


def test_repr_says_the_settings_and_looks_at_no_array() -> None:
    w = np.ones(3, np.float32).view(Loud)
    assert repr(sf.FusedSGD(w, lr=0.1)) == "<FusedSGD of 1 array, lr=0.1>"
    step = sf.FusedSGD([w, w.copy()], lr=0.1, momentum=0.9, nesterov=True, max_norm=1.0)
    assert repr(step) == "<FusedSGD of 2 arrays, lr=0.1, momentum=0.9, nesterov=True, max_norm=1.0>"
    step.max_norm, step.skip_nonfinite = None, True
    assert repr(step).endswith("nesterov=True, skip_nonfinite=True>")


def test_an_average_by_a_schedule_is_copied_too() -> None:
    step = sf.FusedSGD(arrays(), lr=0.1, ema_decay=_schedule)
    step(arrays(1))
    other = pickle.loads(pickle.dumps(step))
    for made in (step, other):
        made(arrays(2))
    for a, b in zip(all_of(step), all_of(other), strict=True):
        assert_same_bits(a, b)


def _schedule(steps: int) -> float:
    return min(0.9, (1 + steps) / (3 + steps))
