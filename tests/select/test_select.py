"""Selection by magnitude against a stable sort in NumPy: exact, ordered, the same everywhere."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import subgrad_fast as sf
from subgrad_fast import _core
from tests.bits import assert_same_bits
from tests.cases import (
    DTYPES,
    LAYOUTS,
    LENGTHS,
    adversaries,
    every_isa,
    heavy_tailed,
    special_values,
)
from tests.oracles.select import computed, ranked, top


def check(selection: sf.Selection, x: np.ndarray, want: np.ndarray, what: object = "") -> None:
    assert np.array_equal(selection.indices, want), what
    assert_same_bits(selection.values, x.ravel()[want], str(what))


def check_top(x: np.ndarray, counts: tuple[int, ...], what: object = "") -> None:
    order = ranked([x])
    for k in counts:
        selection = sf.select(x, k=k)
        assert selection.indices.dtype == np.int64
        check(selection, x, np.sort(order[:k]), (what, k))
        if k > 0:
            smallest = float(abs(computed(x)[order[k - 1]]))
            assert_same_bits(np.float64(selection.threshold), np.float64(smallest))


# --- Top k ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_length(isa: str, dtype: str, n: int) -> None:
    rng = np.random.default_rng(n)
    buffer = special_values(DTYPES[dtype], n + 64, rng)
    x = buffer[32 : 32 + n]
    check_top(x, tuple({0, 1, n // 100, n // 2, n - 1, n} & set(range(n + 1))), (isa, dtype, n))


@pytest.mark.parametrize("dtype", DTYPES)
def test_long_arrays(isa: str, dtype: str, threads: Callable[[int], None]) -> None:
    n = 140_003  # sampled, several blocks a thread, a tail
    threads(2)
    x = heavy_tailed(n).astype(DTYPES[dtype])
    check_top(x, (0, 1, 2, 140, 14_000, n // 8, n // 8 + 1, 70_000, n - 1, n), (isa, dtype))


@pytest.mark.parametrize("name", adversaries(1))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_adversaries(isa: str, dtype: str, name: str, threads: Callable[[int], None]) -> None:
    threads(2)
    with np.errstate(all="ignore"):
        x = adversaries(140_003)[name].astype(DTYPES[dtype])
    check_top(x, (1, 140, 14_000, 100_000), (isa, dtype, name))


small = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.5, 2.0, math.inf, -math.inf, math.nan, 1e-45])


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    dtype=st.sampled_from(sorted(DTYPES)),
    lists=st.lists(st.lists(small | st.floats(width=16), max_size=40), min_size=1, max_size=4),
)
def test_any_lists(data: st.DataObject, dtype: str, lists: list[list[float]]) -> None:
    with np.errstate(all="ignore"):
        arrays = [np.array(values).astype(DTYPES[dtype]) for values in lists]
    k = data.draw(st.integers(0, sum(x.size for x in arrays)))
    want = top(arrays, k)
    for isa in every_isa():
        got = sf.select(arrays, k=k, scope="global")
        each = sf.select(arrays, density=0.5)
        for x, selection, indices in zip(arrays, got, want, strict=True):
            check(selection, x, indices, isa)
        for x, selection in zip(arrays, each, strict=True):
            half = max(1, math.floor(x.size / 2 + 0.5)) if x.size else 0
            check(selection, x, top([x], half)[0], isa)


def test_the_reference_would_notice_other_ties() -> None:
    x = np.array([1, 2, 1, 2, 1], np.float32)
    with pytest.raises(AssertionError):
        check(sf.select(x, k=3), x, np.array([1, 2, 3]))
    check(sf.select(x, k=3), x, np.array([0, 1, 3]))
    with pytest.raises(AssertionError):
        check(sf.select(x, k=2), -x, np.array([1, 3]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_nan_is_the_same_largest(isa: str, dtype: str) -> None:
    x = np.full(50, np.inf).astype(DTYPES[dtype])
    bits = x.view(f"u{x.itemsize}")
    # Signalling, quiet, negative, all bits: none of them ranks above another.
    inf = int(bits[0])
    sign = 1 << (8 * x.itemsize - 1)
    for i, pattern in enumerate([inf + 1, sign - 1, inf | (sign - inf) >> 1, 2 * sign - 1]):
        bits[10 * i + 5] = pattern
    for k in range(5):
        assert sf.select(x, k=k).indices.tolist() == [5, 15, 25, 35][:k]
    assert sf.select(x, k=6).indices.tolist() == [0, 1, 5, 15, 25, 35]
    assert math.isnan(sf.kth_magnitude(x, 4))
    assert sf.kth_magnitude(x, 5) == math.inf


def test_threads_and_isas_do_not_change_it(threads: Callable[[int], None]) -> None:
    x = heavy_tailed(600_001).astype(np.float32)
    x[::7] = np.float32(1.25)  # ties across every block
    want = {k: top([x], k)[0] for k in (100, 60_000, 150_000)}
    first = None
    for isa in every_isa():
        for count in (1, 2, 3, 4):
            threads(count)
            for k, indices in want.items():
                check(sf.select(x, k=k), x, indices, (isa, count, k))
            energy = _core.testing.energy(x, 40_000)
            first = first or energy
            assert energy == first


# --- Scope ----------------------------------------------------------------------------------------


def test_scopes(isa: str, threads: Callable[[int], None]) -> None:
    threads(3)
    sizes = [3, 0, 70_001, 5000, 1, 40_000]
    kinds = itertools.cycle(["float32", "bfloat16", "float16"])
    arrays = [
        (heavy_tailed(n, n).clip(-99, 99) * 2**i).astype(DTYPES[kind])
        for i, (n, kind) in enumerate(zip(sizes, kinds, strict=False))
    ]
    for k in (0, 1, 300, 9000, 60_000, sum(sizes)):
        got = sf.select(arrays, k=k, scope="global")
        for x, selection, want in zip(arrays, got, top(arrays, k), strict=True):
            check(selection, x, want, k)
        assert len({s.threshold for s in got}) == 1
    for x, selection in zip(arrays, sf.select(tuple(arrays), density=0.01), strict=True):
        k = max(1, math.floor(0.01 * x.size + 0.5)) if x.size else 0
        check(selection, x, top([x], k)[0])
    assert sf.select([], k=0, scope="global") == sf.select([], density=0.5) == []


def test_ties_across_arrays_go_to_the_first() -> None:
    arrays = [np.ones(n, np.float32) for n in (5000, 1, 9000, 70_000)]
    for k in (4999, 5000, 5001, 5002, 14_000, 14_001, 84_001):
        got = sf.select(arrays, k=k, scope="global")
        flat = np.cumsum([0, *(x.size for x in arrays)])
        for start, selection in zip(flat, got, strict=False):
            want = np.arange(start, min(k, start + 90_000)) - start
            assert np.array_equal(selection.indices, want[: len(selection.indices)])
        assert sum(len(s.indices) for s in got) == k
        assert [len(s.indices) for s in got] == np.diff(np.minimum(flat, k)).tolist()


@pytest.mark.parametrize(
    ("density", "n", "k"),
    [(0.0, 9, 0), (1e-9, 9, 1), (0.5, 9, 5), (0.05, 9, 1), (0.1, 25, 3), (0.3, 5, 2), (1.0, 7, 7)],
)
def test_density_is_rounded_to_a_number(density: float, n: int, k: int) -> None:
    x = np.arange(1, n + 1, dtype=np.float32)
    assert sf.select(x, density=density).indices.tolist() == list(range(n - k, n))


# --- Threshold ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 17, 97, 4097, 140_003])
def test_threshold(isa: str, dtype: str, n: int, threads: Callable[[int], None]) -> None:
    threads(2)
    x = special_values(DTYPES[dtype], n, np.random.default_rng(n))
    wide = np.abs(computed(x))
    for threshold in (0.0, 1e-300, 1e-3, 0.7, 1.0, 5.0, 300.0, 1e30, 1e300, math.inf):
        with np.errstate(over="ignore"):
            rounded = wide.dtype.type(threshold)
        want = np.flatnonzero(~(wide < rounded))
        got = sf.select(x, threshold=threshold)
        check(got, x, want, (isa, dtype, n, threshold))
        assert got.threshold == rounded
    assert len(sf.select(x, threshold=0.0).indices) == n


def test_threshold_is_rounded_as_a_comparison_rounds_it() -> None:
    x = np.array([0.7, 0.1], np.float32)
    assert float(x[0]) < 0.7  # in float64
    assert sf.select(x, threshold=0.7).indices.tolist() == np.flatnonzero(x >= 0.7).tolist() == [0]


def test_kth_magnitude() -> None:
    x = np.array([3.0, -7.0, 0.0, 5.0], np.float32)
    assert [sf.kth_magnitude(x, k) for k in (1, 2, 3, 4)] == [7.0, 5.0, 3.0, 0.0]
    assert sf.kth_magnitude([x, x * 2], 2) == [5.0, 10.0]
    assert sf.kth_magnitude([x, x * 2], 3, scope="global") == 7.0
    assert sf.select(x, k=0).threshold == math.inf


def test_energy(isa: str) -> None:
    for dtype, n in itertools.product(DTYPES, (1, 15, 16, 17, 100, 9001)):
        x = heavy_tailed(n, 3).astype(DTYPES[dtype])
        k = n // 3 + 1
        kept, rest = _core.testing.energy(x, k)
        chosen = np.zeros(n, bool)
        chosen[top([x], k)[0]] = True
        squares = [Fraction(float(v)) ** 2 for v in x]
        for got, mask in ((kept, chosen), (rest, ~chosen)):
            want = float(sum((s for s, m in zip(squares, mask, strict=True) if m), Fraction()))
            assert got == pytest.approx(want, rel=1e-14, abs=0)


# --- Arrays and arguments -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_strided_arrays(dtype: str) -> None:
    base = heavy_tailed(60 * 70).reshape(60, 70).astype(DTYPES[dtype])
    two = np.full(101, base[0, 0])
    two[7] = base[3, 3]
    laid_out = [lay(x) for lay in LAYOUTS.values() for x in (base, two)]
    views = [base.T, base[::-2, ::3], base[:, 5], np.broadcast_to(base[1], (4, 70))]
    for x in (*views, *laid_out):
        flat = np.ascontiguousarray(x)
        for k in (1, x.size // 2):
            check(sf.select(x, k=k), flat, top([flat], k)[0])


def test_index_dtype() -> None:
    x = heavy_tailed(100_000).astype(np.float32)
    for options in ({"k": 30}, {"k": 40_000}, {"threshold": 1.0}):
        long, short = (sf.select(x, **options, index_dtype=f"int{b}") for b in (64, 32))
        assert (long.indices.dtype, short.indices.dtype) == (np.int64, np.int32)
        assert np.array_equal(long.indices, short.indices)
        assert_same_bits(long.values, short.values)


def test_results_are_ordinary_arrays() -> None:
    selection = sf.select(heavy_tailed(1_000_000).astype(np.float32), density=0.6)
    for array in selection[:2]:
        assert type(array) is np.ndarray
        assert array.flags.writeable
        assert array.flags.aligned
        array[:] = 0


@pytest.mark.torch
@pytest.mark.parametrize("dtype", DTYPES)
def test_torch(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(heavy_tailed(2000)).to(getattr(torch, dtype)).reshape(40, 50)
    x.requires_grad_()
    for view in (x, x.T, x[::2]):
        got = sf.select(view, k=20)
        flat = view.detach().reshape(-1)
        assert got.indices.dtype == torch.int64
        assert not got.values.requires_grad
        assert torch.equal(got.values, flat[got.indices])
        want = torch.topk(flat.abs(), 20).values
        assert got.threshold == want[-1].item() == sf.kth_magnitude(view, 20)
    narrow, _ = sf.select([x, x.detach().double().numpy()], k=3, index_dtype="int32")
    assert narrow.indices.dtype == torch.int32


ONES = np.ones(4, np.float32)
ERRORS = [
    ({}, ValueError, "select: expected exactly one of threshold, density and k"),
    ({"k": 1, "density": 0.1}, ValueError, "select: expected exactly one"),
    ({"threshold": -1.0}, ValueError, r"threshold: expected a number >= 0, got -1\.0"),
    ({"threshold": math.nan}, ValueError, "threshold: expected a number >= 0, got nan"),
    ({"threshold": "much"}, TypeError, "threshold: expected a number, got str"),
    ({"density": 1.5}, ValueError, r"density: expected a number from 0 to 1, got 1\.5"),
    ({"density": math.nan}, ValueError, "density: expected a number from 0 to 1, got nan"),
    ({"density": []}, TypeError, "density: expected a number, got list"),
    ({"k": 5}, ValueError, "k: expected 0 to 4, the elements of x, got 5"),
    ({"k": -1}, ValueError, "k: expected an integer from 0 to"),
    ({"k": 2**64}, ValueError, "k: expected an integer from 0 to"),
    ({"k": 1.0}, TypeError, "k: expected an integer from 0 .* got 1.0"),
    ({"k": 1, "scope": "local"}, ValueError, "scope: expected 'tensor' or 'global', got 'local'"),
    ({"k": 1, "index_dtype": "int8"}, ValueError, "index_dtype: expected 'int64' or 'int32'"),
    ({"k": 1, "x": 3}, TypeError, "x: expected an array or a sequence of arrays, got int"),
    ({"k": 1, "x": [ONES, ONES.astype(int)]}, TypeError, r"x\[1\]: expected float32, float64"),
    ({"k": 5, "x": [ONES] * 2}, ValueError, r"k: expected 0 to 4, the elements of x\[0\], got 5"),
    (
        {"k": 9, "x": [ONES] * 2, "scope": "global"},
        ValueError,
        "k: expected 0 to 8, the elements of all arrays, got 9",
    ),
    (
        {"k": 1, "x": [ONES, ONES.astype(np.float64)], "scope": "global"},
        TypeError,
        r"x\[1\]: float64 cannot be ranked together with float32 of x\[0\]",
    ),
    (
        {"k": 1, "x": np.broadcast_to(ONES[:1], (2**31 + 1,)), "index_dtype": "int32"},
        ValueError,
        "index_dtype: int32 cannot number the 2147483649 elements of x",
    ),
]


@pytest.mark.parametrize(("options", "error", "text"), ERRORS)
def test_errors(options: dict, error: type[Exception], text: str) -> None:
    options = {"x": ONES, **options}
    with pytest.raises(error, match=text):
        sf.select(options.pop("x"), **options)


def test_errors_of_kth_magnitude() -> None:
    for k in (0, 5):
        with pytest.raises(ValueError, match="k: expected 1 to 4, the elements of x, got"):
            sf.kth_magnitude(ONES, k)
    with pytest.raises(TypeError, match=r"k: expected an integer from 0 .* got '1'"):
        sf.kth_magnitude(ONES, "1")
    with pytest.raises(ValueError, match="scope: "):
        sf.kth_magnitude(ONES, 1, scope="")
