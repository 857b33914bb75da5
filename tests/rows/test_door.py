"""threshold_step with gradients that name rows: it is the step on rows, and takes no selection."""

from __future__ import annotations

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast.rows import row_step
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
    expected, momentum, _ = arrays()
    row_step(expected, g, momentum, **RULE)
    if single:
        result = sf.threshold_step(w, g, momentum_buffers=m, **RULE)
    else:
        result = sf.threshold_step([w], [g], momentum_buffers=[m], **RULE)
    assert_same_bits(w, expected)
    assert_same_bits(m, momentum)
    assert result.kept == [20]
    assert result.sizes == [45]


@pytest.mark.torch
def test_coo_tensors() -> None:
    torch = pytest.importorskip("torch")
    w, m, (rows, values) = arrays()
    expected, momentum, g = arrays()
    row_step(expected, g, momentum, **RULE)
    indices = torch.from_numpy(rows)[None]
    grad = torch.sparse_coo_tensor(indices, torch.from_numpy(values), (9, 5), check_invariants=True)
    result = sf.threshold_step([w], [grad], momentum_buffers=[m], **RULE)
    assert_same_bits(w, expected)
    assert result.kept == [20]


@pytest.mark.parametrize(
    "more",
    [
        {"threshold": 0.1},
        {"density": 0.1},
        {"k": 3},
        {"emit": "int64"},
        {"residuals": np.zeros((9, 5))},
    ],
)
def test_nothing_is_selected(more: dict) -> None:
    w, m, g = arrays()
    before = w.copy()
    with pytest.raises(ValueError, match="grads: row-sparse gradients are applied as they are"):
        sf.threshold_step([w], [g], momentum_buffers=[m], **RULE, **more)
    assert_same_bits(w, before)


def test_dense_and_row_sparse_do_not_mix() -> None:
    w, m, g = arrays()
    with pytest.raises(TypeError, match=r"grads\[1\]: expected \(rows, values\)"):
        sf.threshold_step([w, w.copy()], [g, w.copy()], momentum_buffers=[m, m.copy()], **RULE)
