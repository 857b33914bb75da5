"""Values of float32 gradients that are sent in 16 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from subgrad_fast import _core
from tests.bits import assert_same_bits
from tests.cases import DTYPES
from tests.exchange.agree import (
    Step,
    assert_as_in_numpy,
    assert_ranks_agree,
    assert_same_training,
)
from tests.exchange.ranks import Ranks
from tests.oracles.exchange import narrowed

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

WIRES = ["bfloat16", "float16"]


def wire(name: str) -> Any:
    return getattr(torch, name)


@pytest.mark.parametrize("name", WIRES)
@pytest.mark.parametrize(
    "settings",
    [
        {"density": 0.1},
        {"k": 200, "scope": "bucket"},
        {"threshold": 0.0},
        {"density": 0.1, "error_feedback": False},
    ],
    ids=str,
)
def test_against_numpy(ranks: Ranks, settings: Step, name: str) -> None:
    settings = settings | {"wire_dtype": wire(name)}
    results = ranks.run("train", 3, settings=settings)
    assert_ranks_agree(results)
    assert_as_in_numpy(results, settings)
    plain = ranks.run("train", 3, settings=settings | {"wire_dtype": None})
    with pytest.raises(AssertionError, match="differ"):
        assert_same_training(results, plain)


@pytest.mark.parametrize("name", WIRES)
def test_what_rounding_loses_is_held(ranks: Ranks, name: str) -> None:
    """Everything is sent, so the residual is what rounding has lost, and no more."""
    settings = {"threshold": 0.0, "wire_dtype": wire(name)}
    results = ranks.run("train", 2, settings=settings, exact=True, steps=6)
    for key, rest in results[0]["residuals"].items():
        given = sum(s["gradients"][key] for r in results for s in r["seen"])
        moved = sum(average[key] for average in results[0]["averaged"])
        held = rest + results[1]["residuals"][key]
        assert (given == 2 * moved + held).all()
        assert np.abs(rest).max() <= 2**-8 * np.abs(given).max()


@pytest.mark.parametrize("dtype", WIRES)
def test_values_of_16_bits_go_as_they_are(ranks: Ranks, dtype: str) -> None:
    common: dict[str, Any] = {"dtype": dtype, "steps": 2}
    settings: Step = {"density": 0.1}
    want = ranks.run("train", 2, settings=settings, **common)
    for name in WIRES:
        got = ranks.run("train", 2, settings=settings | {"wire_dtype": wire(name)}, **common)
        assert_same_training(got, want)
        assert got[0]["sent"] == want[0]["sent"]


def test_traffic(ranks: Ranks) -> None:
    full, less = (
        ranks.run("train", 2, settings={"density": 0.1, "wire_dtype": dtype}, steps=2)[0]["sent"]
        for dtype in (None, torch.bfloat16)
    )
    assert less == (full[0], full[1] // 8 * 6, 2)


def test_64_bit_values_are_not_rounded(ranks: Ranks) -> None:
    for answer in ranks.run("complaint", 2, case="wire"):
        assert answer.startswith("TypeError: wire_dtype: expected None for bucket 0, whose grad")


@pytest.mark.parametrize("wide", [False, True], ids=["int32", "int64"])
@pytest.mark.parametrize("dtype", WIRES)
@pytest.mark.parametrize("n", [1, 17, 4097, 70_000])
def test_packed_and_merged(threads: Any, n: int, dtype: str, wide: bool) -> None:
    rng = np.random.default_rng(n)
    index = np.dtype(np.int64 if wide else np.int32)
    total = np.full(n, -0.0, np.float32)
    capacity = -(-n // 16) * 16
    gathered = np.zeros((2, capacity * (index.itemsize + 2)), np.uint8)
    counts = []
    for row, feedback in zip(gathered, (True, False), strict=True):
        v = np.float32(10.0) ** rng.uniform(-12, 6, n).astype(np.float32)
        own = np.flatnonzero(rng.random(n) < 0.5).astype(index)
        sent = narrowed(v[own], DTYPES[dtype]).astype(np.float32)
        residual = v.copy() if feedback else None
        part = (own, v[own].copy(), 0, residual)
        _core.exchange.pack(row, np.zeros(n, np.float32), wide, [part], dtype)
        if residual is not None:
            rest = v.copy()
            rest[own] = np.where(v[own] == sent, np.float32(-0.0), v[own] - sent)
            assert_same_bits(residual, rest)
        total[own] = total[own] + sent * np.float32(1 / 3)
        counts.append(own.size)
    for count in (1, 2):
        threads(count)
        out = np.full(n, 7, np.float32)
        _core.exchange.merge(out, gathered, counts, wide, 1 / 3, dtype)
        assert_same_bits(out, total)


@pytest.mark.parametrize(
    ("values", "name"),
    [("float64", "bfloat16"), ("float16", "bfloat16"), ("float32", "float64"), ("float32", "x")],
)
def test_other_types_are_refused(values: str, name: str) -> None:
    out = np.zeros(3, values)
    message = f"^wire: expected a 16-bit type for float32 values, got {name} for {values}"
    with pytest.raises(ValueError, match=message):
        _core.exchange.merge(out, np.zeros((1, 0), np.uint8), [0], False, 1.0, name)
    with pytest.raises(ValueError, match=message):
        _core.exchange.pack(np.zeros(0, np.uint8), out, False, [], name)
