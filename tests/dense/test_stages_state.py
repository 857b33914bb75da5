"""FusedSGD with stages: what it holds, resumes and lets change; errors, and nothing written."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast import _core
from tests.bits import assert_same_bits
from tests.cases import COMBINATIONS, DTYPES
from tests.dense.stages import Arrays, Types, finite_values, make, step
from tests.oracles import clip as oracle
from tests.threads import run_threads

TERMS: dict[str, Any] = {
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 0.01,
    "grad_scale": 16.0,
    "max_norm": 0.5,
    "clip_value": 0.1,
    "skip_nonfinite": True,
}


def warm_up(n: int) -> float:
    return min(0.99, (1 + n) / (10 + n))


# --- the class is the function --------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["global", "group", "tensor"])
@pytest.mark.parametrize("types", COMBINATIONS, ids="-".join)
def test_fused_sgd_is_sgd_step(types: Types, scope: str) -> None:
    a = make(types, [41, 3, 0])
    b = a.copy()
    buffers = "float32" if types[2] == "float32" and types[0] != "float32" else None
    fused = sf.FusedSGD(
        a.params, **TERMS, max_norm_scope=scope, ema_decay=0.9, momentum_dtype=buffers
    )
    for i in range(4):
        a.grads = b.grads = make(types, [41, 3, 0], i).grads
        fused(a.grads)
        norm = step(b, **TERMS, max_norm_scope=scope, ema_decay=0.9, first_step=i == 0)
        assert fused.grad_norm == norm
    for got, want in (
        (a.params, b.params),
        (fused.momentum_buffers, b.momenta),
        (fused.ema, b.ema),
    ):
        for x, y in zip(got, want, strict=True):
            assert_same_bits(x, y)


def test_the_norm_is_kept_where_it_is_found() -> None:
    g = np.array([3, 4], np.float32)
    fused = sf.FusedSGD(np.zeros(2, np.float32), lr=0.1, grad_scale=0.5)
    assert fused.grad_norm is None
    fused(g)
    assert fused.grad_norm is None
    fused.measure_norm = True
    fused(g)
    assert fused.grad_norm == 10.0
    fused.measure_norm, fused.skip_nonfinite = False, True
    fused(g * np.float32(math.inf))
    assert fused.grad_norm == math.inf
    fused.skip_nonfinite, fused.max_norm = False, 1.0
    fused(g)
    assert fused.grad_norm == 10.0


def test_terms_may_change_between_steps() -> None:
    w, g = np.zeros(2, np.float32), np.array([3, 4], np.float32)
    fused = sf.FusedSGD(w, lr=1.0)
    fused(g)
    assert_same_bits(w, -g)
    fused.max_norm = 1.0
    fused(g)
    c = np.float32(oracle.coefficient(5, 1, np.float32))
    want = -g - g * c
    assert_same_bits(w, want)
    assert fused.ema == []
    fused.ema_decay, fused.max_norm, fused.clip_value = 0.5, None, 0.0
    fused(g)
    assert_same_bits(fused.ema[0], want)
    fused.ema_decay = None  # the average stays as it is
    fused.clip_value = 1.0
    fused(g)
    assert_same_bits(fused.ema[0], want)
    assert_same_bits(w, want - 1)
    fused.grad_scale, fused.clip_value, fused.lr = np.float64(2), None, np.float32(2.0)
    fused(g)
    assert_same_bits(w, want - 1 - g)


@pytest.mark.parametrize("dtype", DTYPES)
def test_averages_are_of_the_parameters_library(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    wide = torch.float64 if dtype == "float64" else torch.float32
    w = torch.ones(5, 4, dtype=getattr(torch, dtype)).t()
    fused = sf.FusedSGD([w, np.ones(3, DTYPES[dtype])], lr=0.5, ema_decay=0.5)
    e, other = fused.ema
    assert e.dtype == wide and e.shape == w.shape and e.stride() == w.stride()
    assert other.dtype == (np.float64 if dtype == "float64" else np.float32)
    fused([torch.ones_like(w), np.ones(3, DTYPES[dtype])])
    assert (e == 0.5).all() and (other == 0.5).all()


# --- averages -------------------------------------------------------------------------------------


def test_a_decay_may_depend_on_the_step(isa: str) -> None:
    rng = np.random.default_rng(1)
    w = finite_values("float32", 50, rng)
    asked: list[int] = []

    def decay(n: int) -> float:
        asked.append(n)
        return warm_up(n)

    fused = sf.FusedSGD(w, lr=0.1, ema_decay=decay, skip_nonfinite=True)
    want: np.ndarray | None = None
    for i in range(5):
        g = finite_values("float32", 50, rng)
        if i == 2:
            g[0] = np.nan  # is no step
        asked.clear()
        fused(g)
        steps = i if i <= 2 else i - 1
        assert asked == [steps]
        if i != 2:
            want = w.copy() if want is None else oracle.average(want, w, warm_up(steps))
        assert want is not None
        assert_same_bits(fused.ema[0], want)


@pytest.mark.parametrize("decay", [0.9, warm_up])
@pytest.mark.parametrize("done", [0, 1, 3])
def test_it_resumes_bit_for_bit(decay: Any, done: int) -> None:
    rng = np.random.default_rng(4)
    grads = [finite_values("bfloat16", 9, rng) for _ in range(6)]
    w = np.zeros(9, DTYPES["bfloat16"])
    terms = {**TERMS, "ema_decay": decay}
    fused = sf.FusedSGD(w, **terms)
    for g in grads[:done]:
        fused(g)
    saved, w2 = pickle.loads(pickle.dumps(fused.state_dict())), w.copy()
    for g in grads[done:]:
        fused(g)
    resumed = sf.FusedSGD(w2, **terms)
    resumed.load_state_dict(saved)
    for g in grads[done:]:
        resumed(g)
    assert_same_bits(w2, w)
    assert_same_bits(resumed.ema[0], fused.ema[0])
    assert_same_bits(resumed.momentum_buffers[0], fused.momentum_buffers[0])
    # The control: without the state it is another run.
    fresh = sf.FusedSGD(w2.copy(), **terms)
    fresh(grads[0])
    assert not np.array_equal(fresh.ema[0], fused.ema[0])


def test_states_with_and_without_averages() -> None:
    w, g = np.zeros(3, np.float32), np.ones(3, np.float32)
    plain = sf.FusedSGD(w, lr=0.1, momentum=0.9)
    plain(g)
    assert set(plain.state_dict()) == {"momentum_buffers", "first_step"}
    averaging = sf.FusedSGD(w.copy(), lr=0.1, momentum=0.9, ema_decay=0.5)
    averaging(g)
    state = averaging.state_dict()
    assert set(state) == {"momentum_buffers", "first_step", "ema", "ema_steps"}
    assert state["ema_steps"] == 1
    # A state of a plain run begins a new average; one of an averaging run brings its own.
    averaging.load_state_dict(plain.state_dict())
    averaging(g)
    assert_same_bits(averaging.ema[0], averaging.params[0])
    plain.load_state_dict(state)
    assert_same_bits(plain.ema[0], state["ema"][0])
    assert plain.state_dict()["ema_steps"] == 1
    assert not np.shares_memory(plain.ema[0], state["ema"][0])


def test_states_that_do_not_fit_change_nothing() -> None:
    w, g = np.zeros(3, np.float32), np.ones(3, np.float32)
    fused = sf.FusedSGD(w, lr=0.1, momentum=0.9, ema_decay=0.5)
    fused(g)
    good = fused.state_dict()
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"ema": [np.zeros(4)]}, ValueError, r"state\['ema'\]\[0\]: expected shape \(3,\)"),
        ({"ema": [w, w]}, ValueError, r"state\['ema'\]: expected 1 arrays, got 2"),
        ({"ema": w}, TypeError, r"state\['ema'\]: expected a list of arrays, got ndarray"),
        ({"ema": [np.zeros(3, complex)]}, TypeError, r"state\['ema'\]\[0\]"),
        ({"ema_steps": -1}, ValueError, r"state\['ema_steps'\]: expected an integer from 0"),
        ({"ema_steps": 1.5}, TypeError, r"state\['ema_steps'\]: expected an integer from 0"),
    ]
    for change, error, text in cases:
        with pytest.raises(error, match=text):
            fused.load_state_dict({**good, **change})
    with pytest.raises(ValueError, match=r"^state: ema_steps missing"):
        fused.load_state_dict({k: v for k, v in good.items() if k != "ema_steps"})
    now = fused.state_dict()
    assert now["ema_steps"] == 1
    assert_same_bits(now["ema"][0], good["ema"][0])
    assert_same_bits(now["momentum_buffers"][0], good["momentum_buffers"][0])


def test_averages_follow_memory_that_moves() -> None:
    torch = pytest.importorskip("torch")
    p = torch.zeros(8)
    fused = sf.FusedSGD([p], lr=1.0, ema_decay=0.5)
    fused([torch.ones(8)])
    p.data = torch.full((8,), 5.0)
    fused([torch.ones(8)])
    assert (p == 4).all() and (fused.ema[0] == 1.5).all()
    fused.ema[0].data = torch.zeros(8)
    fused([torch.ones(8)])
    assert (p == 3).all() and (fused.ema[0] == 1.5).all()


def test_steps_of_several_threads_are_all_counted(threads: Callable[[int], None]) -> None:
    threads(2)
    w = np.zeros(20_000, np.float32)
    fused = sf.FusedSGD(w, lr=1.0, ema_decay=warm_up, max_norm=1e9)
    g = np.ones(w.size, np.float32)

    def work() -> None:
        for _ in range(20):
            fused(g)

    assert run_threads(*(partial(work) for _ in range(4))) == []
    assert (w == -80).all()
    assert fused.state_dict()["ema_steps"] == 80


# --- errors ---------------------------------------------------------------------------------------

NAN = math.nan
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"grad_scale": 0.0}, ValueError, "grad_scale: expected a finite number other than 0, got 0.0"),
    ({"grad_scale": NAN}, ValueError, "grad_scale: expected a finite number other than 0"),
    ({"grad_scale": -math.inf}, ValueError, "grad_scale: expected a finite number other than 0"),
    ({"grad_scale": "2"}, TypeError, "grad_scale: expected a number, got str"),
    ({"grad_scale": None}, TypeError, "grad_scale: expected a number, got NoneType"),
    ({"grad_scale": np.ones(2)}, TypeError, "grad_scale: expected a number, got numpy.ndarray"),
    ({"max_norm": -1.0}, ValueError, "max_norm: expected a number >= 0, got -1.0"),
    ({"max_norm": NAN}, ValueError, "max_norm: expected a number >= 0, got nan"),
    ({"max_norm": "1"}, TypeError, "max_norm: expected a number, got str"),
    ({"max_norm_scope": "layer"}, ValueError, "max_norm_scope: expected 'global', 'group' or 'te"),
    ({"max_norm_scope": 1}, TypeError, "max_norm_scope: expected 'global', 'group' or 'tensor'"),
    ({"max_norm_scope": None}, TypeError, "max_norm_scope: expected 'global', 'group' or"),
    ({"clip_value": -0.5}, ValueError, "clip_value: expected a number >= 0, got -0.5"),
    ({"clip_value": NAN}, ValueError, "clip_value: expected a number >= 0, got nan"),
    ({"clip_value": [1.0]}, TypeError, "clip_value: expected a number, got list"),
    ({"skip_nonfinite": "no"}, TypeError, "skip_nonfinite: expected True or False, got 'no'"),
    ({"ema_decay": -0.1}, ValueError, "ema_decay: expected a number"),
    ({"ema_decay": 1.5}, ValueError, "ema_decay: expected a number from 0 to 1, got 1.5"),
    ({"ema_decay": math.inf}, ValueError, "ema_decay: expected a number from 0 to 1, got inf"),
    ({"ema_decay": NAN}, ValueError, "ema_decay: expected a number"),
    ({"ema_decay": "x"}, TypeError, "ema_decay: expected a number, got str"),
]


@pytest.mark.parametrize(("terms", "error", "text"), BAD, ids=lambda x: str(x)[:40])
def test_bad_numbers(terms: dict[str, Any], error: type[Exception], text: str) -> None:
    a = make(("float32",) * 3, [3])
    before = a.copy()
    with pytest.raises(error, match=text):
        sf.sgd_step(a.params, a.grads, a.momenta, lr=0.1, momentum=0.9, ema=a.ema, **terms)
    with pytest.raises(error, match=text):
        sf.FusedSGD(a.params, lr=0.1, **terms)
    fused = sf.FusedSGD(a.params, lr=0.1)
    for name, value in terms.items():
        setattr(fused, name, value)
    with pytest.raises(error, match=text):
        fused(a.grads)
    for now, old in zip(a.lists(), before.lists(), strict=True):
        assert_same_bits(now[0], old[0])


def test_a_decay_that_cannot_be_told() -> None:
    w = np.ones(3, np.float32)
    fused = sf.FusedSGD(w, lr=0.1, ema_decay=lambda n: 0.5 if n == 0 else 7.0)
    fused(w.copy())
    with pytest.raises(ValueError, match=r"ema_decay: expected a number from 0 to 1, got 7\.0"):
        fused(w.copy())

    def fails(n: int) -> float:
        raise LookupError(n)

    before = w.copy()
    fused.ema_decay = fails
    with pytest.raises(LookupError, match="1"):
        fused(w.copy())
    assert_same_bits(w, before)
    with pytest.raises(TypeError, match="measure_norm: expected True or False, got 'x'"):
        sf.FusedSGD(w, lr=0.1, measure_norm="x")  # type: ignore[arg-type]


def test_averages_that_do_not_fit() -> None:
    w, g = np.ones(4, np.float32), np.ones(4, np.float32)
    h = np.ones(4, np.float16)
    long = np.ones(9, np.float32)
    cases: list[tuple[Any, Any, Any, type[Exception], str]] = [
        (w, g, None, ValueError, "ema: needed, since ema_decay is given"),
        (w, g, np.ones(4), TypeError, "ema: expected float32 for params, got float64"),
        (h, h, np.ones(4, np.float16), TypeError, "ema: expected float32 for params, got float16"),
        (np.ones(4), g, g, TypeError, "ema: expected float64 for params, got float32"),
        (w, g, np.ones(5, np.float32), ValueError, r"ema: expected shape \(4,\)"),
        (w, g, [g, g], ValueError, "ema: expected"),
        (w, g, 3.0, TypeError, "ema: expected an array or a sequence of arrays"),
        (w, g, w, ValueError, "ema: shares memory with params"),
        (w, g, g, ValueError, "grads: shares memory with ema"),
        ([long[:4]], [g], [long[2:6]], ValueError, r"ema\[0\]: shares memory with params\[0\]"),
        ([w, w.copy()], [g, g], [long[:4], long[3:7]], ValueError, r"ema\[1\]: shares memory with"),
        (w, g, np.broadcast_to(np.float32(0), 4), ValueError, "ema: is read-only"),
    ]
    for params, grads, ema, error, text in cases:
        with pytest.raises(error, match=text):
            sf.sgd_step(params, grads, lr=0.5, ema=ema, ema_decay=0.9)
    m = np.zeros(4, np.float32)
    with pytest.raises(ValueError, match="ema: shares memory with momentum_buffers"):
        sf.sgd_step(w, g, m, lr=0.5, momentum=0.9, ema=m, ema_decay=0.9)
    for x in (w, g, h, long):
        assert (x == 1).all()
    assert (m == 0).all()


def test_averages_are_left_alone_without_a_decay() -> None:
    w, g, e = (np.ones(4, np.float32) for _ in range(3))
    sf.sgd_step(w, g, lr=0.5, ema=e)
    assert (w == 0.5).all() and (e == 1).all()


# --- values ---------------------------------------------------------------------------------------


def test_terms_are_values() -> None:
    terms = _core.SgdParams(0.1, max_norm=1.0, clip_value=None, ema_decay=0.5)
    assert repr(terms) == "SgdParams(lr=0.1, max_norm=1.0, ema_decay=0.5)"
    for other in (pickle.loads(pickle.dumps(terms)), copy.deepcopy(terms)):
        assert other == terms
    assert _core.SgdParams(0.1).max_norm is None
    assert terms != _core.SgdParams(0.1, max_norm=1.0)
    assert {"max_norm", "clip_value", "ema_decay"} <= set(_core.SGD_TERMS)


def test_a_step_of_arrays_that_are_alone() -> None:
    """An array and a list of one are the same step."""
    a = make(("float32",) * 3, [41])
    b = a.copy()
    alone = Arrays(a.params[0], a.grads[0], a.momenta[0], a.ema[0])  # type: ignore[arg-type]
    assert step(alone, **TERMS, ema_decay=0.5) == step(b, **TERMS, ema_decay=0.5)
    for x, y in zip(a.lists(), b.lists(), strict=True):
        assert_same_bits(x[0], y[0])
