"""The step on chosen elements, bit for bit: against the formula, and against the dense step with
gradients that are zero everywhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import (
    COMBINATIONS,
    DTYPES,
    L1_RULES,
    LAYOUTS,
    RULE,
    RULE_IDS,
    RULES,
    special_arrays,
)
from tests.oracles.chosen import masked, sgd_chosen

F32 = ("float32",) * 3


def some(n: int, k: int, rng: np.random.Generator, dtype: Any = np.int64) -> np.ndarray:
    """k positions of n, ascending."""
    return np.sort(rng.choice(n, k, replace=False)).astype(dtype)


def step_and_check(
    w: np.ndarray, g: np.ndarray, indices: np.ndarray, m: np.ndarray | None, **rule: Any
) -> None:
    want_w, want_m = sgd_chosen(w, g, indices, m, **rule)
    sf.support_step(w, g, indices, m, **rule)
    assert_same_bits(w, want_w, "param")
    if m is not None and want_m is not None:
        assert_same_bits(m, want_m, "momentum")


# --- against the formula -------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=RULE_IDS)
def test_every_rule(isa: str, rule: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    w, g, _ = special_arrays(F32, 90, rng)
    (m,) = special_arrays(("float32",), 33, rng)
    step_and_check(w, g, some(90, 33, rng), m if rule["momentum"] else None, **rule)


@pytest.mark.parametrize("rule", L1_RULES)
def test_every_rule_with_l1(rule: dict[str, Any]) -> None:
    rng = np.random.default_rng(2)
    w, g, _ = special_arrays(F32, 90, rng)
    (m,) = special_arrays(("float32",), 33, rng)
    terms = {"lr": 0.1, "l1": 0.5, **rule}
    step_and_check(w, g, some(90, 33, rng), m if rule["momentum"] else None, **terms)


@pytest.mark.parametrize("k", [0, 1, 16, 255, 256, 257, 600])
@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_every_dtype(isa: str, combination: tuple[str, str, str], k: int) -> None:
    rng = np.random.default_rng(k)
    w, g, _ = special_arrays(combination, 600, rng)
    (m,) = special_arrays(combination[2:], k, rng)
    step_and_check(w, g, some(600, k, rng, np.int32), m, nesterov=True, **RULE)


@pytest.mark.parametrize("param_layout", LAYOUTS)
@pytest.mark.parametrize("grad_layout", LAYOUTS)
def test_every_layout(param_layout: str, grad_layout: str) -> None:
    rng = np.random.default_rng(3)
    w, g, _ = (x.reshape(6, 5, 4) for x in special_arrays(F32, 120, rng))
    (m,) = special_arrays(("float32",), 50, rng)
    indices = some(120, 50, rng)
    want_w, want_m = sgd_chosen(w, g, indices, m, **RULE)
    laid = LAYOUTS[param_layout](w)
    sf.support_step(laid, LAYOUTS[grad_layout](g), indices, m, **RULE)
    assert_same_bits(laid, want_w)
    assert want_m is not None
    assert_same_bits(m, want_m)


@given(
    shape=st.lists(st.integers(0, 7), max_size=3),
    share=st.floats(0, 1),
    combination=st.sampled_from(COMBINATIONS),
    layout=st.sampled_from([*LAYOUTS]),
    seed=st.integers(0, 99),
    threads=st.integers(1, 3),
)
@settings(max_examples=150, deadline=None)
def test_any_elements(
    shape: list[int],
    share: float,
    combination: tuple[str, str, str],
    layout: str,
    seed: int,
    threads: int,
) -> None:
    rng = np.random.default_rng(seed)
    n = int(np.prod(shape))
    w, g, _ = (x.reshape(shape) for x in special_arrays(combination, n, rng))
    indices = some(n, round(share * n), rng)
    (m,) = special_arrays(combination[2:], len(indices), rng)
    want_w, _ = sgd_chosen(w, g, indices, m, **RULE)
    laid = LAYOUTS[layout](w) if w.ndim else w
    sf.set_num_threads(threads, adaptive=False)
    try:
        sf.support_step(laid, g, indices, m, **RULE)
    finally:
        sf.set_num_threads(0)
    assert_same_bits(laid, want_w)


def test_any_number_of_threads(threads: Any) -> None:
    rng = np.random.default_rng(4)
    shapes = [(300, 400), (7,), (64, 3, 50)]
    found = []
    for count in (1, 2, 3):
        threads(count)
        rng = np.random.default_rng(4)
        w = [rng.standard_normal(s).astype(np.float32) for s in shapes]
        g = [rng.standard_normal(s).astype(np.float32) for s in shapes]
        at = [some(x.size, x.size // 5, rng) for x in w]
        m = [rng.standard_normal(len(i)).astype(np.float32) for i in at]
        norm = sf.support_step(w, g, at, m, max_norm=0.5, **RULE)
        found.append((norm, [x.tobytes() for x in (*w, *m)]))
    assert found[0] == found[1] == found[2]


# --- clipping: the bits of dense gradients that are zero elsewhere --------------------------------


CLIPS: list[dict[str, Any]] = [
    {"max_norm": 0.5},
    {"max_norm": 0.5, "max_norm_scope": "tensor"},
    {"max_norm": 1e9, "clip_value": 0.01},
    {"clip_value": 0.3, "grad_scale": 64.0},
    {"skip_nonfinite": True, "grad_scale": 3.0},
]


@pytest.mark.parametrize("clip", CLIPS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["c", "f", "sliced", "reversed_ends", "unaligned"])
def test_clipping_is_that_of_masked_gradients(
    isa: str, layout: str, dtype: str, clip: dict[str, Any]
) -> None:
    rng = np.random.default_rng(5)
    lay, kind = LAYOUTS[layout], DTYPES[dtype]
    shapes = [(9000,), (70, 30, 4), (3, 5)]
    w = [lay(rng.standard_normal(s).astype(kind)) for s in shapes]
    g = [lay(rng.standard_normal(s).astype(kind)) for s in shapes]
    at = [some(x.size, x.size // 7, rng) for x in w]
    m = [rng.standard_normal(len(i)).astype(kind) for i in at]
    dense_w = [lay(np.array(x)) for x in w]
    dense_g = [lay(masked(x, i)) for x, i in zip(g, at, strict=True)]
    dense_m = [np.zeros(s, kind) for s in shapes]
    for x, i, values in zip(dense_m, at, m, strict=True):
        x.reshape(-1)[i] = values
    terms = {"lr": 0.1, "momentum": 0.9}
    norm = sf.support_step(w, g, at, m, **terms, **clip)
    assert norm == sf.sgd_step(dense_w, dense_g, dense_m, **terms, **clip)
    for x, y, i, values, buffer in zip(w, dense_w, at, m, dense_m, strict=True):
        taken = np.unravel_index(i, x.shape)
        assert_same_bits(x[taken], y[taken], "param")
        assert_same_bits(values, buffer.reshape(-1)[i], "momentum")


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_squares_beyond_float64(size: float) -> None:
    g = np.full(9000, size)
    g[::3] *= 7
    at = np.arange(0, 9000, 7)
    norm = sf.support_step(np.zeros(9000), g, at, lr=0.1, max_norm=1.0)
    assert norm == sf.total_norm(masked(g, at)) > 0


def test_what_is_not_finite_counts_where_it_is_chosen() -> None:
    w, g = np.ones(100, np.float32), np.ones(100, np.float32)
    g[7] = np.inf
    norm = sf.support_step(w, g, np.array([6, 7]), lr=0.1, skip_nonfinite=True)
    assert norm == np.inf
    assert (w == 1).all()
    norm = sf.support_step(w, g, np.array([6, 8]), lr=0.5, skip_nonfinite=True)
    assert norm == np.sqrt(2)
    assert w[[6, 8]].tolist() == [0.5, 0.5]
    assert (np.delete(w, [6, 8]) == 1).all()


def test_nothing_else_is_read_or_written() -> None:
    w, g = np.full(5000, np.nan, np.float32), np.full(5000, np.nan, np.float32)
    at = np.arange(3, 5000, 11)
    w[at], g[at] = 1, 0.5
    norm = sf.support_step(w, g, at, lr=1.0, max_norm=1e9)
    assert norm == sf.total_norm(np.full(len(at), 0.5, np.float32))
    assert (w[at] == 0.5).all()
    assert np.isnan(np.delete(w, at)).all()


def test_float64_gradients_are_taken_as_float32() -> None:
    rng = np.random.default_rng(6)
    w, g = rng.standard_normal(50).astype(np.float32), rng.standard_normal(50)
    same, at = w.copy(), np.arange(0, 50, 3)
    sf.support_step(w, g, at, lr=0.1)
    sf.support_step(same, g.astype(np.float32), at, lr=0.1)
    assert_same_bits(w, same)


# --- wrong arguments ------------------------------------------------------------------------------


def ones(n: int = 8) -> np.ndarray:
    return np.ones(n, np.float32)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"indices": np.array([3, 2])}, ValueError, "indices: expected ascending numbers, got 2"),
        ({"indices": np.array([3, 3])}, ValueError, "indices: expected ascending numbers, got 3"),
        ({"indices": np.array([8])}, ValueError, "indices: 8 at position 0 is outside the 8"),
        ({"indices": np.array([-1])}, ValueError, "indices: -1 at position 0 is outside the 8"),
        ({"indices": ones(2)}, TypeError, "indices: expected int32 or int64 in one dimension"),
        ({"indices": np.array([[1]])}, TypeError, "indices: expected int32 or int64 in one"),
        ({"indices": [np.array([1])] * 2}, ValueError, "indices: expected 1 arrays like params"),
        ({"grads": ones(7)}, ValueError, "grads: expected shape (8,) like params"),
        ({"grads": np.ones(8, int)}, TypeError, "grads: "),
        ({"momentum_buffers": ones(3)}, ValueError, "momentum_buffers: expected shape (2,)"),
        ({"momentum_buffers": None}, ValueError, "momentum_buffers: needed, since momentum"),
        ({"momentum_buffers": np.ones(2)}, TypeError, "momentum_buffers: expected float32"),
        ({"momentum_buffers": ones(4)[::2]}, ValueError, "momentum_buffers: expected contiguous"),
        ({"params": [ones(), ones()]}, ValueError, "indices: expected 2 arrays like params"),
        ({"params": np.broadcast_to(ones(1), 8)}, ValueError, "params: is read-only"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], error: Any, message: str) -> None:
    arguments = {"params": ones(), "grads": ones(), "indices": np.array([1, 5]),
                 "momentum_buffers": ones(2), "lr": 0.1, "momentum": 0.9, **change}  # fmt: skip
    before = np.array(arguments["params"])
    with pytest.raises(error) as raised:
        sf.support_step(**arguments)
    assert str(raised.value).startswith(message)
    assert_same_bits(np.array(arguments["params"]), before)


def test_shared_memory_is_refused() -> None:
    memory, at = ones(20), np.array([1, 5])
    with pytest.raises(ValueError, match=r"params\[1\]: shares memory with params\[0\]"):
        sf.support_step([memory[:8], memory[7:15]], [ones(), ones()], [at, at], lr=0.1)
    with pytest.raises(ValueError, match=r"grads: shares memory with params"):
        sf.support_step(memory[:8], memory[1:9], at, lr=0.1)
    sf.support_step(memory[:8], memory[:8], at, lr=0.5)  # the very memory: read before written
    assert memory[at].tolist() == [0.5, 0.5]


def test_the_index_of_an_array_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"indices\[1\]: 9 at position 0 is outside the 8 elements"
    ):
        sf.support_step([ones(), ones()], [ones(), ones()], [np.array([1]), np.array([9])], lr=0.1)
