"""The step on rows against the formula in NumPy, bit for bit: duplicates, dtypes, ISAs, threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import subgrad_fast as sf
from subgrad_fast.rows import any_row_sparse, row_step
from tests.bits import assert_same_bits
from tests.cases import COMBINATIONS, DTYPES, LAYOUTS, RULE, RULE_IDS, RULES, special_values
from tests.oracles.dense import sgd, sgd_rows


def arrays(
    combination: tuple[str, str, str], count: int, width: int, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A parameter, n gradient rows and a momentum buffer in which half of the rows hold nothing."""
    shapes = (count, width), (n, width), (count, width)
    w, g, m = (
        special_values(DTYPES[t], int(np.prod(s)), rng).reshape(s)
        for t, s in zip(combination, shapes, strict=True)
    )
    m[::2] = 0
    m[::4] = -0.0
    return w, g, m


def step_and_check(
    w: np.ndarray, rows: np.ndarray, g: np.ndarray, m: np.ndarray | None, **rule: Any
) -> None:
    want_w, want_m = sgd_rows(w, rows, g, m, **rule)
    row_step(w, (rows, g), m, **rule)
    assert_same_bits(w, want_w, "param")
    if m is not None and want_m is not None:
        assert_same_bits(m, want_m, "momentum")


# --- against the formula ------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=RULE_IDS)
def test_every_rule(isa: str, rule: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    w, g, m = arrays(("float32",) * 3, 9, 5, 12, rng)
    rows = rng.integers(0, 9, 12)
    step_and_check(w, rows, g, m if rule["momentum"] else None, **rule)


@pytest.mark.parametrize("width", [1, 7, 16, 33, 130])
@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_every_dtype(isa: str, combination: tuple[str, str, str], width: int) -> None:
    rng = np.random.default_rng(width)
    w, g, m = arrays(combination, 8, width, 12, rng)
    rows = rng.integers(0, 8, 12)
    assert len(set(rows.tolist())) not in (1, len(rows)), "some rows twice, some once"
    step_and_check(w, rows, g, m, nesterov=True, **RULE)


@given(
    count=st.integers(1, 40),
    shape=st.lists(st.integers(0, 5), max_size=3),
    picks=st.lists(st.integers(0, 10**6), max_size=60),
    combination=st.sampled_from(COMBINATIONS),
    seed=st.integers(0, 99),
    dampening=st.sampled_from([0.0, 0.3]),
    index=st.sampled_from([np.int32, np.int64]),
    threads=st.integers(1, 3),
    first_step=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_any_rows(
    count: int,
    shape: list[int],
    picks: list[int],
    combination: tuple[str, str, str],
    seed: int,
    dampening: float,
    index: type,
    threads: int,
    first_step: bool,
) -> None:
    rng = np.random.default_rng(seed)
    rows = np.array([p % count for p in picks], index)
    w, g, m = (
        special_values(DTYPES[t], int(np.prod([n, *shape])), rng).reshape([n, *shape])
        for t, n in zip(combination, (count, len(rows), count), strict=True)
    )
    sf.set_num_threads(threads, adaptive=False)
    try:
        step_and_check(w, rows, g, m, dampening=dampening, first_step=first_step, **RULE)
    finally:
        sf.set_num_threads(0)


def test_duplicates_are_added_in_the_order_in_which_they_come(isa: str) -> None:
    # In float32, 1e8 + 1 - 1e8 is 0 and 1e8 - 1e8 + 1 is 1.
    for values, want in (([1e8, 1, -1e8], 0), ([1e8, -1e8, 1], 1)):
        w = np.zeros((3, 1), np.float32)
        row_step(w, ([1, 1, 1], np.float32(values)[:, None]), lr=1.0, maximize=True)
        assert w.ravel().tolist() == [0, want, 0]
    # In float16 and bfloat16 they are added in float32 and rounded once.
    for dtype in (np.float16, ml_dtypes.bfloat16):
        w = np.zeros((1, 1), dtype)
        row_step(w, ([0] * 300, np.full((300, 1), 0.001, np.float32)), lr=1.0, maximize=True)
        total = np.float32(0)
        for _ in range(300):
            total += np.float32(0.001)
        assert w[0, 0] == dtype(total)


def test_rows_that_are_not_named_are_left_alone(isa: str) -> None:
    w, m = np.full((5, 3), np.nan, np.float32), np.full((5, 3), np.nan, np.float32)
    w[[1, 3]], m[[1, 3]] = 1, 1
    row_step(w, ([3, 1, 3], np.ones((3, 3), np.float32)), m, **RULE)
    assert np.isfinite(w[[1, 3]]).all() and np.isfinite(m[[1, 3]]).all()
    assert np.isnan(w[[0, 2, 4]]).all() and np.isnan(m[[0, 2, 4]]).all()


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_the_first_step_of_a_row_sets_its_momentum(isa: str, dtype: np.dtype) -> None:
    g = np.array([[-0.0, 2.0, 3.0]], dtype)
    rule = {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}
    for nothing in (0.0, -0.0):
        w, m = np.ones((2, 3), dtype), np.full((2, 3), nothing, dtype)
        row_step(w, ([1], g), m, **rule)
        assert_same_bits(m[1:], g)
        # The control: a row with one denormal in it holds something.
        m = np.full((2, 3), nothing, dtype)
        m[1, 2] = ml_dtypes.finfo(dtype).smallest_subnormal
        row_step(w, ([1], g), m, **rule)
        assert (m[1, 1:] == g[0, 1:] * dtype.type(0.5)).all()


def test_first_step_clears_the_buffers(isa: str) -> None:
    w, m = np.ones((4, 3), np.float32), np.full((8, 3), np.nan, np.float32)
    row_step(w, ([2], np.ones((1, 3), np.float32)), m[::2], first_step=True, **RULE)
    assert np.isfinite(m[::2]).all() and np.isnan(m[1::2]).all()
    assert not m[[0, 2, 6]].any() and m[4].all()


def test_all_rows_once_is_the_dense_step(isa: str) -> None:
    rng = np.random.default_rng(0)
    w, g, m = (rng.standard_normal((50, 33)).astype(np.float32) for _ in range(3))
    order = rng.permutation(50)
    want_w, want_m = w.copy(), m.copy()
    sf.sgd_step(want_w, g, want_m, **RULE)
    row_step(w, (order, g[order]), m, **RULE)
    assert_same_bits(w, want_w)
    assert_same_bits(m, want_m)


def test_an_order_of_addition_that_is_another_is_seen() -> None:
    rng = np.random.default_rng(0)
    w, g = np.zeros((1, 100), np.float32), rng.standard_normal((9, 100)).astype(np.float32)
    want, _ = sgd(w, g.sum(0, dtype=np.float64).astype(np.float32)[None], lr=1.0)
    row_step(w, ([0] * 9, g), lr=1.0)
    with pytest.raises(AssertionError, match="differ"):
        assert_same_bits(w, want)


# --- threads and sizes --------------------------------------------------------------------------


def zipf(count: int, n: int, rng: np.random.Generator) -> np.ndarray:
    return np.minimum(rng.zipf(1.2, n) - 1, count - 1)


@pytest.mark.parametrize(
    ("count", "width", "n"),
    [
        (200_000, 16, 60_000),  # many buckets
        (200_000, 1, 60_000),
        (3, 64, 20_000),  # a few rows named all the time
        (4, 1, 0),
        (6, 70_001, 9),  # rows that threads share
        (5, 5_000, 40),  # rows of several blocks
    ],
)
def test_bits_do_not_depend_on_threads(
    threads: Callable[[int], None], count: int, width: int, n: int
) -> None:
    rng = np.random.default_rng(2)
    rows = zipf(count, n, rng)
    start = rng.standard_normal((count, width)).astype(np.float32)
    g = rng.standard_normal((n, width)).astype(np.float32)
    results = []
    for k in (1, 2, 3, 4):
        threads(k)
        w, m = start.copy(), np.zeros_like(start)
        for _ in range(2):
            row_step(w, (rows, g), m, **RULE)
        results.append((w, m))
    for w, m in results[1:]:
        assert_same_bits(w, results[0][0])
        assert_same_bits(m, results[0][1])
    # One of them against NumPy: sums in order, then the dense formula.
    total = np.zeros((count, width), np.float32)
    np.add.at(total, rows, g)  # in order; -0.0 does not occur
    named = np.unique(rows)
    w, m = start.copy(), np.zeros_like(start)
    for first in (True, False):
        w[named], m[named] = sgd(w[named], total[named], m[named], first_step=first, **RULE)
    assert_same_bits(results[0][0], w)
    assert_same_bits(results[0][1], m)


@pytest.mark.parametrize("stride", [1, 512, 610])  # Fibonacci numbers, powers of two
def test_rows_at_equal_distances_do_not_fall_together(stride: int) -> None:
    # Linear probing is quadratic where a hash sends everything to one place: 10^9 probes here.
    rows = np.arange(30_000) * stride
    w = np.zeros((30_000 * stride, 1), np.float32)  # pages that nobody touches take no memory
    row_step(w, (rows, np.ones((30_000, 1), np.float32)), lr=1.0)
    assert (w[rows] == -1).all() and w[rows[1:] - 1].sum() == (-29_999 if stride == 1 else 0)


def test_a_list_of_parameters(threads: Callable[[int], None]) -> None:
    threads(2)
    rng = np.random.default_rng(3)
    sizes = [(3, (4,), 2), (900, (64,), 3000), (2, (), 5), (7, (2, 3), 0), (4, (70_000,), 4)]
    w = [rng.standard_normal((n, *s)).astype(np.float32) for n, s, _ in sizes]
    m = [np.zeros_like(x) for x in w]
    rows = [rng.integers(0, n, k) for n, _, k in sizes]
    g = [rng.standard_normal((k, *s)).astype(np.float32) for _, s, k in sizes]
    want = [
        sgd_rows(x, r, v, b, **RULE)  # type: ignore[arg-type]
        for x, r, v, b in zip(w, rows, g, m, strict=True)
    ]
    row_step(w, list(zip(rows, g, strict=True)), m, **RULE)
    for x, b, (want_x, want_b) in zip(w, m, want, strict=True):
        assert_same_bits(x, want_x)
        assert_same_bits(b, want_b)


# --- what may come in ---------------------------------------------------------------------------


def test_layouts() -> None:
    rng = np.random.default_rng(4)
    rows = np.array([3, 0, 3])
    values = rng.standard_normal((3, 6)).astype(np.float32)
    want, _ = sgd_rows(np.ones((4, 6), np.float32), rows, values, lr=0.5)
    wide = np.ones((8, 10), np.float32)
    for w in (np.ones((4, 6), np.float32), wide[::2, 2:8], np.ones((4, 6), np.float32)[::-1]):
        row_step(w, (rows, values), lr=0.5)
        assert_same_bits(w, want)
    for g in (lay(values) for lay in LAYOUTS.values()):
        w = np.ones((4, 6), np.float32)
        row_step(w, (rows, g), lr=0.5)
        assert_same_bits(w, want)
    for r in (rows.tolist(), tuple(rows), rows.astype(np.int32), np.repeat(rows, 2)[::2]):
        w = np.ones((4, 6), np.float32)
        row_step(w, (r, values), lr=0.5)
        assert_same_bits(w, want)
    w = np.ones((4, 6), np.float32)
    row_step(w, (rows, np.broadcast_to(np.float32(2), (3, 6))), lr=0.5)
    assert w[:, 0].tolist() == [0, 1, 1, -1]


def test_nothing_named() -> None:
    w = np.ones((4, 6), np.float32)
    row_step(w, ([], np.ones((0, 6), np.float32)), lr=0.5)
    assert (w == 1).all()
    row_step(np.ones((0, 6), np.float32), ([], np.ones((0, 6), np.float32)), lr=0.5)
    row_step(np.ones((3, 0), np.float32), ([2, 2], np.ones((2, 0), np.float32)), lr=0.5)


def test_any_row_sparse() -> None:
    assert any_row_sparse([np.ones((1, 2)), ([1], np.ones((1, 2)))])
    assert not any_row_sparse([np.ones((1, 2)), ([1], [2], [3])])


W = np.ones((4, 3), np.float32)
ONE = np.ones((1, 3), np.float32)
BAD = [
    # params, grads, momentum_buffers, error, message
    (W, ([4], ONE), None, ValueError, r"^grads: row 4 at position 0 is outside the 4 rows"),
    ([W, W.copy()], [([0], ONE), ([1, -1], ONE.repeat(2, 0))], None, ValueError,
     r"^grads\[1\]: row -1 at position 1 is outside the 4 rows of params\[1\]"),
    (W, ([0, 1], ONE), None, ValueError,
     r"^grads: expected values of shape \(2, 3\) for 2 rows of params, got float32 of sh"),
    (W, ([0], np.ones(3, np.float32)), None, ValueError, r"^grads: expected values of shape"),
    (W, ([0], np.ones((1, 2), np.float32)), None, ValueError, r"^grads: expected values of shape"),
    (W, ([0], np.ones((1, 3), np.int64)), None, TypeError, r"^grads: expected float32.* got int64"),
    (W, (np.ones(1), ONE), None, TypeError, r"^grads: expected row numbers as int32 or int64"),
    (W, (np.ones((1, 1), int), ONE), None, TypeError, r"^grads: expected row numbers .* \(1, 1\)"),
    (W, (np.ones(1, np.uint64), ONE), None, TypeError, r"^grads: expected row .* got uint64"),
    (W, (3, ONE), None, TypeError, r"^grads: expected a NumPy array or torch tensor, got int"),
    (W, W, None, TypeError, r"^grads: expected \(rows, values\) or a .*, got ndarray"),
    ([W], [W], None, TypeError, r"^grads\[0\]: expected \(rows, values\)"),
    ([W], [], None, ValueError, r"^grads: expected 1 like params, got 0"),
    ([W], [([0], ONE)], [], ValueError, r"^momentum_buffers: expected 1 like params, got 0"),
    (W, ([0], ONE), np.ones((4, 2), np.float32), ValueError, r"^momentum_buffers: expected shape"),
    (W, ([0], ONE), np.ones((4, 3)), TypeError, r"^momentum_buffers: expected float32 like params"),
    (W, ([0], ONE), W, ValueError, r"momentum_buffers: shares memory with params|params: shares"),
    (W, ([0], W[1:2]), None, ValueError, r"^grads: shares memory with params"),
    (W, ([0, 1, 2, 3], W), None, ValueError, r"^grads: shares memory with params"),
    ([W, W[1:]], [([0], ONE), ([0], ONE)], None, ValueError, r"shares memory with params"),
    (np.float32(1), ([0], ONE), None, TypeError, r"^params: expected"),
    (np.array(1, np.float32), ([0], ONE), None, ValueError, r"^params: expected rows, got float32"),
    (np.asfortranarray(W), ([0], ONE), None, ValueError, r"^params: expected each row to be cont"),
    (np.broadcast_to(W[:1], (4, 3)), ([0], ONE), None, ValueError, r"^params: is read-only"),
    (W, ([0], ONE), np.zeros((3, 4), np.float32).T, ValueError, r"^momentum_buffers: expected ea"),
]  # fmt: skip


@pytest.mark.parametrize(("params", "grads", "buffers", "error", "message"), BAD)
def test_bad_arguments(
    params: Any, grads: Any, buffers: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        row_step(params, grads, buffers, lr=0.1, momentum=0.0 if buffers is None else 0.9)
    assert (W == 1).all()


def test_bad_hyperparameters() -> None:
    with pytest.raises(ValueError, match="momentum_buffers: needed"):
        row_step(W, ([0], ONE), lr=0.1, momentum=0.9)
    with pytest.raises(ValueError, match="lr: expected a number >= 0"):
        row_step(W, ([0], ONE), lr=-0.1)
    with pytest.raises(ValueError, match="nesterov: needs momentum"):
        row_step(W, ([0], ONE), lr=0.1, nesterov=True)


def test_a_bad_second_gradient_leaves_the_first_parameter_alone() -> None:
    w, m = np.ones((4, 3), np.float32), np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match=r"^grads\[1\]: row 9"):
        row_step([w, w.copy()], [([0], ONE), ([9], ONE)], [m, m.copy()], first_step=True, **RULE)
    assert (w == 1).all() and (m == 1).all()
    # The control: without the bad one both are written.
    row_step([w, w.copy()], [([0], ONE), ([3], ONE)], [m, m.copy()], first_step=True, **RULE)
    assert (w[0] != 1).all() and not m[1].any()
