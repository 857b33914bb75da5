"""float64 gradients of parameters with fewer bits, and NumPy's numbers as arrays."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import DTYPES, special_values

SIZES = [0, 1, 7, 8, 9, 31, 33, 511, 512, 513, 4097, 300_007]


def wide(n: int, rng: np.random.Generator) -> np.ndarray:
    """float64 numbers, most of which float32 does not hold, and some beyond its range."""
    x = rng.standard_normal(n) * 10.0 ** rng.integers(-48, 42, n)
    x[: min(n, 6)] = [np.nan, np.inf, -np.inf, -0.0, 1e300, 5e-324][:n]
    return x


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("n", SIZES)
def test_the_bits_are_those_of_astype(dtype: str, n: int, threads: Callable[[int], None]) -> None:
    rng = np.random.default_rng(n)
    g = wide(n, rng)
    w, m = (special_values(DTYPES[dtype], n, rng) for _ in range(2))
    terms = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}
    want_w, want_m = w.copy(), m.copy()
    sf.sgd_step(want_w, g.astype(np.float32), want_m, **terms)
    for count in (1, 2, 3):
        threads(count)
        got_w, got_m, same = w.copy(), m.copy(), g.copy()
        sf.sgd_step(got_w, same, got_m, **terms)
        assert_same_bits(got_w, want_w)
        assert_same_bits(got_m, want_m)
        assert_same_bits(same, g)


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": lambda a: a,
    "F": np.asfortranarray,
    "every second": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "backwards": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
    "three dimensions": lambda a: a.reshape(a.shape[0], 2, -1).transpose(2, 0, 1),
}


@pytest.mark.parametrize("param", ["C", "F", "every second", "backwards", "three dimensions"])
@pytest.mark.parametrize("grad", LAYOUTS)
def test_whatever_way_both_lie(param: str, grad: str) -> None:
    rng = np.random.default_rng(3)
    w = LAYOUTS[param](rng.standard_normal((37, 26)).astype(np.float32))
    g = LAYOUTS[grad](rng.standard_normal((37, 26)))
    if w.shape != g.shape:
        g = LAYOUTS["F"](g.reshape(-1)[: w.size].reshape(w.shape))
    want = w.copy()
    sf.sgd_step(want, g.astype(np.float32), lr=0.1)
    sf.sgd_step(w, g, lr=0.1)
    assert_same_bits(w, want)


def test_a_plan_takes_both_in_turn() -> None:
    rng = np.random.default_rng(1)
    start = [rng.standard_normal(s).astype(np.float32) for s in ((5, 3), (), (64,))]
    ours, theirs = [w.copy() for w in start], [w.copy() for w in start]
    mine, other = (sf.FusedSGD(w, lr=0.1, momentum=0.9, max_norm=0.5) for w in (ours, theirs))
    for step in range(5):
        grads = [np.asarray(rng.standard_normal(w.shape)) for w in start]
        mine(grads if step % 2 else [g.astype(np.float32) for g in grads])
        other([g.astype(np.float32) for g in grads])
        assert mine.grad_norm == other.grad_norm
    for a, b in zip(ours, theirs, strict=True):
        assert_same_bits(a, b)


def _stages(w: np.ndarray, g: np.ndarray) -> Any:
    ema = np.zeros_like(w)
    norm = sf.sgd_step(w, g, lr=0.1, grad_scale=3.0, max_norm=0.7, clip_value=0.1, ema=ema,
                       ema_decay=0.5)  # fmt: skip
    return norm, ema.tobytes()


def _threshold(w: np.ndarray, g: np.ndarray) -> Any:
    residual, momentum = np.zeros_like(w), np.zeros_like(w)
    result = sf.threshold_step(w, g, residual, momentum, lr=0.1, momentum=0.9, density=0.1,
                               emit="int64", measure=True)  # fmt: skip
    (found,) = result.selections
    return residual.tobytes(), found.indices.tobytes(), found.values.tobytes(), result.energies


def _rows(w: np.ndarray, g: np.ndarray) -> Any:
    return sf.row_step(w, (np.arange(len(g))[::-1] % 7, g), lr=0.1, max_norm=0.3)


@pytest.mark.parametrize("work", [_stages, _threshold, _rows])
def test_other_steps_take_them_too(work: Callable[..., Any]) -> None:
    rng = np.random.default_rng(2)
    for shape in ((9, 5), (70, 41)):
        w = rng.standard_normal(shape).astype(np.float32)
        for g in (rng.standard_normal(shape), rng.standard_normal(shape[::-1]).T):
            ours, theirs = w.copy(), w.copy()
            assert work(ours, g) == work(theirs, g.astype(np.float32))
            assert_same_bits(ours, theirs)


def test_what_does_not_fit_is_still_refused() -> None:
    w = np.ones((3, 4), np.float32)
    with pytest.raises(
        ValueError, match=r"grads: expected shape \(3, 4\) like params, got float64"
    ):
        sf.sgd_step(w, np.ones((4, 3)), lr=0.5)
    with pytest.raises(TypeError, match=r"momentum_buffers: expected float32"):
        sf.sgd_step(w, np.ones((3, 4)), np.ones((3, 4)), lr=0.5, momentum=0.9)
    with pytest.raises(TypeError, match=r"grads: expected float32, float64, .* got int64"):
        sf.sgd_step(w, np.ones((3, 4), int), lr=0.5)
    assert (w == 1).all()


def test_memory_is_given_back() -> None:
    w, g = np.ones(1 << 18, np.float32), np.ones(1 << 18)
    step = sf.FusedSGD(w, lr=0.0)
    step(g)
    tracemalloc.start()
    for _ in range(20):
        step(g)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1 << 16


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), np.float16(0.5)])
def test_a_number_is_the_gradient_of_an_array_without_dimensions(number: Any) -> None:
    w = np.array(1.0, np.float32)
    sf.sgd_step(w, number, lr=1.0)
    assert w == 0.5
    sf.FusedSGD(w, lr=1.0)(number)
    assert w == 0.0
    sf.sgd_step([w, w.copy()], [number, number], lr=1.0)
    assert w == -0.5
    assert sf.total_norm([number, number]) == np.sqrt(0.5)


def test_numpys_own_loop_on_an_array_without_dimensions() -> None:
    x, w = np.arange(4.0, dtype=np.float32), np.array(0.0, np.float32)
    step = sf.FusedSGD(w, lr=0.05)
    for _ in range(100):
        step(x @ (x * w - 3 * x) / 4)  # a number of NumPy's, float32 or float64
    assert abs(float(w) - 3) < 1e-3


def test_a_number_is_not_written() -> None:
    number = np.float32(1)
    for work in (
        lambda: sf.sgd_step(number, np.float32(1), lr=0.5),
        lambda: sf.FusedSGD(number, lr=0.5),
        lambda: sf.soft_threshold_(number, 0.5),
        lambda: sf.clip_grad_value_(number, 0.5),
    ):
        with pytest.raises(ValueError, match="is read-only"):
            work()
    assert number == 1


@pytest.mark.parametrize("wrong", [0.5, 1, np.int64(1), np.complex64(1), np.bool_(1), np.str_("x")])
def test_other_numbers_are_no_arrays(wrong: Any) -> None:
    w = np.array(1.0, np.float32)
    with pytest.raises(TypeError, match=r"^grads: expected "):
        sf.sgd_step(w, wrong, lr=1.0)
    assert w == 1
