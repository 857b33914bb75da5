"""Row-sparse gradients that the step unscales, clips, or stops at: what counts is a row's sum."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from subgrad_fast.rows import row_step
from tests.bits import assert_same_bits
from tests.cases import COMBINATIONS, DTYPES, RULE, RULE_IDS, RULES, every_isa, special_values
from tests.oracles.clip import clip, coefficient, exact_norm
from tests.oracles.dense import sgd_rows

LONG = 70_000  # elements of a row that is shared among threads


def coalesced(rows: Any, values: np.ndarray, wide: Any) -> tuple[np.ndarray, np.ndarray]:
    """Every row once, with the sum of its gradients in their order, in the type `wide`."""
    rows = np.asarray(rows)
    names = np.array(list(dict.fromkeys(rows.tolist())), np.int64)
    sums = np.full((len(names), *values.shape[1:]), -0.0, wide)
    with np.errstate(all="ignore"):
        for i, row in enumerate(names):
            for value in values[rows == row]:
                sums[i] = sums[i] + value.astype(wide)
    return names, sums


def wide_of(w: np.ndarray) -> Any:
    return np.float64 if w.dtype == np.float64 else np.float32


# --- the formula ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=RULE_IDS)
def test_every_rule(isa: str, rule: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 9, 12)
    for limit in (0.75, math.inf):
        w, g, m = (special_values(DTYPES["float32"], n * 5, rng).reshape(n, 5) for n in (9, 12, 9))
        names, sums = coalesced(rows, g, np.float32)
        momentum = m if rule["momentum"] else None
        want_w, want_m = sgd_rows(w, names, clip(sums, 1 / 3, limit), momentum, **rule)
        assert row_step(w, (rows, g), momentum, grad_scale=3.0, clip_value=limit, **rule) is None
        assert_same_bits(w, want_w, "param")
        if momentum is not None and want_m is not None:
            assert_same_bits(m, want_m, "momentum")


@pytest.mark.parametrize("width", [1, 16, 33, 1025, 2060])
@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_every_dtype(isa: str, combination: tuple[str, str, str], width: int) -> None:
    if combination[0] == "float64":
        width = min(width, 40)  # the float64 oracle is exact rationals: slow
    rng = np.random.default_rng(width)
    rows = rng.integers(0, 8, 12)
    assert len(set(rows.tolist())) not in (1, len(rows)), "some rows twice, some once"
    for bounds in ({}, {"clip_value": 0.4}):
        w, g, m = (
            rng.standard_normal((n, width)).astype(DTYPES[t])
            for n, t in zip((8, 12, 8), combination, strict=True)
        )
        before = g.copy()
        names, sums = coalesced(rows, g, wide_of(w))
        old_w, old_m = w.copy(), m.copy()
        found = row_step(w, (rows, g), m, max_norm=1.5, grad_scale=-2.0, **bounds, **RULE)
        assert found == pytest.approx(exact_norm([sums]) / 2, rel=1e-12)
        scale = -0.5 * coefficient(found, 1.5, wide_of(g))
        assert width == 1 or scale > -0.5, "the control: the bound is met"
        limit = bounds.get("clip_value", math.inf)
        want_w, want_m = sgd_rows(old_w, names, clip(sums, scale, limit), old_m, **RULE)
        assert want_m is not None
        assert_same_bits(w, want_w, "param")
        assert_same_bits(m, want_m, "momentum")
        assert_same_bits(g, before, "values")


def test_the_norm_is_that_of_the_sums(isa: str) -> None:
    # In float32, 1e8 + 1 - 1e8 is 0, and what is left has the norm 3; uncoalesced it is 1.4e8.
    rows, values = [4, 2, 4, 4], np.float32([1e8, 3, 1, -1e8])[:, None]
    w = np.zeros((5, 1), np.float32)
    assert row_step(w, (rows, values), lr=1.0, max_norm=1e9) == 3.0
    # Of a 16-bit gradient too, whose sums are not rounded.
    narrow = np.float16([1, 2**-13])[:, None]
    found = row_step(np.zeros((5, 1), np.float16), ([1, 1], narrow), lr=1.0, max_norm=9.0)
    assert found == 1 + 2**-13


def test_long_rows(isa: str, threads: Callable[[int], None]) -> None:
    rng = np.random.default_rng(3)
    rows = [2, 0, 2]
    g = rng.standard_normal((3, LONG)).astype(np.float32)
    names, sums = coalesced(rows, g, np.float32)
    for limit in (math.inf, 0.004):
        results = []
        for number in (1, 2):
            threads(number)
            w, m = np.ones((3, LONG), np.float32), np.ones((3, LONG), np.float32)
            found = row_step(w, (rows, g), m, max_norm=1.0, clip_value=limit, **RULE)
            assert found == pytest.approx(exact_norm([sums]), rel=1e-12)
            results.append((found, w, m))
        staged = clip(sums, coefficient(results[0][0], 1.0, np.float32), limit)
        want_w, want_m = sgd_rows(np.ones_like(w), names, staged, np.ones_like(m), **RULE)
        assert want_m is not None
        for found, w, m in results:
            assert found == results[0][0]
            assert_same_bits(w, want_w)
            assert_same_bits(m, want_m)


def test_threads_and_instruction_sets(threads: Callable[[int], None]) -> None:
    def run() -> tuple[Any, ...]:
        rng = np.random.default_rng(4)
        params = [rng.standard_normal((5000, n)).astype(np.float32) for n in (33, 8)]
        momenta = [np.zeros_like(w) for w in params]
        grads = [
            (rng.integers(0, 3000, 40_000), rng.standard_normal((40_000, n)).astype(np.float32))
            for n in (33, 8)
        ]
        found = row_step(params, grads, momenta, max_norm=1.0, clip_value=1e-3, **RULE)
        return found, *(x.tobytes() for x in (*params, *momenta))

    results = []
    for _ in every_isa():
        for number in (1, 2, 3):
            threads(number)
            results.append(run())
    assert all(result == results[0] for result in results)


def test_an_absent_bound_changes_nothing(isa: str) -> None:
    rng = np.random.default_rng(5)
    rows, g = rng.integers(0, 8, 12), rng.standard_normal((12, 40)).astype(np.float32)
    results = []
    for bounds in ({}, {"max_norm": 1e30, "clip_value": 1e30, "skip_nonfinite": True}):
        w, m = np.ones((8, 40), np.float32), np.zeros((8, 40), np.float32)
        found = row_step(w, (rows, g), m, **RULE, **bounds)
        assert (found is None) == (not bounds)
        results.append((w, m))
    for ours, theirs in zip(*results, strict=True):
        assert_same_bits(ours, theirs)


# --- which gradients share a norm ----------------------------------------------------------------


@pytest.mark.parametrize("scope", ["global", "group", "tensor"])
def test_scopes(isa: str, scope: Any) -> None:
    rng = np.random.default_rng(6)
    grads = [
        (rng.integers(0, 6, n), (rng.standard_normal((n, 7)) * size).astype(np.float32))
        for n, size in ((9, 0.1), (5, 9.0), (0, 1.0))
    ]
    params = [np.ones((6, 7), np.float32) for _ in grads]
    found = row_step(params, grads, lr=0.1, max_norm=8.0, max_norm_scope=scope)
    sums = [coalesced(*g, np.float32) for g in grads]
    assert found == pytest.approx(exact_norm([s for _, s in sums]), rel=1e-12)
    for w, (names, s), grad in zip(params, sums, grads, strict=True):
        alone = row_step(np.ones((6, 7), np.float32), grad, lr=0.1, max_norm=math.inf,
                         skip_nonfinite=True)  # fmt: skip
        scale = coefficient(alone if scope == "tensor" else found, 8.0, np.float32)
        want, _ = sgd_rows(np.ones((6, 7), np.float32), names, clip(s, scale), lr=0.1)
        assert_same_bits(w, want, scope)
    assert (scope == "tensor") == (params[0] == row_alone(grads[0])).all(), "the control"


def row_alone(grad: Any) -> np.ndarray:
    w = np.ones((6, 7), np.float32)
    row_step(w, grad, lr=0.1)
    return w


# --- steps that are not taken --------------------------------------------------------------------


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("combination", COMBINATIONS[::3], ids="-".join)
def test_a_gradient_that_is_not_finite_stops_the_step(
    isa: str, combination: tuple[str, str, str], poison: float
) -> None:
    for position in range(4):
        w, g, m = (np.ones((n, 5), DTYPES[t]) for n, t in zip((9, 4, 9), combination, strict=True))
        g[position, 3] = poison
        rows = [7, 2, 7, 1]
        found = row_step(w, (rows, g), m, skip_nonfinite=True, first_step=True, **RULE)
        assert found is not None and not math.isfinite(found)
        assert (w == 1).all() and (m == 1).all(), "nor is a buffer made empty"
        # The control: a step that may not be stopped takes it up.
        row_step(w, (rows, g), m, **RULE)
        assert not np.isfinite(w.astype(np.float64)).all()


def test_sums_that_overflow_stop_the_step(isa: str) -> None:
    g = np.full((2, 3), 3e38, np.float32)
    w = np.ones((4, 3), np.float32)
    assert row_step(w, ([1, 1], g), lr=0.1, skip_nonfinite=True) == math.inf
    assert (w == 1).all()
    found = row_step(w, ([1, 2], g), lr=0.0, skip_nonfinite=True)
    assert found == pytest.approx(exact_norm([g]), rel=1e-12), "the control: they are finite"


@pytest.mark.parametrize("width", [5, LONG])
@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_squares_beyond_float64(isa: str, size: float, width: int) -> None:
    g = np.random.default_rng(7).standard_normal((3, width))
    w = [np.zeros((4, width)), np.zeros((4, 2), np.float32)]
    small = np.full((1, 2), 1e-3 if size < 1 else 1.0, np.float32)
    rows = [2, 1, 2]
    _, sums = coalesced(rows, g, np.float64)
    found = row_step(w[0], (rows, g * size), lr=0.0, skip_nonfinite=True)
    assert found == pytest.approx(exact_norm([sums]) * size, rel=1e-12)
    together = row_step(w, [(rows, g * size), ([0], small)], lr=0.0, skip_nonfinite=True)
    assert together == pytest.approx(max(found, exact_norm([small])), rel=1e-12)


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"max_norm": -1.0}, ValueError, "max_norm: expected a number >= 0, got -1"),
        ({"max_norm": "1"}, TypeError, "max_norm: expected a number"),
        ({"clip_value": math.nan}, ValueError, "clip_value: expected a number >= 0"),
        ({"max_norm_scope": "row"}, ValueError, "max_norm_scope: expected 'global', 'group' or"),
        ({"grad_scale": 0}, ValueError, "grad_scale: expected a finite number other than 0"),
    ],
    ids=str,
)
def test_what_is_refused(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    w, g = np.ones((4, 2), np.float32), ([1], np.ones((1, 2), np.float32))
    with pytest.raises(error, match=message):
        row_step(w, g, lr=0.1, **changed)
    assert (w == 1).all()
    row_step(w, g, lr=0.1, max_norm=1.0)
    assert (w != 1).any(), "the control: the call is good without it"
