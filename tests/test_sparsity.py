"""Sparse weights against their formulas in NumPy, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import (
    COMBINATIONS,
    DTYPES,
    LENGTHS,
    assert_same_bits,
    fma,
    sgd,
    soft_threshold,
    special_values,
)

import subgrad_fast as sf
from subgrad_fast import _core

Array = np.ndarray[Any, Any]


def wide(dtype: np.dtype) -> Any:
    """What an element type is computed in."""
    return np.float64 if dtype == np.float64 else np.float32


def want_soft(x: Array, lam: float, l2: float = 0.0) -> Array:
    c = wide(x.dtype)
    with np.errstate(all="ignore"):
        return (soft_threshold(x.astype(c), c(lam)) * c(1.0 / (1.0 + l2))).astype(x.dtype)


def want_group(x: Array, lam: float) -> Array:
    """Row sums as documented: 16 sums of every 16th element a block of 512, halves folded."""
    rows = x.reshape(len(x), x.size // max(len(x), 1))
    c = wide(x.dtype)
    total = np.zeros(len(rows))
    with np.errstate(all="ignore"):
        for start in range(0, rows.shape[1], 512):
            block = rows[:, start : start + 512].astype(np.float64)
            block = np.pad(block, ((0, 0), (0, -block.shape[1] % 16)))
            sums = np.zeros((len(rows), 16))
            for step in np.split(block, block.shape[1] // 16, axis=1):
                # The square of anything narrower than float64 is exact.
                exact = x.dtype != np.float64
                sums = sums + step * step if exact else fma(step, step, sums)
            for half in (8, 4, 2, 1):
                sums = sums[:, :half] + sums[:, half : 2 * half]
            total += sums[:, 0]
        scale = (1.0 - lam / np.sqrt(total))[:, None]
        out = (rows.astype(c) * scale.astype(c)).astype(x.dtype)
    return np.where(scale <= 0, np.zeros_like(out), out).reshape(x.shape)


def want_largest(rows: Array, k: int) -> Array:
    """The k largest magnitudes of every row; NaN before all others, else the first of equals."""
    values = rows.astype(np.float64)
    kept = np.lexsort((-np.abs(values), ~np.isnan(values)), axis=-1)[:, :k]
    out = np.zeros_like(rows)
    np.put_along_axis(out, kept, np.take_along_axis(rows, kept, -1), -1)
    return out


def want_n_m(x: Array, n: int, m: int) -> Array:
    return want_largest(x.reshape(-1, m), n).reshape(x.shape)


def want_hard(x: Array, density: float) -> Array:
    k = max(int(np.floor(density * x.size + 0.5)), min(x.size, 1))
    return want_largest(x.reshape(1, -1), k).reshape(x.shape)


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


# --- one array ----------------------------------------------------------------------------------


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


def strided(kind: str, dtype: np.dtype, rng: np.random.Generator) -> Array:
    """An array of shape (12, 8, 20) in another order or distance in memory."""
    if kind == "transposed":
        return special_values(dtype, 1920, rng).reshape(20, 8, 12).T
    if kind == "sliced":
        return special_values(dtype, 24 * 16 * 60, rng).reshape(24, 16, 60)[::2, ::2, ::3]
    if kind == "backwards":
        return special_values(dtype, 1920, rng).reshape(12, 8, 20)[::-1, :, ::-1]
    if kind == "unaligned":
        raw = np.empty(1920 * dtype.itemsize + 1, np.uint8)[1:].view(dtype)
        raw[:] = special_values(dtype, 1920, rng)
        return raw.reshape(12, 8, 20)
    return special_values(dtype, 1920, rng).reshape(12, 8, 20)


@pytest.mark.parametrize("kind", ["transposed", "sliced", "backwards", "unaligned"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_order_in_memory(isa: str, dtype: str, kind: str, operation: Any) -> None:
    change, want = operation
    x = strided(kind, DTYPES[dtype], np.random.default_rng(2))
    if dtype == "float64":
        x = x[:3]
    assert not (x.flags.c_contiguous and x.flags.aligned)
    expected = want(np.ascontiguousarray(x))
    change(x)
    assert_same_bits(x, expected, f"{isa} {dtype} {kind}")


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


# --- masks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_masks_of_every_length_and_order(isa: str, dtype: str) -> None:
    rng = np.random.default_rng(6)
    for n in LENGTHS:
        for share in (0.0, 0.5, 0.99, 1.0):
            x, mask = special_values(DTYPES[dtype], n, rng), rng.random(n) < share
            want = np.where(mask, x, np.zeros_like(x))
            sf.apply_mask_(x, mask)
            assert_same_bits(x, want)
    for kind in ("plain", "transposed", "sliced", "backwards", "unaligned"):
        x = strided(kind, DTYPES[dtype], rng)
        for mask in (rng.random(x.shape) < 0.5, rng.random(x.T.shape).T < 0.5):
            want = np.where(mask, x, np.zeros_like(x))
            got = x.copy(order="K") if kind == "plain" else x
            sf.apply_mask_(got, mask)
            assert_same_bits(got, want)


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_masked_parameter_stays_zero(isa: str, nesterov: bool) -> None:
    rng = np.random.default_rng(7)
    params = [rng.standard_normal(s).astype(np.float32) for s in ((30, 40), (97,))]
    for p in params:
        p[rng.random(p.shape) < 0.8] = 0
    zeros = [p == 0 for p in params]
    step = sf.FusedSGD(params, lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.01)
    mask = sf.Mask(params)
    assert mask.density == pytest.approx(0.2, abs=0.05)
    for _ in range(30):
        step([rng.standard_normal(p.shape).astype(np.float32) for p in params])
        moved = [bool(p[z].any()) for p, z in zip(params, zeros, strict=True)]
        assert all(moved)  # the control: without the mask they are other than zero
        mask.apply(step.momentum_buffers)
        for array, z in zip(params + step.momentum_buffers, zeros * 2, strict=True):
            assert_same_bits(array[z], np.zeros(z.sum(), np.float32))
            assert np.count_nonzero(array[~z]) == (~z).sum()


def test_a_masks_state() -> None:
    p = np.array([1, 0, 2, 0], np.float32)
    mask = sf.Mask(p)
    state = mask.state_dict()
    p[:] = [0, 5, 6, 7]
    mask.apply()
    assert p.tolist() == [0, 0, 6, 0]
    mask.record()
    assert mask.density == 0.25
    p[:] = 1
    mask.load_state_dict(state)
    assert p.tolist() == [1, 0, 1, 0]
    assert mask.density == 0.5
    with pytest.raises(ValueError, match=r"mask\[0\]: expected shape \(4,\)"):
        mask.load_state_dict({"masks": [np.ones(5, bool)]})
    assert mask.density == 0.5
    given = sf.Mask([p], [np.array([True, False, False, False])])
    assert p.tolist() == [1, 0, 0, 0]
    assert given.density == 0.25
    assert sf.Mask([]).density == 1.0


# --- in the step --------------------------------------------------------------------------------

L1_RULES = [
    {"momentum": momentum, "nesterov": nesterov, "weight_decay": decay, "first_step": first}
    | ({"decoupled_weight_decay": True} if decoupled else {})
    for momentum, nesterov, first in (
        (0.0, False, False),
        (0.9, False, False),
        (0.9, False, True),
        (0.9, True, False),
        (0.9, True, True),
    )
    for decay, decoupled in ((0.0, False), (0.02, False), (0.02, True))
]


@pytest.mark.parametrize("rule", L1_RULES, ids=lambda r: "-".join(f"{v}" for v in r.values()))
def test_l1_in_every_rule(isa: str, rule: dict[str, Any]) -> None:
    rng = np.random.default_rng(8)
    for combination in COMBINATIONS:
        for l1 in (3.0, 1e-44):  # the second makes lr * l1 vanish in float32
            w, g, m = (special_values(DTYPES[name], 41, rng) for name in combination)
            buffers = m if rule["momentum"] else None
            want_w, want_m = sgd(w, g, buffers, lr=0.1, l1=l1, **rule)
            sf.sgd_step(w, g, buffers, lr=0.1, l1=l1, **rule)
            assert_same_bits(w, want_w, f"{isa} {combination}")
            if want_m is not None:
                assert_same_bits(m, want_m, f"{isa} {combination}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 97, 70_001])
def test_l1_is_the_step_and_then_the_shrinkage(isa: str, dtype: str, n: int) -> None:
    rng = np.random.default_rng(9)
    w, g, m = (rng.standard_normal(n).astype(dtype) for _ in range(3))
    other_w, other_m = w.copy(), m.copy()
    for _ in range(3):
        sf.sgd_step(w, g, m, lr=0.1, momentum=0.9, l1=2.0)
        sf.sgd_step(other_w, g, other_m, lr=0.1, momentum=0.9)
        sf.soft_threshold_(other_w, 0.1 * 2.0)
        assert_same_bits(w, other_w)
        assert_same_bits(m, other_m)
    assert n == 1 or np.count_nonzero(w) < n


def test_fused_sgd_takes_l1_and_lets_it_change() -> None:
    w = np.array([1.0, -0.25], np.float32)
    step = sf.FusedSGD(w, lr=0.5, l1=1.0)
    step(np.zeros(2, np.float32))
    assert_same_bits(w, np.array([0.5, 0], np.float32))
    step.l1 = 0.0
    step(np.zeros(2, np.float32))
    assert w[0] == 0.5
    step.l1 = -1.0
    with pytest.raises(ValueError, match="l1: expected a number >= 0, got -1"):
        step(np.zeros(2, np.float32))


# --- errors -------------------------------------------------------------------------------------


def read_only() -> Array:
    x = np.ones(8, np.float32)
    x.flags.writeable = False
    return x


ONES = np.ones(8, np.float32)
BAD_ARRAYS = [
    (1.0, TypeError, "x: expected"),
    ([ONES.copy(), "no"], TypeError, r"x\[1\]: expected a NumPy array or torch tensor, got str"),
    (np.ones(8, np.int32), TypeError, "x: expected float32, float64, bfloat16 or float16, got int"),
    ([ONES.copy(), read_only()], ValueError, r"x\[1\]: is read-only"),
    ([(memory := ONES.copy()), memory[4:]], ValueError, r"x\[1\]: shares memory with x\[0\]"),
]


@pytest.mark.parametrize("case", BAD_ARRAYS, ids=lambda c: c[2])
@pytest.mark.parametrize(
    "change",
    [
        lambda x: sf.soft_threshold_(x, 1.0),
        lambda x: sf.group_soft_threshold_(x, 1.0),
        sf.n_m_,
        lambda x: sf.hard_threshold_(x, k=1),
        lambda x: sf.apply_mask_(x, [np.ones(8, bool)] * (1 + isinstance(x, list))),
    ],
    ids=["soft", "group", "2:4", "hard", "mask"],
)
def test_bad_arrays(change: Any, case: Any) -> None:
    x, error, message = case
    with pytest.raises(error, match=message):
        change(x)
    if isinstance(x, list):
        assert (x[0] == 1).all(), "written to before the error"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: sf.soft_threshold_(x, -1), "lam: expected a finite number >= 0, got -1"),
        (lambda x: sf.soft_threshold_(x, np.nan), "lam: expected a finite number"),
        (lambda x: sf.group_soft_threshold_(x, np.inf), "lam: expected a finite number"),
        (lambda x: sf.elastic_net_(x, 1, -2), "l2: expected a finite number >= 0, got -2"),
        (lambda x: sf.elastic_net_(x, -1, 2), "l1: expected a finite number >= 0, got -1"),
        (sf.hard_threshold_, "hard_threshold_: expected exactly one of threshold, density"),
        (lambda x: sf.hard_threshold_(x, k=1, density=1), "hard_threshold_: expected exactly one"),
        (lambda x: sf.hard_threshold_(x, k=9), "k: expected 0 to 8, the elements of x, got 9"),
        (lambda x: sf.hard_threshold_([x, x[:0]], k=1), r"k: expected 0 to 0, .* of x\[1\], got 1"),
        (lambda x: sf.hard_threshold_(x, k=-1), r"k: expected 0 to 2\*\*63 - 1, got -1"),
        (lambda x: sf.hard_threshold_([x], k=9, scope="global"), "k: expected 0 to 8, .* all arr"),
        (lambda x: sf.hard_threshold_(x, density=1.1), "density: expected 0 to 1, got 1.1"),
        (lambda x: sf.hard_threshold_(x, threshold=np.nan), "threshold: expected a number >= 0"),
        (lambda x: sf.hard_threshold_(x, k=1, scope="all"), "scope: expected 'tensor' or 'global'"),
        (lambda x: sf.n_m_(x, 2, 0), "m: expected 1 <= m <= 32, got 0"),
        (lambda x: sf.n_m_(x, 2, 33), "m: expected 1 <= m <= 32, got 33"),
        (lambda x: sf.n_m_(x, 5, 4), "n: expected 0 <= n <= m = 4, got 5"),
        (lambda x: sf.n_m_([x, x[:3].copy()]), r"x\[1\]: .* multiple of 4, got shape \(3,\)"),
        (lambda x: sf.n_m_(x[:1].reshape(())), r"x: .* multiple of 4, got shape \(\)"),
        (lambda x: sf.apply_mask_(x, np.ones(7, bool)), r"mask: expected shape \(8,\) like x"),
        (lambda x: sf.apply_mask_([x], [np.ones((8, 1), bool)]), r"mask\[0\]: expected shape"),
        (lambda x: sf.apply_mask_([x], []), "mask: expected 1 arrays like x, got 0"),
        (lambda x: sf.sgd_step(x, ONES, lr=1, l1=-1), "l1: expected a number >= 0"),
        (lambda x: sf.FusedSGD(x, lr=1, l1=np.nan), "l1: expected a number >= 0"),
    ],
)
def test_bad_numbers_and_shapes(call: Any, message: str) -> None:
    x = np.ones(8, np.float32)
    with pytest.raises(ValueError, match=message):
        call(x)
    assert (x == 1).all()


def test_float64_is_not_ranked_with_others() -> None:
    arrays = [np.ones(3, np.float32), np.ones(3, np.float64)]
    with pytest.raises(TypeError, match=r"x\[1\]: float64 cannot be ranked together with float32"):
        sf.hard_threshold_(arrays, k=1, scope="global")
    assert all(a.all() for a in arrays)
    sf.hard_threshold_(arrays, k=1)
    assert all(np.count_nonzero(a) == 1 for a in arrays)


def test_a_mask_must_be_bool() -> None:
    with pytest.raises(TypeError, match="mask: expected bool, got uint8"):
        sf.apply_mask_(ONES.copy(), np.ones(8, np.uint8))


def test_isas_agree() -> None:
    rng = np.random.default_rng(10)
    start = [special_values(d, 4096, rng).reshape(8, 512) for d in DTYPES.values()]
    results = []
    for name in sf.available_isas():
        _core.select_isa(name)
        arrays = [a.copy() for a in start]
        for change, _ in OPERATIONS.values():
            change(arrays)
        results.append(arrays)
    _core.select_isa(None)
    for arrays in results[1:]:
        for got, want in zip(arrays, results[0], strict=True):
            assert_same_bits(got, want)
