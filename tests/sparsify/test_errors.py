"""What the functions for sparse weights refuse, before anything is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from tests.oracles.sparsify import Array


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
        (
            lambda x: sf.hard_threshold_(x, k=-1),
            "k: expected an integer from 0 .* got -1",
        ),
        (lambda x: sf.hard_threshold_([x], k=9, scope="global"), "k: expected 0 to 8, .* all arr"),
        (
            lambda x: sf.hard_threshold_(x, density=1.1),
            "density: expected a number from 0 to 1, got 1.1",
        ),
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


@pytest.mark.parametrize("bad", ["1.0", None, [1.0], 1j, np.ones(2)], ids=str)
def test_penalties_that_are_no_numbers(bad: object) -> None:
    x = np.ones(3)
    with pytest.raises(TypeError, match=r"^lam: expected a number, got"):
        sf.soft_threshold_(x, bad)
    with pytest.raises(TypeError, match=r"^l2: expected a number, got"):
        sf.elastic_net_(x, 1, bad)
    assert (x == 1).all()


def test_penalties_beyond_all_floats() -> None:
    with pytest.raises(ValueError, match=r"^lam: expected a finite number >= 0"):
        sf.group_soft_threshold_(np.ones((2, 2)), 10**400)


def test_patterns_are_whole_numbers() -> None:
    with pytest.raises(TypeError, match=r"^n: expected an integer from 0 .* got 2.0"):
        sf.n_m_(np.ones(4), 2.0, 4)
