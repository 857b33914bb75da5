"""Steps with stages around their rule, for the tests of them: arrays, and a check by the oracle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import DTYPES, special_values
from tests.oracles import clip as oracle

Types = tuple[str, str, str]


def finite_values(dtype: str, n: int, rng: np.random.Generator) -> np.ndarray:
    return (rng.standard_normal(n) * 10.0 ** rng.integers(-2, 2, n)).astype(DTYPES[dtype])


@dataclass
class Arrays:
    """Lists by tensor, of one length."""

    params: list[np.ndarray]
    grads: list[np.ndarray]
    momenta: list[np.ndarray]
    ema: list[np.ndarray]

    def copy(self) -> Arrays:
        return Arrays(*([x.copy() for x in arrays] for arrays in self.lists()))

    def lists(self) -> list[list[np.ndarray]]:
        return [self.params, self.grads, self.momenta, self.ema]


def make(types: Types, sizes: list[int], seed: int = 0, *, special: bool = False) -> Arrays:
    rng = np.random.default_rng(seed)

    def values(dtype: str) -> list[np.ndarray]:
        if special:
            return [special_values(DTYPES[dtype], n, rng) for n in sizes]
        return [finite_values(dtype, n, rng) for n in sizes]

    wide = "float64" if types[0] == "float64" else "float32"
    return Arrays(*(values(dtype) for dtype in (*types, wide)))


def step(a: Arrays, **terms: Any) -> float | None:
    momenta = a.momenta if terms.get("momentum") else None
    ema = a.ema if terms.get("ema_decay") is not None else None
    return sf.sgd_step(a.params, a.grads, momenta, ema=ema, **terms)


def expected(a: Arrays, **terms: Any) -> oracle.Step:
    momenta = a.momenta if terms.get("momentum") else None
    ema = a.ema if terms.get("ema_decay") is not None else None
    return oracle.step(a.params, a.grads, momenta, ema, **terms)


def assert_same(a: Arrays, want: oracle.Step, what: str) -> None:
    for name, got, wanted in (
        ("param", a.params, want.params),
        ("momentum", a.momenta, want.momenta),
        ("average", a.ema, want.averages),
    ):
        for i, (x, y) in enumerate(zip(got, wanted or got, strict=True)):
            assert_same_bits(x, y, f"{what} {name}[{i}]")


def step_and_check(a: Arrays, what: str, **terms: Any) -> None:
    """Takes the step, and compares all that it leaves behind and returns with the oracle's."""
    before = a.copy()
    want = expected(a, **terms)
    norm = step(a, **terms)
    assert_same(a, want, what)
    for got, old in zip(a.grads, before.grads, strict=True):
        assert_same_bits(got, old, f"{what} gradient")
    if terms.get("max_norm") is None and not terms.get("skip_nonfinite"):
        assert norm is None
    else:
        assert norm is not None
        assert norm == want.norm or (math.isnan(norm) and math.isnan(want.norm))
