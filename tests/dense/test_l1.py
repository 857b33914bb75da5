"""The L1 penalty within the step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import COMBINATIONS, L1_RULES, special_arrays
from tests.oracles.dense import sgd


@pytest.mark.parametrize("rule", L1_RULES, ids=lambda r: "-".join(f"{v}" for v in r.values()))
def test_l1_in_every_rule(isa: str, rule: dict[str, Any]) -> None:
    rng = np.random.default_rng(8)
    for combination in COMBINATIONS:
        for l1 in (3.0, 1e-44):  # the second makes lr * l1 vanish in float32
            w, g, m = special_arrays(combination, 41, rng)
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
