"""Norms of arrays, and gradients clipped where they are, against the oracle bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import DTYPES, LAYOUTS, LENGTHS, every_isa, special_values
from tests.oracles.clip import clip, coefficient, exact_norm, norm, wide_of

BOUND = 0.25


def finite_values(dtype: str, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(n) * 10.0 ** rng.integers(-3, 3, n)).astype(DTYPES[dtype])


def clipped(g: np.ndarray, scale: float, limit: float = math.inf) -> np.ndarray:
    with np.errstate(all="ignore"):
        return clip(g, scale, limit).astype(g.dtype)


# --- norms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_norm_has_the_bits_of_its_order(isa: str, dtype: str, n: int) -> None:
    if dtype == "float64" and n > 100:
        n = 4096 + n % 3  # the float64 oracle is exact rationals: slow
    x = finite_values(dtype, n)
    got = sf.total_norm(x)
    assert type(got) is float
    assert got == norm([x])
    assert math.isclose(got, exact_norm([x]), rel_tol=1e-12, abs_tol=0.0)
    assert sf.total_norm(x, p=math.inf) == np.abs(x.astype(np.float64)).max(initial=0.0)


def test_many_arrays_are_one_vector(isa: str) -> None:
    arrays = [finite_values(t, n, n) for t in DTYPES for n in (0, 1, 33, 5000)]
    got = sf.total_norm(arrays)
    assert got == norm(arrays)
    assert math.isclose(got, exact_norm(arrays), rel_tol=1e-12)
    assert sf.total_norm(tuple(arrays)) == got == sf.total_norm(iter(arrays))
    assert sf.total_norm([]) == 0.0 == sf.total_norm([], p=math.inf)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts_do_not_change_a_norm(isa: str, dtype: str, layout: str) -> None:
    x = finite_values(dtype, 5 * 7 * 150).reshape(5, 7, 150)
    laid = LAYOUTS[layout](x)
    assert math.isclose(sf.total_norm(laid), exact_norm([x]), rel_tol=1e-12)
    assert sf.total_norm(laid, math.inf) == np.abs(x.astype(np.float64)).max()
    broadcast = np.broadcast_to(x[:, :1], x.shape)
    assert math.isclose(sf.total_norm(broadcast), exact_norm([broadcast]), rel_tol=1e-12)
    one = LAYOUTS[layout](x[:1, :1, :1])
    assert sf.total_norm(one) == abs(float(x[0, 0, 0]))


@pytest.mark.parametrize("salt", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("at", [0, 31, 40, 4095, 4096, 5000])
def test_one_element_that_is_not_finite_is_seen(dtype: str, at: int, salt: float) -> None:
    x = finite_values(dtype, 5001)
    assert math.isfinite(sf.total_norm(x))
    x[at] = salt
    for p in (2.0, math.inf):
        got = sf.total_norm([x, np.ones(3, np.float32)], p)
        assert math.isnan(got) if math.isnan(salt) else got == math.inf
    x[at - 1] = np.nan  # NaN before infinities
    assert math.isnan(sf.total_norm(x)) and math.isnan(sf.total_norm(x, math.inf))


@pytest.mark.parametrize("size", [1e300, 1.7e308, 1e155, 1e-160, 1e-200, 5e-324, 1e-308])
def test_squares_that_leave_float64(isa: str, size: float) -> None:
    x = np.linspace(-1.0, 1.0, 4097) * size
    want = exact_norm([x])
    if want == math.inf:  # the norm itself does
        assert sf.total_norm(x) == math.inf
    else:
        assert math.isclose(sf.total_norm(x), want, rel_tol=1e-12)
    others = [np.ones(10, np.float32), np.zeros(7), x, np.full(5, 1e-3)]
    assert sf.total_norm(others) == math.inf or math.isclose(
        sf.total_norm(others), exact_norm(others), rel_tol=1e-12
    )
    assert sf.total_norm(others) == sf.total_norm(others[::-1])


def test_the_largest_numbers_of_every_type() -> None:
    import ml_dtypes

    for dtype in DTYPES.values():
        largest = np.full(3, float(ml_dtypes.finfo(dtype).max)).astype(dtype)
        got = sf.total_norm(largest[:1])
        assert got == float(largest[0])
        if dtype != np.float64:
            assert math.isclose(sf.total_norm(largest), float(largest[0]) * 3**0.5)


def test_isas_and_threads_agree(threads: Callable[[int], None]) -> None:
    arrays = [finite_values(t, n, n) for t in DTYPES for n in (70_001, 5, 33_333)]
    arrays.append(finite_values("float32", 90_000).reshape(300, 300).T)
    norms, values = set(), []
    for name in every_isa():
        for n in (1, 2, 3, 7):
            threads(n)
            copies = [a.copy(order="K") for a in arrays]
            norms.add(sf.clip_grad_norm_(copies, BOUND))
            norms.add(sf.total_norm(arrays))
            values.append((name, copies))
    assert len(norms) == 1
    for name, copies in values[1:]:
        for a, b in zip(copies, values[0][1], strict=True):
            assert_same_bits(a, b, name)


def test_the_order_of_additions_is_seen() -> None:
    """The control: other orders give other bits."""
    found = {
        (norm([x]), norm([x[::-1]])) for x in (finite_values("float32", 999, i) for i in range(9))
    }
    assert any(a != b for a, b in found)


# --- clipping -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_scaled_to_their_bound(isa: str, dtype: str, n: int) -> None:
    buffer = special_values(DTYPES[dtype], n + 64, np.random.default_rng(n))
    g = buffer[32 : 32 + n]
    g[...] = finite_values(dtype, n, n)
    before = buffer.copy()
    want_norm = norm([g]) if dtype != "float64" or n <= 100 else sf.total_norm(g)
    want = clipped(g, coefficient(want_norm, BOUND, wide_of(g.dtype)))
    assert sf.clip_grad_norm_(g, BOUND) == want_norm
    assert_same_bits(g, want)
    assert_same_bits(buffer[:32], before[:32], "before the array")
    assert_same_bits(buffer[32 + n :], before[32 + n :], "behind the array")


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "c"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_layout_is_clipped(isa: str, dtype: str, layout: str) -> None:
    x = finite_values(dtype, 5 * 7 * 150).reshape(5, 7, 150)
    g = LAYOUTS[layout](x)
    found = sf.clip_grad_norm_(g, BOUND)
    assert_same_bits(g, clipped(x, coefficient(found, BOUND, wide_of(x.dtype))))
    g = LAYOUTS[layout](x)
    sf.clip_grad_value_(g, 0.3)
    assert_same_bits(g, clipped(x, 1.0, 0.3))


def test_the_largest_magnitude_may_be_the_norm() -> None:
    g = np.array([3.0, -8.0], np.float32)
    assert sf.clip_grad_norm_([g], 2.0, p=math.inf) == 8.0
    assert_same_bits(g, np.array([3, -8], np.float32) * np.float32(coefficient(8, 2, np.float32)))


def test_float64_among_the_arrays_makes_a_float64_coefficient() -> None:
    a, b = finite_values("float32", 50), finite_values("float64", 50)
    want = coefficient(norm([a, b]), BOUND, np.float64)
    assert want != coefficient(norm([a, b]), BOUND, np.float32)
    for_a, for_b = clipped(a, want), clipped(b, want)
    sf.clip_grad_norm_([a, b], BOUND)
    assert_same_bits(a, for_a)
    assert_same_bits(b, for_b)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_elements_are_held_within_a_value(isa: str, dtype: str, n: int) -> None:
    for limit in (0.75, 0.1, 1e-30, 1e300):
        g = special_values(DTYPES[dtype], n, np.random.default_rng(n))
        want = clipped(g, 1.0, limit)
        assert sf.clip_grad_value_(g, limit) is None  # type: ignore[func-returns-value]
        assert_same_bits(g, want, f"{limit}")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_norm_that_is_not_finite_clips_as_in_torch(bad: float) -> None:
    g = np.array([1.0, bad, -2.0], np.float32)
    sf.clip_grad_norm_(g, 1.0)
    if math.isnan(bad):
        assert np.isnan(g).all()
    else:
        assert_same_bits(g, np.array([0.0, np.nan, -0.0], np.float32))


def test_what_is_within_the_bound_is_not_written() -> None:
    g = finite_values("float32", 100)
    g.flags.writeable = True
    want = g.copy()
    assert sf.clip_grad_norm_(g, 1e9) == norm([want])
    sf.clip_grad_value_(g, math.inf)
    assert_same_bits(g, want)
    torch = pytest.importorskip("torch")
    t = torch.ones(3)
    sf.clip_grad_norm_([t, g], 1e9)
    assert t._version == 0
    sf.clip_grad_norm_([t, g], 1e-3)
    assert t._version == 1


# --- errors ---------------------------------------------------------------------------------------

NUMBERS: list[tuple[Any, type[Exception], str]] = [
    (-1.0, ValueError, "expected a number >= 0, got -1.0"),
    (math.nan, ValueError, "expected a number >= 0, got nan"),
    ("1", TypeError, "expected a number, got str"),
    (None, TypeError, "expected a number, got NoneType"),
]


@pytest.mark.parametrize(("value", "error", "text"), NUMBERS)
def test_bad_bounds(value: Any, error: type[Exception], text: str) -> None:
    g = np.ones(3, np.float32)
    with pytest.raises(error, match="max_norm: " + text):
        sf.clip_grad_norm_(g, value)
    with pytest.raises(error, match="clip_value: " + text):
        sf.clip_grad_value_(g, value)
    assert (g == 1).all()


@pytest.mark.parametrize("p", [1, 0, -math.inf, 3.0, math.nan])
def test_other_norms_are_refused(p: float) -> None:
    g = np.ones(3, np.float32)
    with pytest.raises(ValueError, match="p: expected 2 or inf, got"):
        sf.total_norm(g, p)
    with pytest.raises(ValueError, match="p: expected 2 or inf, got"):
        sf.clip_grad_norm_(g, 0.1, p)
    assert (g == 1).all()


def test_arrays_that_cannot_be_clipped() -> None:
    good = np.ones(4, np.float32)
    cases: list[tuple[Any, type[Exception], str]] = [
        ([good, np.ones(3, np.int32)], TypeError, r"grads\[1\]: expected float32"),
        ([good, 3.0], TypeError, r"grads\[1\]: expected a NumPy array or torch tensor"),
        (3.0, TypeError, "grads: expected an array or a sequence of arrays"),
        ([good, np.broadcast_to(np.float32(1), 3)], ValueError, r"grads\[1\]: is read-only"),
        ([good, good[1:]], ValueError, r"grads\[1\]: shares memory with grads\[0\]"),
        ([good, good], ValueError, r"shares memory with"),
    ]
    for grads, error, text in cases:
        with pytest.raises(error, match=text):
            sf.clip_grad_norm_(grads, 0.1)
        with pytest.raises(error, match=text):
            sf.clip_grad_value_(grads, 0.1)
        assert (good == 1).all()
    with pytest.raises(TypeError, match=r"arrays\[1\]: expected float32"):
        sf.total_norm([good, np.ones(3, np.int32)])
    assert sf.total_norm([good, good, good[1:]]) == math.sqrt(11)  # they are only read
