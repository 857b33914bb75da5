"""Sparse weights against their formulas in NumPy, bit for bit."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import DTYPES, LAYOUTS, LENGTHS, every_isa, special_values
from tests.oracles.sparsify import want_group, want_hard, want_largest, want_n_m, want_soft

OPERATIONS: dict[str, Any] = {
    "soft": (lambda x: sf.soft_threshold_(x, 0.4), lambda x: want_soft(x, 0.4)),
    "elastic": (lambda x: sf.elastic_net_(x, 0.4, 0.7), lambda x: want_soft(x, 0.4, 0.7)),
    "group": (lambda x: sf.group_soft_threshold_(x, 1.5), lambda x: want_group(x, 1.5)),
    "hard": (lambda x: sf.hard_threshold_(x, density=0.3), lambda x: want_hard(x, 0.3)),
    "2:4": (sf.n_m_, lambda x: want_n_m(x, 2, 4)),
}


@pytest.fixture(params=OPERATIONS)
def operation(request: pytest.FixtureRequest) -> Any:
    return OPERATIONS[request.param]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_length(isa: str, dtype: str, operation: Any) -> None:
    change, want = operation
    rng = np.random.default_rng(1)
    for n in LENGTHS:
        if dtype == "float64" and n > 1000:  # its oracle is made of exact rationals: slow
            continue
        # A guard around the array shows a write outside it.
        buffer = special_values(DTYPES[dtype], 4 * n + 64, rng)
        before = buffer.copy()
        x = buffer[32 : 32 + 4 * n]
        expected = want(x.copy())
        change(x)
        assert_same_bits(x, expected, f"{isa} {dtype} n={4 * n}")
        assert_same_bits(buffer[:32], before[:32], "before the array")
        assert_same_bits(buffer[32 + 4 * n :], before[32 + 4 * n :], "behind the array")


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "c"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_order_in_memory(isa: str, dtype: str, layout: str, operation: Any) -> None:
    change, want = operation
    values = special_values(DTYPES[dtype], 1920, np.random.default_rng(2)).reshape(12, 8, 20)
    x = LAYOUTS[layout](values)
    if dtype == "float64":
        x = x[:3]
    assert not (x.flags.c_contiguous and x.flags.aligned)
    expected = want(np.ascontiguousarray(x))
    change(x)
    assert_same_bits(x, expected, f"{isa} {dtype} {layout}")


def test_many_threads_give_the_same_bits(isa: str, threads: Any, operation: Any) -> None:
    change, _ = operation
    rng = np.random.default_rng(3)
    shapes = [(300, 1000), (3, 200_000), (7,), (1, 90_000), (100_000, 4), (0, 8)]
    start = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    start[2] = np.zeros((0, 4), np.float32)
    results = []
    for count in (1, 2, 3, 4):
        threads(count)
        arrays = [a.copy() for a in start]
        change(arrays)
        results.append(arrays)
    for arrays in results[1:]:
        for got, want in zip(arrays, results[0], strict=True):
            assert_same_bits(got, want)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(width=32), min_size=1, max_size=80),
    st.floats(0, 2.0**100, width=32),
    st.sampled_from(sorted(DTYPES)),
)
def test_soft_threshold_of_anything(values: list[float], lam: float, dtype: str) -> None:
    with np.errstate(all="ignore"):
        x = np.array(values, np.float32).astype(DTYPES[dtype])
    got, grown = x.copy(), np.abs(x)
    sf.soft_threshold_(got, lam)
    assert_same_bits(got, want_soft(x, lam))
    with np.errstate(all="ignore"):
        assert (np.isnan(x) == np.isnan(got)).all()
        assert not (np.abs(got) > grown).any()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 32).flatmap(
        lambda m: st.tuples(st.just(m), st.integers(0, m), st.integers(0, 70), st.integers(0, 9))
    )
)
def test_every_pattern(case: tuple[int, int, int, int]) -> None:
    m, n, groups, seed = case
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, groups * m).astype(np.float32)  # many ties
    x[rng.random(x.size) < 0.1] = np.nan
    got = x.copy()
    sf.n_m_(got, n, m)
    assert_same_bits(got, want_n_m(x, n, m))
    assert (np.count_nonzero(got.reshape(-1, m), axis=1) <= n).all()


def test_what_stays_keeps_its_bits(isa: str) -> None:
    for dtype, payload in ((np.uint16, 0x7C01), (np.uint32, 0x7F800001)):
        bits = np.full(64, payload, dtype)  # signalling NaN
        x = bits.view(f"f{dtype().itemsize}")
        sf.n_m_(x, 4, 4)
        sf.hard_threshold_(x, k=64)
        sf.apply_mask_(x, np.ones(64, bool))
        assert (bits == payload).all()
    zeros = np.full(40, -0.0, np.float32)
    sf.soft_threshold_(zeros, 0.0)
    assert np.signbit(zeros).all()
    sf.soft_threshold_(zeros, 1e-45)  # the control: what is shrunk away is +0
    assert not np.signbit(zeros).any()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=4), st.floats(0, 1), st.integers(0, 9))
def test_hard_threshold_keeps_exactly_k(sizes: list[int], share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = [rng.integers(-3, 4, n).astype(np.float32) for n in sizes]  # many ties
    for a in arrays:
        a[rng.random(a.size) < 0.05] = np.nan
    k = int(share * sum(sizes))
    got = [a.copy() for a in arrays]
    sf.hard_threshold_(got, k=k, scope="global")
    together = want_largest(np.concatenate(arrays)[None], k)[0]
    for g, want in zip(got, np.split(together, np.cumsum(sizes)[:-1]), strict=True):
        assert_same_bits(g, want)
    k = int(share * min(sizes))
    sf.hard_threshold_(arrays_copy := [a.copy() for a in arrays], k=k)
    for g, a in zip(arrays_copy, arrays, strict=True):
        assert_same_bits(g, want_largest(a[None], k)[0])


def test_hard_threshold_by_magnitude(isa: str) -> None:
    x = np.array([1, -0.5, 0.25, np.nan, -np.inf, 0.5, -0.0, 0.1], np.float32)
    sf.hard_threshold_(x, threshold=0.5)
    assert_same_bits(x, np.array([1, -0.5, 0, np.nan, -np.inf, 0.5, 0, 0], np.float32))
    sf.hard_threshold_(x, threshold=np.inf)
    assert_same_bits(x, np.array([0, 0, 0, np.nan, -np.inf, 0, 0, 0], np.float32))
    # float32(0.1) is above 0.1, but not above what 0.1 is as a float32.
    both = [np.array([0.1], np.float32), np.array([0.1], np.float64)]
    sf.hard_threshold_(both, threshold=0.1)
    assert both[0][0] != 0
    assert both[1][0] != 0


def test_rows_that_vanish_and_rows_that_do_not(isa: str) -> None:
    x = np.array([[3, 4], [0.3, -0.4], [0, -0.0], [np.nan, 1], [np.inf, 1]], np.float32)
    sf.group_soft_threshold_(x, 2.5)
    want = np.array([[1.5, 2], [0, 0], [0, 0], [np.nan, np.nan], [np.inf, 1]], np.float32)
    assert_same_bits(x, want)
    # In float32 the squares of these would overflow or vanish.
    x = np.array([[3e30, 4e30], [3e-30, 4e-30]], np.float32)
    sf.group_soft_threshold_(x, 2.5e-30)
    np.testing.assert_allclose(x, [[3e30, 4e30], [1.5e-30, 2e-30]], rtol=1e-6)


@pytest.mark.parametrize("length", [2, 600, 40_000])  # the last is summed by all threads
def test_rows_whose_squares_leave_float64(isa: str, length: int) -> None:
    direction = np.random.default_rng(4).standard_normal(length)
    direction /= np.sqrt((direction**2).sum())
    norms = np.array([4e-320, 1e-300, 1e-170, 1e-140, 1.0, 1e150, 1e200, 1.7e308])
    for ratio in (0.0625, 0.5, 3.0, 1e-200):
        for norm in norms.tolist():
            lam = norm * ratio
            if lam == 0.0 or lam == np.inf:
                continue
            x = np.stack([direction * norm, np.zeros(length)])
            for layout in ("c", "sliced"):
                got = LAYOUTS[layout](x.copy())
                sf.group_soft_threshold_(got, lam)
                spacing = 2 * 5e-324 / norm  # of denormals, beside the norm
                want = x * max(1 - lam / norm, 0)
                np.testing.assert_allclose(
                    got / norm, want / norm, rtol=1e-12, atol=spacing, err_msg=f"{norm} {ratio}"
                )
    if length == 2:
        extreme = np.array(
            [[1e-170, 1e-320], [1e200, 1e-170], [np.inf, 1e200], [np.nan, 1e200], [0.0, -0.0]]
        )
        for lam in (1e-200, 1e170, 5e-324, 1.7e308):
            want = want_group(extreme, lam)
            got = extreme.copy()
            sf.group_soft_threshold_(got, lam)
            assert_same_bits(got, want)
            assert got[2, 0] == np.inf
            assert np.isnan(got[3]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_thresholds_beyond_the_numbers_of_a_type(isa: str, dtype: str) -> None:
    largest = float(ml_dtypes.finfo(DTYPES[dtype]).max)
    values = np.array([np.inf, -np.inf, np.nan, largest, -largest, 1.0, -0.0] * 5)
    values = values.astype(DTYPES[dtype])
    for lam in (float(np.finfo(np.float32).max), 3.402823567e38, 1e39, 1e300, 1.7e308):
        got = values.copy()
        sf.soft_threshold_(got, lam)
        assert_same_bits(got, want_soft(values, lam))
        assert got[:2].tolist() == [np.inf, -np.inf]
        assert dtype == "float64" or not got[3:7].any()
        step = values.copy()  # the same within a step
        sf.sgd_step(step, np.zeros_like(step), lr=2.0, l1=lam / 2)
        assert_same_bits(step, got)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_every_length(isa: str, threads: Any, dtype: str) -> None:
    rng = np.random.default_rng(12)
    lengths = [1, 2, 7, 15, 16, 17, 31, 33, 511, 512, 513, 1500, 70_001]
    for n in lengths[:-2] if dtype == "float64" else lengths:
        # Noise, and a row that the shrinkage ends.
        x = rng.standard_normal((3, n)).astype(DTYPES[dtype])
        x[1] = (x[1].astype(np.float64) * 1e-3).astype(x.dtype)
        want = want_group(x, 0.9)
        for count in (1, 3):
            threads(count)
            got = x.copy()
            sf.group_soft_threshold_(got, 0.9)
            assert_same_bits(got, want, f"{isa} {dtype} rows of {n}, {count} threads")


def test_nothing_changes_at_zero(isa: str) -> None:
    rng = np.random.default_rng(5)
    for dtype in DTYPES.values():
        x = special_values(dtype, 320, rng).reshape(5, 64)
        before = x.copy()
        sf.soft_threshold_(x, 0.0)
        sf.elastic_net_(x, 0.0, 0.0)
        sf.group_soft_threshold_(x, 0.0)
        sf.hard_threshold_(x, threshold=0.0)
        sf.hard_threshold_(x, density=1.0)
        sf.n_m_(x, 4, 4)
        assert_same_bits(x, before)


def test_a_one_ulp_error_is_seen() -> None:
    x = np.linspace(-1, 1, 33, dtype=np.float32)
    want = want_soft(x, 0.25)
    want[3] = np.nextafter(want[3], np.float32(2))
    sf.soft_threshold_(x, 0.25)
    with pytest.raises(AssertionError, match="1 of 33 elements differ, by up to 1 ULPs"):
        assert_same_bits(x, want)


def test_isas_agree() -> None:
    rng = np.random.default_rng(10)
    start = [special_values(d, 4096, rng).reshape(8, 512) for d in DTYPES.values()]
    results = []
    for _ in every_isa():
        arrays = [a.copy() for a in start]
        for change, _ in OPERATIONS.values():
            change(arrays)
        results.append(arrays)
    for arrays in results[1:]:
        for got, want in zip(arrays, results[0], strict=True):
            assert_same_bits(got, want)
