"""Lives of `select` and `kth_magnitude`, against a stable sort."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import DTYPES
from tests.fuzz.life import Life, alike
from tests.fuzz.memory import Guarded, values_of
from tests.fuzz.tensors import gradient, one_or_list, shape_of, spoil, text
from tests.oracles.select import computed, keys, ranked


def live(life: Life) -> None:
    for _ in range(life.number(20, 40)):
        one_call(life)


def one_call(life: Life) -> None:
    single, together = life.chance(0.4), life.chance(0.4)
    pool = ("float32", "float16", "bfloat16")
    if life.chance(0.2):
        pool = ("float64",)
    elif not together:
        pool = tuple(DTYPES)
    x = [
        gradient(life, life.pick(pool), shape_of(life))
        for _ in range(1 if single else life.pick((1, 2, 3, 6)))
    ]
    sizes = [a.view.size for a in x]
    scopes = [list(range(len(x)))] if together else [[i] for i in range(len(x))]
    least = min(sum(sizes[i] for i in scope) for scope in scopes)
    call: dict[str, Any] = {"x": one_or_list(life, x, single)}
    call["scope"] = "global" if together else "tensor"
    kth = life.chance(0.3) and least > 0
    if kth:
        call["k"] = life.number(1, least)
    else:
        amount = life.pick(("k", "density", "threshold"))
        call[amount] = {
            "k": life.number(0, least),
            "density": life.pick((0.0, 1.0, 0.5, life.rng.random())),
            "threshold": life.pick((0.0, 1.0, 1e-45, math.inf, life.rng.random())),
        }[amount]
        if life.chance(0.5):
            call["index_dtype"] = life.pick(("int32", "int64"))
    if spoiled := life.chance(0.2):
        spoil(life, call, {"x": x})
    function: Any = sf.kth_magnitude if kth else sf.select
    outcome = life.call(
        f"{function.__name__} {text(call, {'x': x})}",
        partial(function, **call),
        memory=x,
        spoiled=spoiled,
    )
    if not outcome.done or spoiled:
        return
    if kth:
        want = [_magnitude([x[i] for i in scope], call["k"]) for scope in scopes]
        got = [outcome.value] if single or together else outcome.value
        life.check(alike(got, want), f"magnitudes {got}, not {want}")
        return
    found = [outcome.value] if single else outcome.value
    for scope in scopes:
        _check(life, [x[i] for i in scope], [found[i] for i in scope], call)


def _magnitude(arrays: list[Guarded], k: int) -> float:
    flat = np.concatenate([computed(np.array(a.view)) for a in arrays])
    return float(np.abs(flat[ranked([computed(np.array(a.view)) for a in arrays])[k - 1]]))


def _check(life: Life, arrays: list[Guarded], found: list[Any], call: dict[str, Any]) -> None:
    """The selections of one scope."""
    flats = [np.array(a.view).ravel() for a in arrays]
    total = sum(f.size for f in flats)
    if "threshold" in call:
        wide = computed(flats[0]).dtype
        cut = keys(np.array([call["threshold"]]).astype(wide))[0]
        kept = [np.flatnonzero(keys(computed(f)) >= cut) for f in flats]
        threshold = float(np.array(call["threshold"]).astype(wide))
    else:
        k = call.get("k")
        if k is None:
            density = call["density"]
            k = max(1, math.floor(density * total + 0.5)) if density > 0 and total else 0
        order = ranked(flats)[:k]
        ends = np.cumsum([f.size for f in flats])
        kept = [np.sort(order[(order >= e - f.size) & (order < e)]) - (e - f.size)
                for f, e in zip(flats, ends, strict=True)]  # fmt: skip
        threshold = _magnitude(arrays, k) if k else math.inf
    for a, flat, want, got in zip(arrays, flats, kept, found, strict=True):
        life.check(isinstance(got.indices, torch.Tensor) == isinstance(a.array, torch.Tensor),
                   "of another library")  # fmt: skip
        indices = values_of(got.indices)
        life.check(str(indices.dtype) == call.get("index_dtype", "int64"), "the indices' dtype")
        life.check(np.array_equal(indices, want), f"indices {indices[:9]}, not {want[:9]}")
        assert_same_bits(values_of(got.values), flat[want], "values")
        life.check(alike(got.threshold, threshold), f"threshold {got.threshold}, not {threshold}")
