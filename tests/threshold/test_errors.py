"""What threshold_step refuses, before anything is written."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf


def arrays(**changed: Any) -> dict[str, Any]:
    """Arguments of a good call on two arrays, with some of them replaced."""
    good: dict[str, Any] = {
        "params": [np.ones((2, 3), np.float32), np.ones(4, np.float64)],
        "grads": [np.ones((2, 3), np.float32), np.ones(4, np.float64)],
        "residuals": [np.ones((2, 3), np.float32), np.ones(4, np.float64)],
        "momentum_buffers": [np.ones((2, 3), np.float32), np.ones(4, np.float64)],
        "lr": 0.1,
        "momentum": 0.9,
        "density": 0.5,
    }
    for name, value in changed.items():
        if isinstance(value, dict):
            for i, array in value.items():
                good[name][i] = array
        else:
            good[name] = value
    return good


READ_ONLY = np.ones(4, np.float64)
READ_ONLY.flags.writeable = False
ROW = np.ones(3, np.float32)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"params": {1: [1.0]}}, TypeError, r"params\[1\]: expected a NumPy array or torch tensor"),
        ({"params": {1: np.ones(4, int)}}, TypeError, r"params\[1\]: expected float32, float64"),
        ({"params": {1: READ_ONLY}}, ValueError, r"params\[1\]: is read-only"),
        ({"params": {0: np.broadcast_to(ROW, (2, 3)).view()}}, ValueError, r"params\[0\]: "),
        ({"grads": [np.ones((2, 3), np.float32)]}, ValueError, "grads: expected 2 arrays like"),
        ({"grads": {0: np.ones((3, 2), np.float32)}}, ValueError, r"grads\[0\]: expected shape"),
        ({"grads": {0: np.ones((2, 3), int)}}, TypeError, r"grads\[0\]: expected float32"),
        ({"residuals": [READ_ONLY]}, ValueError, "residuals: expected 2 arrays like params, got 1"),
        ({"residuals": {1: READ_ONLY}}, ValueError, r"residuals\[1\]: is read-only"),
        ({"residuals": {1: np.ones(5)}}, ValueError, r"residuals\[1\]: expected shape \(4,\) like"),
        ({"residuals": {1: np.ones(4, np.float32)}}, TypeError,
         r"residuals\[1\]: expected float64, as params\[1\] is float64, got float32"),
        ({"residuals": None}, ValueError, "residuals: needed, unless error_feedback is False"),
        ({"momentum_buffers": None}, ValueError, "momentum_buffers: needed, since momentum is not"),
        ({"momentum_buffers": {1: None}}, ValueError, r"params\[1\]: has no entry in momentum_buf"),
        ({"momentum_buffers": {0: np.ones((2, 3), np.float16)}}, TypeError,
         r"momentum_buffers\[0\]: expected float32, as params\[0\] is float32, got float16"),
        ({"scope": "global"}, TypeError, r"scope: params\[0\] is computed in float32 and params"),
        ({"scope": "all"}, ValueError, "scope: expected 'tensor' or 'global', got 'all'"),
        ({"density": None}, ValueError, "expected exactly one of them, got none"),
        ({"k": 3}, ValueError, "expected exactly one of them, got density and k"),
        ({"density": None, "k": -1}, ValueError, "k: expected an integer from 0 to"),
        ({"density": -0.1}, ValueError, "density: expected a number from 0 to 1, got -0.1"),
        ({"density": None, "threshold": math.nan}, ValueError, "threshold: expected a number >= 0"),
        ({"selector": sf.Sampled(0.1)}, ValueError, "density: has no meaning beside a selector"),
        ({"selector": "exact", "density": None, "threshold": 1.0}, ValueError,
         "threshold: selector 'exact' takes density or k"),
        ({"selector": 3}, TypeError, "selector: expected a selector or its name, got int"),
        ({"emit": "int8"}, ValueError, "emit: expected None, 'int32' or 'int64', got 'int8'"),
        ({"lr": -1.0}, ValueError, "lr: expected a number >= 0, got -1.0"),
        ({"nesterov": True, "momentum": 0.0}, ValueError, "nesterov: needs momentum > 0"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_arguments_change_nothing(
    changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    call = arrays(**changed)
    lists = [call[name] for name in ("params", "grads", "residuals", "momentum_buffers")]
    held = [a for arrays in lists for a in arrays or [] if isinstance(a, np.ndarray)]
    before = [a.copy() for a in held]
    with pytest.raises(error, match=message):
        sf.threshold_step(**call)
    for a, old in zip(held, before, strict=True):
        np.testing.assert_array_equal(a, old)


def test_the_good_call_is_good() -> None:
    call = arrays()
    assert sf.threshold_step(**call).kept == [3, 2]
    assert (call["params"][0] != 1).sum() == 3


def test_arrays_that_share_memory() -> None:
    memory = np.zeros(30, np.float32)
    w, g, v, m = memory[:10], memory[10:20], memory[20:30], np.zeros(10, np.float32)
    sf.threshold_step(w, g, v, m, lr=0.1, momentum=0.9, threshold=0.0)
    step = {"lr": 0.1, "momentum": 0.9, "threshold": 0.0}
    for arguments, message in (
        ((w, g, memory[5:15], m), r"residuals: shares memory with params"),
        ((w, g, v, v), "residuals: shares memory with momentum|momentum_.* with residuals"),
        ((w, v, v, m), "grads: shares memory with residuals"),
        ((w, memory[1:11], v, m), "grads: shares memory with params"),
    ):
        with pytest.raises(ValueError, match=message):
            sf.threshold_step(*arguments, **step)


def test_int32_indices_of_a_huge_array() -> None:
    n = 2**31
    g = np.broadcast_to(np.float32(0), n)
    w = np.zeros(n, np.float16)  # pages that are never touched
    with pytest.raises(ValueError, match="emit: params has 2147483648 elements, more than 'int32'"):
        sf.threshold_step(w, g, lr=0.1, threshold=1.0, error_feedback=False, emit="int32")


def test_selectors_check_their_numbers() -> None:
    for bad in (
        lambda: sf.Absolute(-1.0),
        sf.Exact,
        lambda: sf.Exact(0.1, 2),
        lambda: sf.Exact(k=-1),
        lambda: sf.Sampled(1.1),
        lambda: sf.Reused(math.nan),
    ):
        with pytest.raises(ValueError, match="expected"):
            bad()
    assert sf.Reused(0.1) == sf.Reused(0.1)


def test_a_list_that_is_longer_than_it_says() -> None:
    class Short(list):
        def __len__(self) -> int:
            return 1

    w = [np.zeros(3, np.float32) for _ in range(5)]
    grads, residuals = ([np.ones(3, np.float32) for _ in range(5)] for _ in range(2))
    with pytest.raises(ValueError, match=r"^params: has 5 arrays, and says that it has 1$"):
        sf.threshold_step(Short(w), grads, residuals, lr=0.1, threshold=0.5)
    assert not any(x.any() for x in w)
