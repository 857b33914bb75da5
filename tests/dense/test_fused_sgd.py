"""FusedSGD: the step of sgd_step, resuming, memory that moves, errors."""

from __future__ import annotations

import numpy as np
import pytest

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import DTYPES, special_values


@pytest.mark.parametrize("dtype", DTYPES)
def test_fused_sgd_is_sgd_step(dtype: str, isa: str) -> None:
    rng = np.random.default_rng(2)
    w = [special_values(DTYPES[dtype], n, rng) for n in (17, 3)]
    step = sf.FusedSGD(
        w, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01, momentum_dtype="float32"
    )
    v = [x.copy() for x in w]
    m = [np.zeros(x.shape, np.float32) for x in w]
    for i in range(4):
        g = [special_values(DTYPES[dtype], x.size, rng) for x in w]
        step.lr = 0.1 / (i + 1)
        step(g)
        sf.sgd_step(
            v,
            g,
            m,
            lr=0.1 / (i + 1),
            momentum=0.9,
            nesterov=True,
            weight_decay=0.01,
            first_step=i == 0,
        )
    for a, b in zip([*w, *step.momentum_buffers], [*v, *m], strict=True):
        assert_same_bits(a, b)


def test_fused_sgd_resumes_exactly() -> None:
    rng = np.random.default_rng(4)
    grads = [rng.standard_normal(9).astype(np.float32) for _ in range(6)]
    w = np.zeros(9, np.float32)
    step = sf.FusedSGD(w, lr=0.1, momentum=0.9, dampening=0.5)
    for g in grads[:3]:
        step(g)
    saved, w2 = step.state_dict(), w.copy()
    for g in grads[3:]:
        step(g)
    resumed = sf.FusedSGD(w2, lr=0.1, momentum=0.9, dampening=0.5)
    resumed.load_state_dict(saved)
    for g in grads[3:]:
        resumed(g)
    assert_same_bits(w2, w)
    with pytest.raises(
        ValueError, match=r"state\['momentum_buffers'\]\[0\]: expected shape \(9,\)"
    ):
        resumed.load_state_dict({"momentum_buffers": [np.zeros(3)], "first_step": False})
    with pytest.raises(ValueError, match="expected 1 arrays, got 2"):
        resumed.load_state_dict({"momentum_buffers": [w, w], "first_step": False})


def test_fused_sgd_follows_memory_that_moves() -> None:
    torch = pytest.importorskip("torch")
    p = torch.zeros(8)
    step = sf.FusedSGD([p], lr=1.0)
    step([torch.ones(8)])
    old = p.detach().clone()
    p.data = torch.full((8,), 5.0)
    step([torch.ones(8)])
    assert (p == 4).all() and (old == -1).all()
    a = np.zeros(4, np.float32)
    step = sf.FusedSGD(a, lr=1.0)
    a.resize(10_000, refcheck=False)
    step(np.ones(10_000, np.float32))
    assert (a == -1).all()


def test_fused_sgd_bad_arguments() -> None:
    with pytest.raises(ValueError, match="momentum_dtype: expected None or 'float32'"):
        sf.FusedSGD(np.ones(3, np.float32), lr=0.1, momentum_dtype="int8")
    with pytest.raises(TypeError, match="params: expected an array or a sequence of arrays"):
        sf.FusedSGD(3.0, lr=0.1)
    step = sf.FusedSGD([np.ones(3, np.float32)], lr=0.1, momentum=0.9)
    with pytest.raises(ValueError, match=r"grads\[0\]: expected shape"):
        step([np.ones(4, np.float32)])
    assert (step.params[0] == 1).all()
