"""Gradients that name rows: row_step takes them, and threshold_step says so."""

from __future__ import annotations

import numpy as np
import pytest

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import RULE


def arrays() -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    rows = np.array([3, 1, 3, 7])
    return (
        rng.standard_normal((9, 5)).astype(np.float32),
        np.zeros((9, 5), np.float32),
        (rows, rng.standard_normal((4, 5)).astype(np.float32)),
    )


@pytest.mark.parametrize("single", [True, False])
def test_rows_are_stepped(single: bool) -> None:
    w, m, g = arrays()
    expected, momentum, (rows, values) = arrays()
    # Duplicates are added in the order in which they come; then each row takes a dense step.
    for row in (1, 3, 7):
        summed = np.zeros(5, np.float32)
        for i in np.flatnonzero(rows == row):
            summed += values[i]
        sf.sgd_step(expected[row], summed, momentum[row], first_step=True, **RULE)
    if single:
        sf.row_step(w, g, m, **RULE)
    else:
        sf.row_step([w], [g], [m], **RULE)
    assert_same_bits(w, expected)
    assert_same_bits(m, momentum)


@pytest.mark.torch
def test_coo_tensors() -> None:
    torch = pytest.importorskip("torch")
    w, m, (rows, values) = arrays()
    expected, momentum, g = arrays()
    sf.row_step(expected, g, momentum, **RULE)
    indices = torch.from_numpy(rows)[None]
    grad = torch.sparse_coo_tensor(indices, torch.from_numpy(values), (9, 5), check_invariants=True)
    sf.row_step([w], [grad], [m], **RULE)
    assert_same_bits(w, expected)
    assert_same_bits(m, momentum)
    with pytest.raises(TypeError, match="grads: name rows; row_step applies such gradients"):
        sf.threshold_step([w], [grad], [m], lr=0.1, k=1)


@pytest.mark.parametrize(
    "more",
    [
        {"threshold": 0.1},
        {"density": 0.1},
        {"k": 3},
        {"k": 3, "emit": "int64"},
        {},
    ],
)
def test_nothing_is_selected(more: dict) -> None:
    w, m, g = arrays()
    before = w.copy()
    for arrays_given in (([w], [g], [w * 0], [m]), (w, g, None, m)):
        with pytest.raises(TypeError, match="grads: name rows; row_step applies such gradients"):
            sf.threshold_step(*arrays_given, **RULE, **more)
    assert_same_bits(w, before)


def test_dense_and_row_sparse_do_not_mix() -> None:
    w, m, g = arrays()
    with pytest.raises(TypeError, match=r"grads\[1\]: expected \(rows, values\)"):
        sf.row_step([w, w.copy()], [g, w.copy()], [m, m.copy()], **RULE)
