"""Unscaling, skipping, clipping and averaging within the step, bit for bit against the oracle."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import COMBINATIONS, DTYPES, LAYOUTS, LENGTHS, RULE, RULE_IDS, RULES, every_isa
from tests.dense.stages import Arrays, Types, expected, make, step, step_and_check
from tests.oracles import clip as oracle

# What stands around a rule, alone and together. Norms of the arrays here are far above 1.
STAGES: dict[str, dict[str, Any]] = {
    "grad_scale": {"grad_scale": 8.0},
    "grad_scale not a power of two": {"grad_scale": -3.0},
    "max_norm": {"max_norm": 1.0},
    "max_norm, within": {"max_norm": 1e9},
    "max_norm by tensor": {"max_norm": 1.5, "max_norm_scope": "tensor"},
    "max_norm by group": {"max_norm": 0.0, "max_norm_scope": "group"},
    "clip_value": {"clip_value": 0.25},
    "skip_nonfinite": {"skip_nonfinite": True},
    "ema": {"ema_decay": 0.9},
    "fast ema": {"ema_decay": 0.25},
    "ema of none": {"ema_decay": 0.0},
    "ema that stays": {"ema_decay": 1.0},
    "clip and ema": {"max_norm": 1.0, "ema_decay": 0.99},
    "all": {
        "grad_scale": 1024.0,
        "max_norm": 0.01,
        "clip_value": 1e-3,
        "skip_nonfinite": True,
        "ema_decay": 0.999,
    },
}
# Those that look at elements one by one: NaN in one of them is not NaN everywhere.
BY_ELEMENT = ["grad_scale", "clip_value", "ema", "fast ema", "ema of none", "ema that stays"]


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize("types", COMBINATIONS, ids="-".join)
def test_every_stage_and_dtype(isa: str, types: Types, stages: str, first: bool) -> None:
    a = make(types, [41, 0, 3], 1)
    terms = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}
    if first:  # these hold nothing yet
        for x in (*a.momenta, *a.ema):
            x[...] = np.nan
    step_and_check(a, isa, **terms, **STAGES[stages], first_step=first)


@pytest.mark.parametrize("stages", BY_ELEMENT)
@pytest.mark.parametrize("types", COMBINATIONS, ids="-".join)
def test_special_values(isa: str, types: Types, stages: str) -> None:
    step_and_check(make(types, [97], 3, special=True), isa, **RULE, **STAGES[stages])


@pytest.mark.parametrize("rule", RULES, ids=RULE_IDS)
def test_every_rule(isa: str, rule: dict[str, Any]) -> None:
    for types in (("float32",) * 3, ("bfloat16", "float32", "float32"), ("float64",) * 3):
        step_and_check(make(types, [41, 9], 2), isa, **rule, **STAGES["all"])


def test_with_l1(isa: str) -> None:
    for types in (("float32",) * 3, ("float16",) * 3):
        step_and_check(make(types, [41], 2), isa, **RULE, **STAGES["all"], l1=0.5)


@pytest.mark.parametrize("n", [*LENGTHS, 1023, 1024, 1025, 2049])
@pytest.mark.parametrize(
    "types",
    [("float32",) * 3, ("bfloat16", "bfloat16", "float32"), ("float64", "float16", "float64")],
)
def test_every_length(isa: str, types: Types, n: int) -> None:
    if types[0] == "float64" and n > 1025:
        n = 1026  # the float64 oracle is exact rationals: slow
    # A guard around the arrays shows a write outside them.
    buffers = make(types, [n + 64], n)
    before = buffers.copy()
    a = Arrays(*([x[0][32 : 32 + n]] for x in buffers.lists()))
    step_and_check(a, f"{isa} n={n}", **RULE, **STAGES["all"])
    for (now,), (old,) in zip(buffers.lists(), before.lists(), strict=True):
        assert_same_bits(now[:32], old[:32], "before the array")
        assert_same_bits(now[32 + n :], old[32 + n :], "behind the array")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("which", ["params", "grads", "momenta", "ema", "all"])
def test_every_layout(isa: str, layout: str, which: str) -> None:
    for types in (("float32",) * 3, ("bfloat16", "float32", "bfloat16"), ("float64",) * 3):
        a = make(types, [5 * 7 * 31], 4)
        shaped = Arrays(*([x.reshape(5, 7, 31) for x in arrays] for arrays in a.lists()))
        # Scaled, since the order of elements is part of a norm.
        terms = {**RULE, "grad_scale": 4.0, "clip_value": 0.5, "ema_decay": 0.9}
        want = expected(shaped, **terms)
        for name in ("params", "grads", "momenta", "ema"):
            if which in (name, "all"):
                setattr(shaped, name, [LAYOUTS[layout](x) for x in getattr(shaped, name)])
        step(shaped, **terms)
        assert_same_bits(shaped.params[0], want.params[0], "param")
        assert want.momenta is not None and want.averages is not None
        assert_same_bits(shaped.momenta[0], want.momenta[0], "momentum")
        assert_same_bits(shaped.ema[0], want.averages[0], "average")


def test_every_layout_meets_every_other(isa: str) -> None:
    rng = np.random.default_rng(8)
    names = list(LAYOUTS)
    for _ in range(60):
        a = make(("float16", "float32", "float32"), [3 * 4 * 5], int(rng.integers(1000)))
        shaped = Arrays(*([x.reshape(3, 4, 5) for x in arrays] for arrays in a.lists()))
        terms = {**RULE, "clip_value": 0.5, "ema_decay": 0.9}
        want = expected(shaped, **terms)
        laid = Arrays(
            *(
                [LAYOUTS[str(rng.choice(names))](x[0].transpose(0, 2, 1)).transpose(0, 2, 1)]
                for x in shaped.lists()
            )
        )
        step(laid, **terms)
        assert_same_bits(laid.params[0], want.params[0], "param")
        assert want.averages is not None
        assert_same_bits(laid.ema[0], want.averages[0], "average")


def test_a_broadcast_gradient(isa: str) -> None:
    a = make(("float32",) * 3, [50 * 60], 5)
    a = Arrays(*([x.reshape(50, 60) for x in arrays] for arrays in a.lists()))
    a.grads = [np.broadcast_to(a.grads[0][:1], (50, 60))]
    want = exact = oracle.exact_norm(a.grads)
    terms = {**RULE, "max_norm": 1e-2, "ema_decay": 0.5}
    copy = Arrays(a.params, [np.ascontiguousarray(a.grads[0])], a.momenta, a.ema).copy()
    norm = step(a, **terms)
    assert norm is not None and math.isclose(norm, exact, rel_tol=1e-12)
    want = step(copy, **terms)
    assert want is not None and math.isclose(want, norm, rel_tol=1e-12)
    assert_same_bits(a.params[0], copy.params[0])
    assert_same_bits(a.ema[0], copy.ema[0])


@pytest.mark.parametrize("types", COMBINATIONS, ids="-".join)
def test_isas_and_threads_agree(types: Types, threads: Callable[[int], None]) -> None:
    results: list[tuple[str, Arrays, float | None]] = []
    for isa in every_isa():
        for n in (1, 2, 3):
            threads(n)
            a = make(types, [1, 70_001, 0, 40_007, *([5] * 50), 33_333], 11)
            a.params[3], a.grads[1] = a.params[3][::-1], a.grads[1][::-1]
            for i in range(2):
                norm = step(a, **RULE, **STAGES["all"], first_step=i == 0)
            results.append((f"{isa} {n}", a, norm))
    for what, a, norm in results[1:]:
        assert norm == results[0][2], what
        for got, want in zip(a.lists(), results[0][1].lists(), strict=True):
            for x, y in zip(got, want, strict=True):
                assert_same_bits(x, y, what)


def test_threads_cover_every_element_once(threads: Callable[[int], None]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        threads(int(rng.integers(1, 7)))
        sizes = rng.integers(0, 90_000, int(rng.integers(1, 12)))
        w = [np.zeros(int(n), np.float32) for n in sizes]
        e = [np.full(int(n), 1, np.float32) for n in sizes]
        ones = [np.full(int(n), 3, np.float32) for n in sizes]
        sf.sgd_step(w, ones, lr=1.0, clip_value=1.0, ema=e, ema_decay=0.5)
        for x, y in zip(w, e, strict=True):
            assert (x == -1).all() and (y == 0).all()


def test_huge_float64_gradients() -> None:
    for size in (1e200, 1e-200):
        w, g = np.zeros(4), np.full(4, size)
        norm = sf.sgd_step(w, g, lr=1.0, max_norm=1.0)
        assert norm == 2 * size
        assert_same_bits(w, -g * oracle.coefficient(norm, 1.0, np.float64))


def test_a_huge_tensor_does_not_hide_the_norm_of_another() -> None:
    w = [np.zeros(4), np.zeros(4)]
    g = [np.full(4, 1e200), np.full(4, 3.0)]
    norm = sf.sgd_step(w, g, lr=1.0, max_norm=1.0, max_norm_scope="tensor")
    assert norm == 2e200
    assert_same_bits(w[1], -g[1] * oracle.coefficient(6.0, 1.0, np.float64))


def test_the_scopes_differ() -> None:
    """The controls: no scope is taken for another."""
    found = {}
    for scope in ("global", "group", "tensor"):
        a = make(("float32",) * 3, [10, 10], 1)
        step(a, lr=0.1, max_norm=1.0, max_norm_scope=scope)
        found[scope] = [x.tolist() for x in a.params]
    assert found["global"] == found["group"] != found["tensor"]


def test_decay_is_not_clipped() -> None:
    w, g = np.full(3, 10, np.float32), np.full(3, 1e6, np.float32)
    sf.sgd_step(w, g, lr=0.5, weight_decay=1.0, max_norm=0.0)
    assert (w == 5).all()


def test_the_value_is_clipped_after_the_norm() -> None:
    w, g = np.zeros(2, np.float32), np.array([3, 4], np.float32)
    sf.sgd_step(w, g, lr=1.0, max_norm=1.0, clip_value=0.7)
    c = np.float32(oracle.coefficient(5.0, 1.0, np.float32))
    assert_same_bits(w, -np.array([g[0] * c, np.float32(0.7)], np.float32))


# --- skipping -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_skipped_step_writes_nothing(isa: str, dtype: str, bad: float) -> None:
    for first in (False, True):
        a = make((dtype, dtype, dtype), [5000, 7], 6)
        a.grads[1][3] = bad
        before = a.copy()
        norm = step(a, **RULE, skip_nonfinite=True, ema_decay=0.9, first_step=first)
        assert norm is not None and not math.isfinite(norm)
        for now, old in zip(a.lists(), before.lists(), strict=True):
            for x, y in zip(now, old, strict=True):
                assert_same_bits(x, y)
        # The control: without the word the step is taken.
        step(a, **RULE, ema_decay=0.9, first_step=first)
        assert not (a.params[0] == before.params[0]).all()


def test_what_overflows_by_unscaling_is_stepped() -> None:
    """As under torch.amp.GradScaler, which looks at gradients before they are unscaled."""
    w, g = np.zeros(2, np.float32), np.array([1e30, -1], np.float32)
    sf.sgd_step(w, g, lr=1.0, grad_scale=1e-30, skip_nonfinite=True)
    assert w[0] == -np.inf and w[1] == np.float32(1e30)


def test_versions_of_a_skipped_step() -> None:
    torch = pytest.importorskip("torch")
    w, m, e = (torch.zeros(3) for _ in range(3))
    bad, good = torch.tensor([1.0, math.inf, 0.0]), torch.ones(3)
    for g, want in ((bad, 0), (good, 1), (bad, 1)):
        norm = sf.sgd_step(w, g, m, lr=0.1, momentum=0.9, skip_nonfinite=True, ema=e, ema_decay=0.9)
        assert [w._version, m._version, e._version] == [want] * 3
        assert g._version == 0
        assert math.isfinite(norm) == (g is good)


# --- controls -------------------------------------------------------------------------------------


def test_a_coefficient_that_is_off_by_one_ulp_is_seen() -> None:
    a = make(("float32",) * 3, [41], 1)
    want = expected(a, lr=0.1, max_norm=1.0)
    want.params[0][5] = np.nextafter(want.params[0][5], np.float32(9))
    step(a, lr=0.1, max_norm=1.0)
    with pytest.raises(AssertionError, match="1 of 41 elements differ, by up to 1 ULPs"):
        assert_same_bits(a.params[0], want.params[0])


def test_an_average_of_rounded_weights_is_seen() -> None:
    a = make(("bfloat16",) * 3, [97], 1)
    before = a.copy()
    step(a, lr=0.1, ema_decay=0.9)
    rounded = oracle.average(before.ema[0], a.params[0].astype(np.float32), 0.9)
    with pytest.raises(AssertionError, match="differ"):
        assert_same_bits(a.ema[0], rounded)
