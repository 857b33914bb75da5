"""Masks: kernels, and supports that are kept with momentum."""

from __future__ import annotations

import numpy as np
import pytest

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import DTYPES, LAYOUTS, LENGTHS, special_values


@pytest.mark.parametrize("dtype", DTYPES)
def test_masks_of_every_length_and_order(isa: str, dtype: str) -> None:
    rng = np.random.default_rng(6)
    for n in LENGTHS:
        for share in (0.0, 0.5, 0.99, 1.0):
            x, mask = special_values(DTYPES[dtype], n, rng), rng.random(n) < share
            want = np.where(mask, x, np.zeros_like(x))
            sf.apply_mask_(x, mask)
            assert_same_bits(x, want)
    for lay in LAYOUTS.values():
        values = special_values(DTYPES[dtype], 1920, rng).reshape(12, 8, 20)
        for mask in (rng.random(values.shape) < 0.5, rng.random(values.T.shape).T < 0.5):
            want = np.where(mask, values, np.zeros_like(values))
            x = lay(values.copy())
            sf.apply_mask_(x, mask)
            assert_same_bits(x, want)


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


def test_arrays_of_no_dimensions() -> None:
    w = [np.array(2.0), np.array(0.0)]
    mask = sf.Mask(w)
    w[1][...] = 3.0
    mask.apply()
    assert [float(x) for x in w] == [2.0, 0.0]
    again = sf.Mask(w)
    again.load_state_dict(mask.state_dict())
    assert again.density == 0.5
