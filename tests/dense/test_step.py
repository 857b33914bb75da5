"""The dense step against the formula in NumPy, bit for bit: every rule, dtype, ISA and length."""

from __future__ import annotations

import numpy as np
import pytest

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import (
    COMBINATIONS,
    DTYPES,
    LENGTHS,
    RULE_IDS,
    RULES,
    around_16_bit_values,
    every_isa,
    special_arrays,
)
from tests.oracles.dense import fma, sgd


def step_and_check(
    w: np.ndarray, g: np.ndarray, m: np.ndarray | None, rule: dict[str, object], what: str
) -> None:
    want_w, want_m = sgd(w, g, m, **rule)  # type: ignore[arg-type]
    sf.sgd_step(w, g, m, **rule)  # type: ignore[arg-type]
    assert_same_bits(w, want_w, f"{what} param")
    if m is not None and want_m is not None:
        assert_same_bits(m, want_m, f"{what} momentum")


@pytest.mark.parametrize("rule", RULES, ids=RULE_IDS)
@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_every_rule_and_dtype(isa: str, combination: tuple[str, str, str], rule: dict) -> None:
    rng = np.random.default_rng(1)
    n = 41  # full registers of every width, and a tail
    w, g, m = special_arrays(combination, n, rng)
    step_and_check(w, g, m if rule["momentum"] else None, rule, f"{isa} {combination}")


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_every_length(isa: str, combination: tuple[str, str, str], n: int) -> None:
    if combination[0] == "float64" and n > 100:
        n = 127 + n % 3  # the float64 oracle is exact rationals: slow
    rng = np.random.default_rng(n)
    rule = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
    # A guard around the arrays shows a write outside them.
    buffers = special_arrays(combination, n + 64, rng)
    w, g, m = (b[32 : 32 + n] for b in buffers)
    before = [b.copy() for b in buffers]
    step_and_check(w, g, m, rule, f"{isa} {combination} n={n}")
    for b, old in zip(buffers, before, strict=True):
        assert_same_bits(b[:32], old[:32], "before the array")
        assert_same_bits(b[32 + n :], old[32 + n :], "behind the array")
    assert_same_bits(g, before[1][32 : 32 + n], "gradient")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_16_bit_value_converts(isa: str, dtype: str) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(DTYPES[dtype])
    # Read: a 16-bit gradient onto f32 zeros with lr = 1 shows -g widened.
    w = np.zeros(every.size, np.float32)
    sf.sgd_step(w, every, lr=1.0)
    with np.errstate(invalid="ignore"):
        assert_same_bits(w, fma(np.float32(-1), every.astype(np.float32), np.zeros_like(w)))
    # Write: each value, its neighbours' midpoints and the f32 next to those, rounded to 16 bits.
    values = around_16_bit_values(DTYPES[dtype])
    h = np.zeros(values.size, DTYPES[dtype])
    sf.sgd_step(h, values, lr=1.0, maximize=True)
    with np.errstate(all="ignore"):
        assert_same_bits(h, (values + np.float32(0)).astype(DTYPES[dtype]), dtype)


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_isas_agree_over_many_steps(combination: tuple[str, str, str]) -> None:
    results = []
    for name in every_isa():
        w, g, m = special_arrays(combination, 1003, np.random.default_rng(7))
        for i in range(4):
            sf.sgd_step(
                w, g, m, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, first_step=i == 0
            )
        results.append((name, w, m))
    for name, w, m in results[1:]:
        assert_same_bits(w, results[0][1], f"{name} against {results[0][0]}")
        assert_same_bits(m, results[0][2], f"{name} against {results[0][0]}")


def test_first_step_does_not_read_the_momentum(isa: str) -> None:
    m = np.full(100, np.nan, np.float32)
    w, g = np.ones(100, np.float32), np.ones(100, np.float32)
    sf.sgd_step(w, g, m, lr=0.1, momentum=0.9, first_step=True)
    assert_same_bits(m, g)
    # The control: an accumulating step does read it.
    m[:] = np.nan
    sf.sgd_step(w, g, m, lr=0.1, momentum=0.9)
    assert np.isnan(m).all()


def test_without_momentum_the_buffers_are_left_alone(isa: str) -> None:
    w, g, m = np.ones(20, np.float32), np.ones(20, np.float32), np.full(20, 7, np.float32)
    sf.sgd_step(w, g, m, lr=0.5)
    assert (m == 7).all() and (w == 0.5).all()


def test_a_gradient_may_be_its_own_parameter(isa: str) -> None:
    w = np.arange(50, dtype=np.float32)
    want, _ = sgd(w, w, lr=0.25)
    sf.sgd_step(w, w, lr=0.25)
    assert_same_bits(w, want)


def test_a_one_ulp_error_is_seen() -> None:
    w, g = np.ones(9, np.float32), np.ones(9, np.float32)
    want, _ = sgd(w, g, lr=0.1)
    want[4] = np.nextafter(want[4], np.float32(2))
    sf.sgd_step(w, g, lr=0.1)
    with pytest.raises(AssertionError, match="1 of 9 elements differ, by up to 1 ULPs"):
        assert_same_bits(w, want)


def test_an_unfused_multiply_add_is_seen() -> None:
    rng = np.random.default_rng(3)
    w, g = (rng.standard_normal(1000).astype(np.float32) for _ in range(2))
    unfused = w + np.float32(-0.1) * g
    sf.sgd_step(w, g, lr=0.1)
    with pytest.raises(AssertionError, match="differ"):
        assert_same_bits(w, unfused)


@pytest.mark.slow
def test_more_than_2_to_31_elements() -> None:
    import ml_dtypes

    n = 2**31 + 1000
    w = np.zeros(n, ml_dtypes.bfloat16)
    g = np.broadcast_to(np.float32(1.0), n)  # stride 0: no memory of its own
    sf.sgd_step(w, g, lr=0.5)
    for part in (w[:1000], w[2**31 - 500 : 2**31 + 500], w[-1000:]):
        assert (part.astype(np.float32) == -0.5).all()
    assert int((w.view(np.uint16) != w.view(np.uint16)[0]).sum()) == 0
    # The contiguous path as well: the gradient is the parameter itself.
    sf.sgd_step(w, w, lr=0.5)
    assert (w[-1000:].astype(np.float32) == -0.25).all()
    assert int((w.view(np.uint16) != w.view(np.uint16)[0]).sum()) == 0
