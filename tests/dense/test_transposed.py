"""Gradients that lie the other way about than their parameters: packed tile by tile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from tests.bits import assert_same_bits

# Around a tile of 16 x 16, with rows longer than a chunk, and with more rows than are packed ahead.
SHAPES = [(1, 7), (15, 17), (16, 16), (17, 15), (33, 70), (3, 16, 31), (2, 3, 17, 33), (130, 530)]
STAGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipped": {"max_norm": 1.0, "clip_value": 0.5},
}


def laid(values: np.ndarray, turned: bool) -> np.ndarray:
    """The same values, with the last two dimensions the other way about in memory if `turned`."""
    return np.ascontiguousarray(values.swapaxes(-1, -2)).swapaxes(-1, -2) if turned else values


def step(shape: tuple[int, ...], dtype: str, turned: tuple[bool, bool, bool], **how: Any) -> list:
    rng = np.random.default_rng(7)
    w, g, m = (laid(rng.standard_normal(shape).astype(dtype), way) for way in turned)
    norm = sf.sgd_step(w, g, m, lr=0.1, momentum=0.9, weight_decay=0.01, first_step=False, **how)
    return [np.ascontiguousarray(w), np.ascontiguousarray(m), np.float64(norm or 0.0)]


@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_same_bits_as_of_one_run(shape: tuple[int, ...], dtype: str, stages: str) -> None:
    how = STAGES[stages]
    want = step(shape, dtype, (False, False, False), **how)
    ways = [(False, True, False), (False, True, True)]
    # A norm is added up in the order of the parameter's memory: its last bits would differ.
    ways += [] if how else [(True, False, True)]
    for turned in ways:
        got = step(shape, dtype, turned, **how)
        for a, b in zip(got, want, strict=True):
            assert_same_bits(np.asarray(a), np.asarray(b), str(turned))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads(threads: int) -> None:
    want = step((600, 700), "float32", (False, False, False))
    sf.set_num_threads(threads, adaptive=False)
    try:
        got = step((600, 700), "float32", (False, True, False))
    finally:
        sf.set_num_threads(None)
    for a, b in zip(got, want, strict=True):
        assert_same_bits(np.asarray(a), np.asarray(b))


def test_a_part_of_a_larger_array() -> None:
    # Columns that are neighbours, rows that are further apart than the row is long; unaligned.
    rng = np.random.default_rng(3)
    whole = rng.standard_normal((60, 90)).astype(np.float32)
    raw = np.zeros(whole.nbytes + 1, np.uint8)
    unaligned = np.ndarray(whole.shape, np.float32, raw.data, offset=1)
    unaligned[...] = whole
    for source in (whole, unaligned):
        view = source.T[5:75, 3:50]
        w, want = np.ones(view.shape, np.float32), np.ones(view.shape, np.float32)
        sf.sgd_step(w, view, lr=0.1)
        sf.sgd_step(want, np.ascontiguousarray(view), lr=0.1)
        assert_same_bits(w, want)
