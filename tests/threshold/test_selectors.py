"""What the thresholded step keeps: every selector against NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import heavy_tailed
from tests.oracles.select import keys
from tests.oracles.threshold import Keep, Stepped, at_least, largest, threshold_step

VALUES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.5, 2.0, -2.0, 1e-45, np.inf, -np.inf, np.nan])


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Gradients and residuals with many ties."""
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    lists: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for _ in range(draw(st.integers(1, 4))):
        n = draw(st.integers(0, 40))
        for arrays in lists:
            drawn = draw(st.lists(VALUES, min_size=n, max_size=n))
            arrays.append(np.array(drawn, dtype))
    return lists


@settings(max_examples=150, deadline=None)
@given(case=cases(), data=st.data(), scope=st.sampled_from(["tensor", "global"]),
       feedback=st.booleans(), kind=st.sampled_from(["threshold", "density", "k"]))  # fmt: skip
def test_selectors_keep_what_numpy_keeps(
    case: tuple[list[np.ndarray], list[np.ndarray]],
    data: st.DataObject,
    scope: str,
    feedback: bool,
    kind: str,
) -> None:
    grads, residuals = case
    sizes = [g.size for g in grads]
    total = sum(sizes) if scope == "global" else min(sizes)
    choice: dict[str, Any] = {
        "threshold": st.sampled_from([0.0, 1.0, 1.5, 3.0, np.inf]),
        "density": st.floats(0.0, 1.0),
        "k": st.integers(0, total),
    }
    choice = {kind: data.draw(choice[kind])}

    def keep_of(n: int) -> Keep:
        if kind == "threshold":
            return at_least(choice[kind])
        if kind == "k":
            return largest(choice[kind])
        return largest(max(1, math.floor(choice[kind] * n + 0.5)) if choice[kind] and n else 0)

    def reference(g: np.ndarray, v: np.ndarray) -> Stepped:
        w = np.zeros_like(g)
        return threshold_step(w, g, None, v if feedback else None, keep_of(g.size), lr=0.5)

    if scope == "global":
        whole = reference(np.concatenate(grads), np.concatenate(residuals))
        edges = np.cumsum(sizes)[:-1]
        want_w, want_kept = np.split(whole.w, edges), np.split(whole.kept, edges)
        want_v = None if whole.v is None else np.split(whole.v, edges)
    else:
        each = [reference(g, v) for g, v in zip(grads, residuals, strict=True)]
        want_w, want_kept = [s.w for s in each], [s.kept for s in each]
        want_v = [s.v for s in each if s.v is not None]
    w = [np.zeros_like(g) for g in grads]
    result = sf.threshold_step(
        w, grads, residuals if feedback else None, lr=0.5, scope=scope, error_feedback=feedback,
        emit="int32", **choice,
    )  # fmt: skip
    assert result.selections is not None
    for i in range(len(w)):
        assert_same_bits(w[i], want_w[i], "param")
        if feedback:
            assert_same_bits(residuals[i], want_v[i], "residual")
        assert result.selections[i].indices.dtype == np.int32
        np.testing.assert_array_equal(result.selections[i].indices, np.flatnonzero(want_kept[i]))
    assert result.kept == [int(k.sum()) for k in want_kept]
    assert result.sizes == sizes


def test_a_sample_of_everything_is_exact(isa: str) -> None:
    g = heavy_tailed(60_000).astype(np.float32)
    for k in (1, 600, 60_000):
        w, v = np.zeros_like(g), np.zeros_like(g)
        result = sf.threshold_step(w, g, v, lr=1.0, density=k / g.size, selector="sampled")
        assert result.kept == [k]
        assert result.thresholds == [np.sort(np.abs(g))[-k]]


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_sampled_density(scope: str) -> None:
    grads = [heavy_tailed(n, n).astype(np.float32) for n in (700_001, 3, 2_500_000)]
    w, v = ([np.zeros_like(g) for g in grads] for _ in range(2))
    result = sf.threshold_step(w, grads, v, lr=1.0, selector=sf.Sampled(0.01), scope=scope)
    # 65,536 elements and more are looked at, of which 655 are wanted: 4 percent is a deviation.
    assert abs(result.density / 0.01 - 1) < 0.2
    for i, g in enumerate(grads):
        assert result.kept[i] == (np.abs(g) >= np.float32(result.thresholds[i])).sum()
    assert (len(set(result.thresholds)) == 1) == (scope == "global")


def test_a_sample_sees_residual_momentum_and_decay() -> None:
    """Each alone would be all zeros or would keep the wrong ones."""
    n = 10_000
    rng = np.random.default_rng(2)
    w, g, m, v = (rng.standard_t(2, n).astype(np.float32) for _ in range(4))
    rule = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.5, "nesterov": True}
    want = threshold_step(w, g, m, v, largest(100), **rule)
    result = sf.threshold_step(w, g, v, m, density=0.01, selector="sampled", **rule)
    assert result.thresholds == [np.abs(want.held[want.kept]).min()]
    assert_same_bits(w, want.w)


def test_sampled_never_keeps_zeros() -> None:
    g = np.zeros(1000, np.float32)
    g[::100] = 1
    w, v = np.zeros_like(g), np.zeros_like(g)
    assert sf.threshold_step(w, g, v, lr=1.0, density=0.5, selector="sampled").kept == [10]
    assert sf.threshold_step(w, 0 * g, v, lr=1.0, density=0.5, selector="sampled").kept == [0]
    # The control: exactly half means zeros too.
    assert sf.threshold_step(w, g, v, lr=1.0, density=0.5).kept == [500]


def test_reused_threshold_is_corrected_and_estimated_anew() -> None:
    selector = sf.Reused(0.01)
    n = 50_000
    w, v = np.zeros(n, np.float32), np.zeros(n, np.float32)
    estimates = 0
    for i in range(30):
        g = heavy_tailed(n, i).astype(np.float32) * (1000 if i == 20 else 1)
        last = list(selector.thresholds)
        result = sf.threshold_step(w, g, v, lr=1.0, selector=selector)
        if last and result.thresholds == [np.float32(last[0])]:
            assert 500 / 1.5 <= result.kept[0] <= 500 * 1.5
        else:  # of so few elements all are looked at
            estimates += 1
            assert result.kept == [500]
        corrected = result.thresholds[0] * (result.kept[0] / 500) ** 0.125
        assert selector.thresholds == [pytest.approx(corrected, rel=1e-6)]
    assert 2 <= estimates <= 15
    # Thresholds of another number of tensors say nothing.
    halves = [np.split(x, 2) for x in (w, g, v)]
    assert sf.threshold_step(*halves, lr=1.0, selector=selector).kept == [250, 250]


@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-30])
def test_reused_density_settles(scale: float) -> None:
    selector = sf.Reused(0.02)
    n = 50_000
    w, v = np.zeros(n, np.float32), np.zeros(n, np.float32)
    rng = np.random.default_rng(1)
    kept = [
        sf.threshold_step(
            w, (scale * rng.standard_normal(n)).astype(np.float32), v, lr=1e-3, selector=selector
        ).density
        for _ in range(60)
    ]
    assert abs(np.mean(kept[20:]) / 0.02 - 1) < 0.25


def test_keys_order_as_magnitudes() -> None:
    x = np.array([np.nan, -np.nan, np.inf, 3e38, 1.0, 1e-45, -0.0], np.float32)
    assert (np.diff(keys(x).astype(np.int64)) <= 0).all()
    assert keys(x)[0] == keys(x)[1] == keys(x)[2] + 1
    assert largest(2)(np.float32([1, -2, 2, 1])).tolist() == [False, True, True, False]
    assert largest(2)(np.float32([1, 1, 2, 1])).tolist() == [True, False, True, False]
