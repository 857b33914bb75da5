"""Lives of what makes weights zero, and of `Mask`, against the formulas in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import DTYPES
from tests.fuzz import wrong
from tests.fuzz.life import LEFT_OUT, Life
from tests.fuzz.memory import Guarded, guarded
from tests.fuzz.tensors import array, limit, one_or_list, shape_of, spoil, text
from tests.oracles.select import computed, keys, ranked
from tests.oracles.sparsify import want_group, want_n_m, want_soft


def live(life: Life) -> None:
    masks: list[Masked] = []
    for _ in range(life.number(20, 35)):
        if life.chance(0.6):
            one_call(life)
        elif not masks or life.chance(0.2):
            masks.append(Masked(life))
        else:
            life.pick(masks).go_on(life)


def one_call(life: Life) -> None:
    kind = life.pick(("soft", "elastic", "group", "hard", "n_m", "mask"))
    single = life.chance(0.3)
    x = []
    for _ in range(1 if single else life.pick((0, 1, 2, 4))):
        dtype = life.pick(list(DTYPES))
        dimensions = (1, 1, 2, 3) if kind in ("group", "n_m") else (0, 1, 1, 2, 3)
        x.append(array(life, dtype, shape_of(life, limit(dtype), dimensions=dimensions)))
    lists: dict[str, Any] = {"x": x}
    function, extra, want = globals()[f"_{kind}"](life, x, lists)
    call = {name: one_or_list(life, found, single) for name, found in lists.items()} | extra
    if spoiled := life.chance(0.2):
        spoil(life, call, lists)
    before = [np.array(a.view) for a in x]
    outcome = life.call(
        f"{function.__name__} {text(call, lists)}",
        partial(function, **call),
        memory=lists.get("mask", []),
        written=x,
        spoiled=spoiled,
    )
    if outcome.done and not spoiled:
        for i, new in enumerate(want(before)):
            assert_same_bits(np.array(x[i].view), new, f"x[{i}]")


Made = tuple[Any, dict[str, Any], Callable[[list[np.ndarray]], list[np.ndarray]]]
Lists = dict[str, list[Guarded]]


def _soft(life: Life, x: list[Guarded], lists: Lists) -> Made:
    lam = life.pick((0.0, 0.4, 1.0, 1e30))
    return sf.soft_threshold_, {"lam": lam}, lambda xs: [want_soft(a, lam) for a in xs]


def _elastic(life: Life, x: list[Guarded], lists: Lists) -> Made:
    l1, l2 = life.pick((0.0, 0.4, 2.0)), life.pick((0.0, 0.7, 1e10))
    return sf.elastic_net_, {"l1": l1, "l2": l2}, lambda xs: [want_soft(a, l1, l2) for a in xs]


def _group(life: Life, x: list[Guarded], lists: Lists) -> Made:
    lam = life.pick((0.4, 1.5, 100.0))
    return sf.group_soft_threshold_, {"lam": lam}, lambda xs: [_groups(a, lam) for a in xs]


def _groups(x: np.ndarray, lam: float) -> np.ndarray:
    return want_group(x, lam) if x.size else x


def _hard(life: Life, x: list[Guarded], lists: Lists) -> Made:
    wide = {a.view.dtype == np.float64 for a in x}
    together = life.chance(0.4) and len(wide) < 2
    sizes = [a.view.size for a in x] or [0]
    kind = life.pick(("k", "density", "threshold"))
    value: Any = {
        "k": life.number(0, sum(sizes) if together else min(sizes)),
        "density": life.pick((0.0, 0.3, 1.0, life.rng.random())),
        "threshold": life.pick((0.0, 0.5, math.inf)),
    }[kind]

    def want(arrays: list[np.ndarray]) -> list[np.ndarray]:
        scopes = [arrays] if together else [[a] for a in arrays]
        return [new for scope in scopes for new in _hardened(scope, kind, value)]

    scope = "global" if together else "tensor"
    return sf.hard_threshold_, {kind: value, "scope": scope}, want


def _hardened(arrays: list[np.ndarray], kind: str, value: Any) -> list[np.ndarray]:
    """The arrays of one scope with zeros where they are small."""
    if kind == "threshold":
        kept = [
            keys(computed(a)) >= keys(np.array([value]).astype(computed(a).dtype)) for a in arrays
        ]
    else:
        total = sum(a.size for a in arrays)
        k = value
        if kind == "density":
            k = max(1, math.floor(value * total + 0.5)) if value > 0 and total else 0
        mask = np.zeros(total, bool)
        if total:
            mask[ranked(arrays)[:k]] = True
        kept = np.split(mask, np.cumsum([a.size for a in arrays])[:-1]) if arrays else []
    return [
        np.where(k.reshape(a.shape), a, np.zeros_like(a)) for k, a in zip(kept, arrays, strict=True)
    ]


def _n_m(life: Life, x: list[Guarded], lists: Lists) -> Made:
    m = life.pick((1, 2, 3, 4, 8, 32))
    n = life.number(0, m)
    for i, a in enumerate(x):
        shape = a.view.shape
        shape = (*shape[:-1], min(shape[-1], 8) * m)
        values = np.resize(np.array(a.view).ravel(), shape) if a.view.size else np.zeros(shape)
        x[i] = guarded(life, values.astype(a.view.dtype))

    def want(arrays: list[np.ndarray]) -> list[np.ndarray]:
        return [want_n_m(a, n, m) if a.size else a for a in arrays]

    return sf.n_m_, {"n": n, "m": m}, want


def _mask(life: Life, x: list[Guarded], lists: Lists) -> Made:
    lists["mask"] = masks = _masks(life, x)
    kept = [np.array(m.view) for m in masks]

    def want(arrays: list[np.ndarray]) -> list[np.ndarray]:
        both = zip(arrays, kept, strict=True)
        return [np.where(k, a, np.zeros_like(a)) for a, k in both]

    return sf.apply_mask_, {}, want


def _masks(life: Life, x: list[Guarded]) -> list[Guarded]:
    return [guarded(life, life.numbers.random(a.view.shape) < 0.5) for a in x]


class Masked:
    """A `Mask`, and the support that it must keep."""

    def __init__(self, life: Life) -> None:
        dtypes = [life.pick(list(DTYPES)) for _ in range(life.pick((1, 2, 3)))]
        scalars = () if "scalar mask" in LEFT_OUT else (0,)
        some = (*scalars, 1, 1, 2, 3)
        self.params = [array(life, d, shape_of(life, 100, dimensions=some)) for d in dtypes]
        given = [p.array for p in self.params]
        masks = _masks(life, self.params) if life.chance(0.5) else None
        life.note(f"Mask {self.params}")
        self.mask = sf.Mask(given, None if masks is None else [m.array for m in masks])
        if masks is None:
            self.support = [np.array(p.view) != 0 for p in self.params]
        else:
            self.support = [np.array(m.view) for m in masks]
        self.check(life)

    def check(self, life: Life) -> None:
        for m, want in zip(self.mask.masks, self.support, strict=True):
            life.check(np.array_equal(np.asarray(m), want), "the masks")
        for p, want in zip(self.params, self.support, strict=True):
            outside = np.ascontiguousarray(p.view)[~want]
            life.check(not outside.view(np.uint8).any(), "something outside the support")
        size = sum(s.size for s in self.support)
        share = sum(int(s.sum()) for s in self.support) / size if size else 1.0
        life.check(self.mask.density == share, f"density {self.mask.density}, not {share}")

    def go_on(self, life: Life) -> None:
        for p in self.params:
            p.view[...] = life.numbers.standard_normal(p.view.shape)
        kind = life.pick(("apply", "record", "state", "spoiled state"))
        if kind == "record":
            life.call("record", self.mask.record, memory=self.params)
            self.support = [np.array(p.view) != 0 for p in self.params]
        elif kind == "state":
            life.call("round trip", lambda: self.mask.load_state_dict(self.mask.state_dict()),
                      written=self.params)  # fmt: skip
        elif kind == "spoiled state":
            self.spoiled_state(life)
        buffers = [array(life, "float32", p.view.shape) for p in self.params]
        life.call(
            "apply",
            lambda: self.mask.apply([b.array for b in buffers], []),
            written=[*self.params, *buffers],
        )
        self.check(life)

    def spoiled_state(self, life: Life) -> None:
        state = self.mask.state_dict()
        views = [np.asarray(m) for m in state["masks"]]
        state["masks"] = wrong.arrays(life, state["masks"], views, [p.array for p in self.params])
        outcome = life.call(
            "load_state_dict",
            lambda: self.mask.load_state_dict(state),
            written=self.params,
            state=self.mask.state_dict,
            spoiled=True,
        )
        if outcome.done:
            self.support = [np.array(torch.as_tensor(m)) for m in self.mask.masks]
