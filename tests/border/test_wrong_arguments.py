"""Every public function, class and method names the argument that is wrong, in its own words."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast import _core
from tests.border.public_calls import Call, calls, kind_of
from tests.border.wrong_arguments import attempt, has_bindings_words, in_bindings_words, unnamed

CALLS = calls()
# What is returned, and not made by users.
RESULTS = {"Selection", "ThresholdResult"}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """NumPy warns of some of what is tried."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    sf.set_num_threads(None)


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_right_arguments_are_taken(call: Call) -> None:
    assert attempt(call, **call.arguments()) is None


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_a_wrong_type_is_a_type_error_that_begins_with_the_name(call: Call) -> None:
    assert unnamed(call) == []


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_no_words_of_the_bindings_reach_a_user(call: Call) -> None:
    assert in_bindings_words(call) == []


def test_all_that_is_public_is_tried() -> None:
    tried = {call.name for call in CALLS}
    for name in set(sf.__all__) - RESULTS - {"__version__"}:
        assert name in tried, name
        made = getattr(sf, name)
        if not inspect.isclass(made):
            continue
        for method, value in vars(made).items():
            public = inspect.isfunction(value) and not method.startswith("_")
            if public and len(inspect.signature(value).parameters) > 1 and method != "attach":
                assert f"{name}.{method}" in tried, f"{name}.{method}"


def test_wrong_types_would_be_found() -> None:
    def silent(lr: Any, k: Any = None) -> None:
        """Takes what it gets."""

    def nameless(lr: Any) -> None:
        raise TypeError("'<' not supported between instances of 'str' and 'float'")

    for bad in (silent, nameless):
        assert unnamed(Call("bad", lambda bad=bad: bad, lambda: {"lr": 0.1}))


def test_words_of_the_bindings_would_be_found() -> None:
    def leaking(n: Any) -> None:
        _core.set_num_threads(n, adaptive=True)

    assert in_bindings_words(Call("leaking", lambda: leaking, lambda: {"n": 0}))
    error = attempt(Call("leaking", lambda: leaking, dict), n="x")
    assert error is not None
    assert has_bindings_words(error)


def test_kinds_are_known() -> None:
    assert kind_of("lr") == "number"
    assert kind_of("params") == "other"


@pytest.mark.parametrize("value", [1, np.float32(0.5), np.float64(0.5), np.int64(1), True])
def test_numbers_of_any_library(value: Any) -> None:
    w, same = np.ones(3, np.float32), np.ones(3, np.float32)
    sf.sgd_step(w, np.ones(3, np.float32), lr=value)
    sf.sgd_step(same, np.ones(3, np.float32), lr=float(value))
    assert (w == same).all()


@pytest.mark.parametrize("value", [1, np.True_, np.int8(1), True])
def test_flags_of_any_library(value: Any) -> None:
    w = np.ones(3, np.float32)
    sf.sgd_step(w, np.ones(3, np.float32), lr=0.5, maximize=value)
    assert (w == 1.5).all()
    fused = sf.FusedSGD(w, lr=0.5, maximize=value)
    fused(np.ones(3, np.float32))
    assert (w == 2.0).all()


def test_numbers_beyond_float64_are_infinite() -> None:
    assert _core.read_number("x", 10**400) == float("inf")
    assert _core.read_number("x", -(10**400)) == -float("inf")


@pytest.mark.parametrize("name", ["lr", "momentum", "maximize", "max_norm_scope", "measure_norm"])
def test_what_is_set_later_is_looked_at_too(name: str) -> None:
    fused = sf.FusedSGD(w := np.ones(3, np.float32), lr=0.1)
    setattr(fused, name, ["wrong"])
    with pytest.raises(TypeError, match=rf"^{name}: "):
        fused(np.ones(3, np.float32))
    assert (w == 1).all()


def states() -> dict[str, Any]:
    """What takes a state, and names that belong into it."""
    x = np.ones((9, 2), np.float32)
    return {
        "FusedSGD": (sf.FusedSGD(x, lr=0.1), "momentum_buffers, first_step"),
        "Mask": (sf.Mask(x), "masks"),
        "BatchSampler": (sf.BatchSampler(9, 2), "epoch, n, order, position, seed, version"),
        "BatchLoader": (sf.BatchLoader(x, sf.BatchSampler(9, 2)), "batches, sampler, version"),
    }


@pytest.mark.parametrize("name", states())
def test_an_empty_state_says_what_is_missing(name: str) -> None:
    made, missing = states()[name]
    with pytest.raises(ValueError, match=rf"^state: {missing} missing"):
        made.load_state_dict({})
    with pytest.raises(TypeError, match=r"^state: expected a dict, got NoneType"):
        made.load_state_dict(None)
