"""The thresholded step against its formula in NumPy, bit for bit, and against the dense step."""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast import _core
from tests.bits import assert_same_bits
from tests.cases import (
    DTYPES,
    LAYOUTS,
    LENGTHS,
    RULE,
    RULES,
    THRESHOLD_RULES,
    THRESHOLD_TYPES,
    special_values,
    threshold_arrays,
)
from tests.oracles.threshold import Keep, Stepped, at_least, largest, threshold_step


def step_and_check(
    arrays: list[np.ndarray], keep: Keep, choice: dict[str, Any], rule: dict[str, Any], what: str
) -> Stepped:
    """One step of ours on `arrays`, which it changes, compared with the formula in everything."""
    w, g, m, v = arrays
    want = threshold_step(w, g, m, v, keep, **rule)
    got = sf.threshold_step(w, g, v, m, emit="int64", measure=True, **choice, **rule)
    assert want.v is not None and want.m is not None and got.selections is not None
    assert_same_bits(w, want.w, f"{what} param")
    assert_same_bits(m, want.m, f"{what} momentum")
    assert_same_bits(v, want.v, f"{what} residual")
    assert got.kept == [int(want.kept.sum())]
    flat = want.kept.ravel()
    np.testing.assert_array_equal(got.selections[0].indices, np.flatnonzero(flat))
    assert_same_bits(got.selections[0].values, want.held.ravel()[flat], f"{what} values")
    return want


# --- the formula ---------------------------------------------------------------------------------


@pytest.mark.parametrize("types", THRESHOLD_TYPES, ids="-".join)
def test_every_rule_and_dtype(isa: str, types: tuple[str, str]) -> None:
    rng = np.random.default_rng(1)
    n = 21 if types[0] == "float64" else 41  # the float64 oracle is exact rationals: slow
    for rule in THRESHOLD_RULES:
        arrays = threshold_arrays(types, n, rng)
        step_and_check(arrays, at_least(0.5), {"threshold": 0.5}, rule, f"{isa} {types} {rule}")


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("types", THRESHOLD_TYPES[::3], ids="-".join)
def test_every_length(isa: str, types: tuple[str, str], n: int) -> None:
    if types[0] == "float64" and n > 100:
        n = 127 + n % 3
    rng = np.random.default_rng(n)
    rule = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
    for keep, choice in ((at_least(1.0), {"threshold": 1.0}), (largest(n // 3), {"k": n // 3})):
        # A guard around the arrays shows a write outside them.
        buffers = threshold_arrays(types, n + 64, rng)
        before = [b.copy() for b in buffers]
        step_and_check([b[32 : 32 + n] for b in buffers], keep, choice, rule, f"{isa} n={n}")
        for b, old in zip(buffers, before, strict=True):
            assert_same_bits(b[:32], old[:32], "before the array")
            assert_same_bits(b[32 + n :], old[32 + n :], "behind the array")
        assert_same_bits(buffers[1], before[1], "gradient")


@pytest.mark.parametrize("choice", [{"threshold": 1.0}, {"k": 40}, {"density": 0.0}], ids=str)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_without_error_feedback(isa: str, choice: dict[str, Any], momentum: float) -> None:
    rng = np.random.default_rng(3)
    w, g, m, _ = threshold_arrays(("float32", "float32"), 1500, rng)
    keep = at_least(1.0) if "threshold" in choice else largest(choice.get("k", 0))
    want = threshold_step(w, g, m, None, keep, lr=0.1, momentum=momentum)
    result = sf.threshold_step(
        w, g, None, m, lr=0.1, momentum=momentum, error_feedback=False, **choice
    )
    assert want.v is None
    assert_same_bits(w, want.w)
    assert_same_bits(m, want.m)
    assert result.kept == [want.kept.sum()]


def test_first_step_reads_neither_residual_nor_momentum(isa: str) -> None:
    for choice in ({"threshold": 0.5}, {"density": 0.5}, {"density": 0.5, "selector": "sampled"}):
        results = []
        for garbage in (np.nan, 3.0):
            w, g = np.ones(2000, np.float32), np.linspace(-1, 1, 2000, dtype=np.float32)
            m, v = (np.full(2000, garbage, np.float32) for _ in range(2))
            sf.threshold_step(w, g, v, m, lr=0.1, momentum=0.9, first_step=True, **choice)
            results.append((w, m, v))
        for a, b in zip(*results, strict=True):
            assert_same_bits(a, b)
        # The control: a later step does read them.
        v[:] = np.nan
        sf.threshold_step(w, g, v, m, lr=0.1, momentum=0.9, **choice)
        assert np.isnan(w).any()


def test_a_gradient_may_be_its_own_parameter(isa: str) -> None:
    for choice, keep in (({"threshold": 20.0}, at_least(20.0)), ({"k": 7}, largest(7))):
        w, v = np.arange(50, dtype=np.float32), np.zeros(50, np.float32)
        want = threshold_step(w, w, None, v, keep, lr=0.25)
        sf.threshold_step(w, w, v, lr=0.25, **choice)
        assert_same_bits(w, want.w)
        assert want.v is not None
        assert_same_bits(v, want.v)


# --- the same as dense steps ---------------------------------------------------------------------


@pytest.mark.parametrize("types", THRESHOLD_TYPES, ids="-".join)
@pytest.mark.parametrize("choice", [{"threshold": 0.0}, {"density": 1.0}], ids=str)
def test_keeping_all_is_the_dense_step(
    isa: str, types: tuple[str, str], choice: dict[str, Any]
) -> None:
    rng = np.random.default_rng(5)
    for rule, correction in itertools.product(RULES, (True, False)):
        if rule["first_step"]:
            continue
        arrays = threshold_arrays(types, 83, rng)
        w, _, m, _ = (a.copy() for a in arrays)
        v = np.full(83, np.nan, m.dtype)
        ours_w, ours_m = w.copy(), m.copy()
        for i in range(3):
            g = special_values(DTYPES[types[1]], 83, rng)
            g[:8], w[:8], ours_w[:8] = -0.0, -0.0, -0.0
            step = rule | {"first_step": i == 0}
            sf.sgd_step(w, g, m, **step)
            sf.threshold_step(
                ours_w, g, v, ours_m, **choice, **step,
                momentum_correction=correction, momentum_masking=False,
            )  # fmt: skip
            assert_same_bits(ours_w, w, f"step {i} {rule} param")
            assert_same_bits(ours_m, m, f"step {i} {rule} momentum")
            assert_same_bits(v, np.full_like(v, -0.0), "residual")


def test_a_residual_of_plus_zero_would_be_seen() -> None:
    w, g = np.full(4, -0.0, np.float32), np.full(4, -0.0, np.float32)
    dense = w.copy()
    sf.sgd_step(dense, g, lr=0.5)  # -0 - 0.5 * -0 is 0
    for zero, same in ((-0.0, True), (0.0, False)):
        ours, v = w.copy(), np.full(4, zero, np.float32)
        sf.threshold_step(ours, g, v, lr=0.5, threshold=0.0)
        assert np.array_equal(np.signbit(ours), np.signbit(dense)) == same


@pytest.mark.parametrize("density", [0.01, 0.2, 0.6])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.5, False), (0.5, True)])
def test_nothing_is_lost_exactly(isa: str, density: float, momentum: float, nesterov: bool) -> None:
    """Small dyadic numbers: no addition rounds, so that dense and sparse sums are equal."""
    rng = np.random.default_rng(9)
    n = 3000
    w = rng.integers(-8, 9, n).astype(np.float64)
    dense, dense_m = w.copy(), np.zeros(n)
    m, v = np.zeros(n), np.zeros(n)
    for i in range(12):
        g = rng.integers(-4, 5, n) / 4
        rule = {"lr": 0.5, "momentum": momentum, "nesterov": nesterov, "first_step": i == 0}
        sf.sgd_step(dense, g, dense_m, **rule)
        sf.threshold_step(w, g, v, m, density=density, momentum_masking=False, **rule)
        np.testing.assert_array_equal(w - 0.5 * v, dense)
    assert (w != dense).any()  # something is held


def test_nothing_is_lost_without_momentum_correction() -> None:
    """What the momentum was given and what is held add up to the gradients."""
    rng = np.random.default_rng(9)
    n = 2000
    w, m, v, gradients, given = (np.zeros(n) for _ in range(5))
    for _ in range(10):
        g = rng.integers(-4, 5, n) / 4
        gradients += g
        result = sf.threshold_step(
            w, g, v, m, lr=1.0, momentum=0.5, density=0.1, momentum_correction=False, emit="int64"
        )
        assert result.selections is not None
        given[result.selections[0].indices] += result.selections[0].values
        np.testing.assert_array_equal(given + v, gradients)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_nothing_is_lost_up_to_rounding(momentum: float) -> None:
    rng = np.random.default_rng(10)
    n, steps, lr = 5000, 40, 0.1
    start = rng.standard_normal(n).astype(np.float32)
    w, dense = start.copy(), start.astype(np.float64)
    m, v, dense_m = np.zeros(n, np.float32), np.zeros(n, np.float32), np.zeros(n)
    moved = np.zeros(n)
    for _ in range(steps):
        g = rng.standard_normal(n).astype(np.float32)
        dense_m = momentum * dense_m + g
        dense -= lr * dense_m
        moved += np.abs(lr * dense_m)
        sf.threshold_step(
            w, g, v, m, lr=lr, momentum=momentum, density=0.05, momentum_masking=False
        )
    # Each step rounds a few times, each time by half an ULP of a number no larger than these.
    bound = steps * 4 * np.finfo(np.float32).eps * (np.abs(start) + moved)
    lost = np.abs((w.astype(np.float64) - np.float64(np.float32(lr)) * v) - dense)
    assert (lost <= bound).all()
    # The control: without the residual the difference is far larger.
    assert (np.abs(w - dense) > 10 * bound).any()


# --- reports -------------------------------------------------------------------------------------


def test_energies(isa: str) -> None:
    rng = np.random.default_rng(4)
    for dtype in (np.float32, np.float64):
        g = [rng.standard_normal(n).astype(dtype) for n in (5, 3000, 1)]
        w, v = ([np.zeros_like(x) for x in g] for _ in range(2))
        result = sf.threshold_step(w, g, v, lr=1.0, density=0.1, measure=True, emit="int64")
        assert result.energies is not None and result.selections is not None
        for x, s, (kept, rest) in zip(g, result.selections, result.energies, strict=True):
            squares = x.astype(np.float64) ** 2
            np.testing.assert_allclose(kept, math.fsum(squares[s.indices]), rtol=1e-12)
            np.testing.assert_allclose(kept + rest, math.fsum(squares), rtol=1e-12)
        left = math.sqrt(sum(float((x.astype(np.float64) ** 2).sum()) for x in v))
        assert result.residual_norm == pytest.approx(left, rel=1e-12)
        total = sum(float((x.astype(np.float64) ** 2).sum()) for x in g)
        assert result.energy_kept == pytest.approx(1 - left**2 / total, rel=1e-9)


def test_what_was_not_asked_for_is_none() -> None:
    w, g, v = np.zeros(5, np.float32), np.ones(5, np.float32), np.zeros(5, np.float32)
    result = sf.threshold_step(w, g, v, lr=1.0, threshold=2.0)
    assert result.selections is None and result.energies is None
    assert result.energy_kept is None and result.residual_norm is None
    assert result.density == 0.0 and result.thresholds == [2.0]


# --- layouts, instruction sets, threads ----------------------------------------------------------

SHAPE = (6, 5, 70)
ORDERS = ("c", "f", "every_other", "reversed_ends")


@pytest.mark.parametrize("choice", ["threshold", "k", "sampled"])
@pytest.mark.parametrize("orders", [*itertools.product(ORDERS, repeat=2), ("f", "f")], ids="-".join)
def test_layouts(orders: tuple[str, str], choice: str) -> None:
    rng = np.random.default_rng(6)
    n = math.prod(SHAPE)
    w, g, m, v = (x.reshape(SHAPE) for x in threshold_arrays(("float32", "bfloat16"), n, rng))
    g = np.nan_to_num(g.astype(np.float32), nan=1, posinf=2, neginf=3).astype(g.dtype)
    m, v = (np.nan_to_num(x, nan=1, posinf=2, neginf=3) for x in (m, v))
    first, second = (LAYOUTS[o] for o in orders)
    w, g, m, v = first(w), second(g), second(m), first(v)
    if choice == "sampled":  # of so few elements the sample is all
        held = threshold_step(w, g, m, v, at_least(0), **RULE).held
        threshold = np.sort(np.abs(held), axis=None)[-n // 10]
        want = threshold_step(w, g, m, v, at_least(threshold), **RULE)
        result = sf.threshold_step(w, g, v, m, density=0.1, selector="sampled", **RULE)
        assert result.thresholds == [threshold]
        assert_same_bits(w, want.w)
        return
    keep, number = (at_least(2.0), 2.0) if choice == "threshold" else (largest(300), 300)
    step_and_check([w, g, m, v], keep, {choice: number}, RULE, f"{orders}")


def test_a_whole_tensor_in_another_order_is_not_packed() -> None:
    """And its indices are those of the flattened array all the same, in their order."""
    rng = np.random.default_rng(8)
    w, g, v = (
        rng.standard_normal((4, 3, 50)).astype(np.float64).transpose(2, 0, 1) for _ in range(3)
    )
    want = threshold_step(w, g, None, v, at_least(1.0), lr=0.1)
    for emit in ("int32", "int64"):
        ours, left = np.copy(w, order="K"), np.copy(v, order="K")
        result = sf.threshold_step(ours, g, left, lr=0.1, threshold=1.0, emit=emit)
        assert ours.strides == w.strides
        assert_same_bits(ours, want.w)
        assert result.selections is not None
        np.testing.assert_array_equal(
            result.selections[0].indices, np.flatnonzero(want.kept.ravel())
        )
        assert_same_bits(result.selections[0].values, want.held[want.kept])


@pytest.mark.parametrize("scope", ["tensor", "global"])
@pytest.mark.parametrize("name", ["absolute", "exact", "sampled", "reused"])
@pytest.mark.parametrize(
    "types", [("float32", "float16"), ("float64", "float32"), ("bfloat16",) * 2], ids="-".join
)
def test_bits_depend_on_neither_isa_nor_threads(
    types: tuple[str, str], name: str, scope: str, threads: Callable[[int], None]
) -> None:
    results = []
    for isa, n in [*((isa, 2) for isa in sf.available_isas()), (None, 1), (None, 3), (None, 4)]:
        _core.testing.select_isa(isa)
        threads(n)
        rng = np.random.default_rng(11)
        sizes = [1, 70_001, 0, 17, 130_007, *([5] * 50), 3_333]
        w, g, m, v = zip(*(threshold_arrays(types, size, rng) for size in sizes), strict=True)
        w[4][::7] = np.float32(0.25)
        v[4][:] = np.float32(0.25)  # ties
        w = [*w[:4], w[4][::-1], *w[5:]]  # a strided one among them
        number = {"threshold": 0.7} if name == "absolute" else {"density": 0.03}
        step = sf.threshold_step(
            w, list(g), list(v), list(m), lr=0.1, momentum=0.9, selector=name, scope=scope,
            emit="int64", measure=True, **number,
        )  # fmt: skip
        assert step.selections is not None
        results.append(
            [*w, *m, *v, *(a for s in step.selections for a in (s.indices, s.values)),
             np.array(step.energies), np.array(step.thresholds)]
        )  # fmt: skip
    _core.testing.select_isa(None)
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            assert a.dtype.kind != "f" or assert_same_bits(a, b) is None
            assert a.dtype.kind == "f" or a.tobytes() == b.tobytes()


@pytest.mark.torch
def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    p = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    g, v = torch.arange(6.0).reshape(2, 3), torch.zeros(2, 3)
    versions = p._version, v._version
    result = sf.threshold_step([p], [g], [v], lr=1.0, k=2, emit="int64")
    assert (p._version, v._version) > versions
    assert p.flatten().tolist() == [0, 1, 2, 3, 0, 0]
    assert result.selections is not None
    assert result.selections[0].indices.tolist() == [4, 5]
    assert result.selections[0].values.tolist() == [4, 5]
    assert isinstance(result.selections[0].values, torch.Tensor)
    assert sf.threshold_step(iter([p]), iter([g]), iter([v]), lr=1.0, k=1).kept == [1]


def test_a_result_can_be_pickled() -> None:
    x = np.arange(8, dtype=np.float32)
    how = {"lr": 0.1, "density": 0.5, "emit": "int32", "measure": True}
    result = sf.threshold_step([x, x.copy()], [x + 1, x + 2], [x * 0, x * 0], **how)
    again = pickle.loads(pickle.dumps(result))
    for name in ("kept", "sizes", "thresholds", "energies", "density", "residual_norm"):
        assert getattr(again, name) == getattr(result, name)
    for a, b in zip(again.selections, result.selections, strict=True):
        assert a.threshold == b.threshold
        assert a.indices.tolist() == b.indices.tolist() and a.values.tolist() == b.values.tolist()
    assert repr(result) == "ThresholdResult(of 2 tensors, 16 elements)"
    assert result.device_kept is result.device_thresholds is result.device_energies is None
