"""Gradients that the thresholded step unscales, clips, or stops at: bit for bit, given the norm."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import (
    DTYPES,
    LAYOUTS,
    THRESHOLD_RULES,
    THRESHOLD_TYPES,
    every_isa,
    special_values,
    threshold_arrays,
)
from tests.oracles.clip import clip, coefficient, exact_norm, norm
from tests.oracles.threshold import Keep, at_least, largest, threshold_step

WAYS: list[tuple[dict[str, Any], Keep]] = [
    ({"threshold": 0.2}, at_least(0.2)),
    ({"k": 9}, largest(9)),
]
SELECTORS: list[dict[str, Any]] = [
    {"threshold": 0.5},
    {"density": 0.1},
    {"density": 0.1, "selector": "sampled"},
    {"density": 0.1, "selector": "reused"},
]
RULE: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}


def zeros(w: np.ndarray) -> np.ndarray:
    return np.zeros(w.shape, np.float64 if w.dtype == np.float64 else np.float32)


# --- the formula ---------------------------------------------------------------------------------


@pytest.mark.parametrize("types", THRESHOLD_TYPES, ids="-".join)
def test_every_rule_and_dtype(isa: str, types: tuple[str, str]) -> None:
    rng = np.random.default_rng(1)
    n = 21 if types[0] == "float64" else 41  # the float64 oracle is exact rationals: slow
    for rule in THRESHOLD_RULES[:: 5 if types[0] == "float64" else 2]:
        for (choice, keep), limit in zip(WAYS, (0.75, math.inf), strict=True):
            w, g, m, v = threshold_arrays(types, n, rng)
            want = threshold_step(w, g, m, v, keep, scale=1 / 3, limit=limit, **rule)
            got = sf.threshold_step(w, g, v, m, grad_scale=3.0, clip_value=limit, **choice, **rule)
            assert want.m is not None and want.v is not None
            assert_same_bits(w, want.w, f"{isa} {types} {rule} param")
            assert_same_bits(m, want.m, "momentum")
            assert_same_bits(v, want.v, "residual")
            assert got.kept == [int(want.kept.sum())]
            assert got.grad_norm is None, "nothing asked for it"


@pytest.mark.parametrize("types", THRESHOLD_TYPES, ids="-".join)
@pytest.mark.parametrize("n", [1, 31, 33, 1023, 2055])
def test_clipped_to_a_norm(isa: str, types: tuple[str, str], n: int) -> None:
    if types[0] == "float64":
        n = min(n, 129)
    rng = np.random.default_rng(n)
    g = rng.standard_normal(n).astype(DTYPES[types[1]])
    w = rng.standard_normal(n).astype(DTYPES[types[0]])
    before = g.copy()
    m, v = zeros(w), zeros(w)
    ways: list[tuple[dict[str, Any], Keep]] = [WAYS[0], ({"k": min(9, n)}, largest(min(9, n)))]
    for choice, keep in ways:
        m[:], v[:] = 0.25, 0.0
        old_w, old_m, old_v = w.copy(), m.copy(), v.copy()
        got = sf.threshold_step(w, g, v, m, max_norm=0.5, grad_scale=2.0, **choice, **RULE)
        assert got.grad_norm == pytest.approx(exact_norm([g]) / 2, rel=1e-12)
        wide = np.float64 if g.dtype == np.float64 else np.float32
        scale = 0.5 * coefficient(got.grad_norm, 0.5, wide)
        assert n == 1 or scale < 0.5
        want = threshold_step(old_w, g, old_m, old_v, keep, scale=scale, **RULE)
        assert want.m is not None and want.v is not None
        for found, expected in ((w, want.w), (m, want.m), (v, want.v)):
            assert_same_bits(found, expected, f"{isa} {types} {choice}")
    assert_same_bits(g, before, "the gradient stays as it is")


@pytest.mark.parametrize("choice", SELECTORS, ids=str)
def test_every_selector_sees_the_clipped_gradient(isa: str, choice: dict[str, Any]) -> None:
    rng = np.random.default_rng(2)
    g = rng.standard_normal(150_000).astype(np.float32)
    w = rng.standard_normal(150_000).astype(np.float32)
    theirs_w, (v, m, theirs_v, theirs_m) = w.copy(), [zeros(w) for _ in range(4)]
    for _ in range(3):
        got = sf.threshold_step(w, g, v, m, max_norm=200.0, clip_value=1.25, **choice, **RULE)
        assert got.grad_norm is not None
        clipped = clip(g, coefficient(got.grad_norm, 200.0, np.float32), 1.25)
        want = sf.threshold_step(theirs_w, clipped, theirs_v, theirs_m, **choice, **RULE)
        assert (got.kept, got.thresholds) == (want.kept, want.thresholds)
        for ours, theirs in ((w, theirs_w), (m, theirs_m), (v, theirs_v)):
            assert_same_bits(ours, theirs, str(choice))
    assert not np.array_equal(clipped, g), "the control: clipping has done something"


def test_a_bound_that_nothing_meets_changes_nothing(isa: str) -> None:
    rng = np.random.default_rng(3)
    for types in THRESHOLD_TYPES:
        results = []
        for bounds in ({}, {"max_norm": 1e30, "clip_value": 1e30, "skip_nonfinite": True}):
            rng = np.random.default_rng(4)
            w, g = (rng.standard_normal(77).astype(DTYPES[t]) for t in types)
            v, m = zeros(w), zeros(w)
            got = sf.threshold_step(w, g, v, m, density=0.3, **RULE, **bounds)
            results.append((w, v, m))
            assert (got.grad_norm is None) == (not bounds)
        for ours, theirs in zip(*results, strict=True):
            assert_same_bits(ours, theirs, str(types))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_layout(isa: str, layout: str) -> None:
    rng = np.random.default_rng(5)
    plain = [rng.standard_normal((4, 6, 5)).astype(np.float32) for _ in range(4)]
    how: dict[str, Any] = {"grad_scale": 2.0, "clip_value": 0.3, "skip_nonfinite": True, **RULE}
    results = []
    for lay in (np.array, LAYOUTS[layout]):
        w, g, m, v = (lay(x) for x in plain)
        got = sf.threshold_step(w, g, v, m, threshold=0.5, **how)
        # Elements may be met in another order, so that the norm's last bit may be another one.
        assert got.grad_norm == pytest.approx(exact_norm([plain[1]]) / 2, rel=1e-12)
        results.append([np.ascontiguousarray(x) for x in (w, g, m, v)])
    for found, want in zip(*results, strict=True):
        assert_same_bits(found, want, layout)


# --- which gradients share a norm ----------------------------------------------------------------


@pytest.mark.parametrize("scope", ["global", "group", "tensor"])
def test_scopes(isa: str, scope: Any) -> None:
    rng = np.random.default_rng(6)
    grads = [(rng.standard_normal(n) * s).astype(np.float32) for n, s in ((50, 1), (60, 9), (0, 1))]
    params = [np.ones_like(g) for g in grads]
    residuals = [zeros(g) for g in grads]
    got = sf.threshold_step(
        params, grads, residuals, lr=0.1, threshold=0.05, max_norm=8.0, max_norm_scope=scope
    )
    assert got.grad_norm == pytest.approx(exact_norm(grads), rel=1e-12)
    norms = [norm([g]) if scope == "tensor" else got.grad_norm for g in grads]
    assert norms[0] < 8.0 if scope == "tensor" else norms[0] > 8.0
    for w, g, v, n in zip(params, grads, residuals, norms, strict=True):
        scale = coefficient(n, 8.0, np.float32)
        want = threshold_step(
            np.ones_like(g), g, None, zeros(g), at_least(0.05), lr=0.1, scale=scale
        )
        assert want.v is not None
        assert_same_bits(w, want.w, scope)
        assert_same_bits(v, want.v, scope)


def test_a_float64_gradient_makes_a_float64_coefficient(isa: str) -> None:
    grads = [np.linspace(1, 2, 9), np.linspace(1, 2, 9).astype(np.float32)]
    params = [np.zeros_like(g) for g in grads]
    got = sf.threshold_step(
        params, grads, error_feedback=False, lr=1.0, threshold=0.0, max_norm=0.7, maximize=True
    )
    assert got.grad_norm is not None
    scale = coefficient(got.grad_norm, 0.7, np.float64)
    assert scale != coefficient(got.grad_norm, 0.7, np.float32)
    for w, g in zip(params, grads, strict=True):
        assert_same_bits(w, clip(g, scale))


# --- the same bits everywhere --------------------------------------------------------------------


def test_threads_and_instruction_sets(threads: Callable[[int], None]) -> None:
    def run() -> list[Any]:
        rng = np.random.default_rng(7)
        shapes = ((300, 1000), (70_001,), (3,), (0,))
        params = [rng.standard_normal(s).astype(np.float32) for s in shapes]
        grads = [rng.standard_normal(s).astype(np.float32) for s in shapes]
        params[0], grads[0] = params[0].T, np.asfortranarray(grads[0].T)
        state = [[zeros(w) for w in params] for _ in range(2)]
        got = sf.threshold_step(params, grads, *state, density=0.01, max_norm=1.0, **RULE)
        return [got.grad_norm, got.thresholds, *(x.tobytes() for x in (*params, *state[0]))]

    results = []
    for _ in every_isa():
        for number in (1, 2, 3):
            threads(number)
            results.append(run())
    assert all(result == results[0] for result in results)


# --- steps that are not taken --------------------------------------------------------------------


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("types", THRESHOLD_TYPES[::2], ids="-".join)
def test_a_gradient_that_is_not_finite_stops_the_step(
    isa: str, types: tuple[str, str], poison: float
) -> None:
    for where in (0, 40, 99):
        params = [np.ones(n, DTYPES[types[0]]) for n in (100, 7)]
        grads = [np.ones(n, DTYPES[types[1]]) for n in (100, 7)]
        grads[0][where] = poison
        residuals, momenta = ([zeros(w) for w in params] for _ in range(2))
        arrays = [*params, *residuals, *momenta]
        before = [a.copy() for a in arrays]
        call: dict[str, Any] = {"density": 0.5, "emit": "int32", "measure": True, **RULE}
        got = sf.threshold_step(params, grads, residuals, momenta, skip_nonfinite=True, **call)
        for a, old in zip(arrays, before, strict=True):
            assert_same_bits(a, old)
        assert got.grad_norm is not None and not math.isfinite(got.grad_norm)
        assert got.kept == [0, 0] and got.thresholds == [math.inf] * 2
        assert got.selections is not None and got.energies is not None
        assert [s.indices.size for s in got.selections] == [0, 0]
        assert np.isnan(got.energies).all() and got.residual_norm is not None
        # The control: a step that may not be stopped takes it up.
        got = sf.threshold_step(params, grads, residuals, momenta, max_norm=1.0, **call)
        assert got.grad_norm is not None and not math.isfinite(got.grad_norm)
        assert any((a != old).any() for a, old in zip(arrays, before, strict=True))


def test_a_reused_threshold_goes_on_after_a_step_that_was_stopped(isa: str) -> None:
    rng = np.random.default_rng(8)
    w = np.zeros(100_000, np.float32)
    selector = sf.Reused(0.05)
    call: dict[str, Any] = {"lr": 0.1, "selector": selector, "error_feedback": False}
    good = rng.standard_normal(100_000).astype(np.float32)
    bad = good.copy()
    bad[-1] = np.inf
    for _ in range(2):
        sf.threshold_step(w, good, **call)
    held = list(selector.thresholds)
    assert held != [None]
    sf.threshold_step(w, bad, skip_nonfinite=True, **call)
    assert selector.thresholds == held
    sf.threshold_step(w, 1.1 * good, skip_nonfinite=True, **call)
    assert selector.thresholds != held, "the control: a step that is taken goes on"


def test_finite_gradients_are_not_stopped_by_the_size_of_their_squares(isa: str) -> None:
    for big in (1e200, 1e-200):
        w, g = np.zeros(9), np.full(9, big)
        got = sf.threshold_step(
            w, g, error_feedback=False, lr=1.0, threshold=0.0, skip_nonfinite=True
        )
        assert got.grad_norm == pytest.approx(3 * big, rel=1e-15)
        assert_same_bits(w, -g)


# --- results and errors --------------------------------------------------------------------------


def test_the_result_keeps_its_norm_in_a_pickle() -> None:
    w, g = np.zeros(4, np.float32), np.full(4, 3.0, np.float32)
    got = sf.threshold_step(w, g, error_feedback=False, lr=1.0, threshold=0.0, max_norm=9.0)
    assert got.grad_norm == 6.0
    assert pickle.loads(pickle.dumps(got)).grad_norm == 6.0


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"max_norm": -1.0}, ValueError, "max_norm: expected a number >= 0, got -1"),
        ({"max_norm": "1"}, TypeError, "max_norm: expected a number"),
        ({"max_norm": math.nan}, ValueError, "max_norm: "),
        ({"clip_value": -0.5}, ValueError, "clip_value: expected a number >= 0, got -0.5"),
        ({"max_norm_scope": "all"}, ValueError, "max_norm_scope: expected 'global', 'group' or"),
        ({"max_norm_scope": 3}, TypeError, "max_norm_scope: expected 'global', 'group' or"),
        ({"grad_scale": 0.0}, ValueError, "grad_scale: expected a finite number other than 0"),
        ({"grad_scale": math.inf}, ValueError, "grad_scale: expected a finite number other than"),
        ({"grad_scale": "2"}, TypeError, "grad_scale: expected a number, got str"),
    ],
    ids=str,
)
def test_what_is_refused(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    w, g, v = np.ones(4, np.float32), np.ones(4, np.float32), np.zeros(4, np.float32)
    with pytest.raises(error, match=message):
        sf.threshold_step(w, g, v, lr=0.1, density=0.5, **changed)
    assert (w == 1).all() and (v == 0).all()
    sf.threshold_step(w, g, v, lr=0.1, density=0.5, max_norm=1.0)
    assert (w != 1).any(), "the control: the call is good without it"


def test_special_values_pass_a_limit(isa: str) -> None:
    g = special_values(DTYPES["float32"], 400, np.random.default_rng(9))
    w = np.zeros_like(g)
    sf.threshold_step(
        w, g, error_feedback=False, lr=1.0, threshold=0.0, clip_value=2.0, maximize=True
    )
    want = threshold_step(
        np.zeros_like(g), g, None, None, at_least(0.0), lr=1.0, maximize=True, limit=2.0
    )
    assert_same_bits(w, want.w)
    finite = w[~np.isnan(w)]
    assert np.abs(finite).max() == 2.0 and np.isnan(w).any()
