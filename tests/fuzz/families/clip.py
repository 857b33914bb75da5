"""Lives of norms, of clipping in place, and of steps with stages, against the formulas in NumPy."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import COMBINATIONS, DTYPES
from tests.fuzz.life import Life
from tests.fuzz.memory import Guarded
from tests.fuzz.tensors import array, gradient, limit, one_or_list, shape_of, spoil, terms, text
from tests.oracles.clip import clip, coefficient, exact_norm, step


def live(life: Life) -> None:
    for _ in range(life.number(20, 35)):
        life.pick((a_norm, a_norm_bounded, values_bounded, a_step))(life)


def some(life: Life, *, read_only: bool) -> tuple[list[Guarded], bool]:
    """Arrays, and whether they are one that is given by itself."""
    single = life.chance(0.3)
    made = []
    for _ in range(1 if single else life.pick((0, 1, 2, 3, 5))):
        dtype = life.pick(list(DTYPES))
        make = gradient if read_only else array
        made.append(make(life, dtype, shape_of(life, limit(dtype))))
    return made, single


def order(life: Life) -> dict[str, Any]:
    return {"p": life.pick((2, 2.0, math.inf))} if life.chance(0.4) else {}


def check_norm(
    life: Life, got: float, arrays: list[np.ndarray], p: float, unscale: float = 1.0
) -> None:
    if p == math.inf:
        largest = [np.abs(a.astype(np.float64)).max(initial=0.0) for a in arrays]
        want = float(np.max(largest, initial=0.0))
    else:
        want = exact_norm(arrays)
    want *= unscale
    # Below the smallest normal number two roundings differ by an absolute amount.
    same = math.isclose(got, want, rel_tol=1e-12, abs_tol=1e-323)
    same = same or (math.isnan(got) and math.isnan(want))
    life.check(same, f"a norm of {got!r}, which is {want!r}")


def a_norm(life: Life) -> None:
    made, single = some(life, read_only=True)
    call = {"arrays": one_or_list(life, made, single), **order(life)}
    if spoiled := life.chance(0.2):
        spoil(life, call, {"arrays": made})
    outcome = life.call(
        f"total_norm {text(call, {'arrays': made})}",
        partial(sf.total_norm, **call),
        memory=made,
        spoiled=spoiled,
    )
    if outcome.done and not spoiled:
        check_norm(life, outcome.value, [np.array(a.view) for a in made], call.get("p", 2.0))


def a_norm_bounded(life: Life) -> None:
    made, single = some(life, read_only=False)
    before = [np.array(a.view) for a in made]
    call = {
        "grads": one_or_list(life, made, single),
        "max_norm": life.pick((0.0, 0.1, 1, 1e-3, 1e30, math.inf)),
        **order(life),
    }
    if spoiled := life.chance(0.2):
        spoil(life, call, {"grads": made})
    outcome = life.call(
        f"clip_grad_norm_ {text(call, {'grads': made})}",
        partial(sf.clip_grad_norm_, **call),
        written=made,
        spoiled=spoiled,
    )
    if not outcome.done or spoiled:
        return
    check_norm(life, outcome.value, before, call.get("p", 2.0))
    wide = np.float64 if any(g.dtype == np.float64 for g in before) else np.float32
    c = coefficient(outcome.value, call["max_norm"], wide)
    for i, (a, g) in enumerate(zip(made, before, strict=True)):
        with np.errstate(all="ignore"):
            want = g if c == 1 else clip(g, c).astype(g.dtype)
        assert_same_bits(np.array(a.view), want, f"grads[{i}]")


def values_bounded(life: Life) -> None:
    made, single = some(life, read_only=False)
    before = [np.array(a.view) for a in made]
    value = life.pick((0.1, 1, 1e-3, 1e30, math.inf))
    call = {"grads": one_or_list(life, made, single), "clip_value": value}
    if spoiled := life.chance(0.2):
        spoil(life, call, {"grads": made})
    outcome = life.call(
        f"clip_grad_value_ {text(call, {'grads': made})}",
        partial(sf.clip_grad_value_, **call),
        written=made,
        spoiled=spoiled,
    )
    if outcome.done and not spoiled:
        for i, (a, g) in enumerate(zip(made, before, strict=True)):
            with np.errstate(all="ignore"):
                want = clip(g, 1.0, float(value)).astype(g.dtype)
            assert_same_bits(np.array(a.view), want, f"grads[{i}]")


def stages(life: Life) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    if life.chance(0.4):
        chosen["grad_scale"] = life.pick((2.0**16, -3.0, 1e-3, 7))
    if life.chance(0.5):
        chosen["max_norm"] = life.pick((0.0, 0.1, 1, 1e30))
        chosen["max_norm_scope"] = life.pick(("global", "group"))
    if life.chance(0.3):
        chosen["clip_value"] = life.pick((0.1, 1, 1e30))
    if life.chance(0.4):
        chosen["skip_nonfinite"] = True
    if life.chance(0.5):
        chosen["ema_decay"] = life.pick((0.0, 0.3, 0.9, 0.999, 1))
    return chosen


def a_step(life: Life) -> None:
    """A call of `sgd_step` with stages. Its norm is taken for right once it has been compared."""
    rule = terms(life) | stages(life) | {"first_step": life.chance(0.3)}
    lists: dict[str, list[Guarded]] = {"params": [], "grads": [], "momentum_buffers": [], "ema": []}
    single = life.chance(0.3)
    for _ in range(1 if single else life.pick((0, 1, 2, 3))):
        types = life.pick(COMBINATIONS)
        shape = shape_of(life, limit(types[0]))
        wide = "float64" if types[0] == "float64" else "float32"
        made = (array(life, types[0], shape), gradient(life, types[1], shape))
        for found, a in zip(
            lists.values(),
            (*made, array(life, types[2], shape), array(life, wide, shape)),
            strict=True,
        ):
            found.append(a)
    call = {name: one_or_list(life, found, single) for name, found in lists.items()} | rule
    if spoiled := life.chance(0.2):
        spoil(life, call, lists)
    before = [[np.array(a.view) for a in found] for found in lists.values()]
    outcome = life.call(
        f"sgd_step {text(call, lists)}",
        partial(sf.sgd_step, **call),
        memory=lists["grads"],
        written=[*lists["params"], *lists["momentum_buffers"], *lists["ema"]],
        spoiled=spoiled,
    )
    if not outcome.done or spoiled:
        return
    if outcome.value is not None:
        unscale = abs(1.0 / rule.get("grad_scale", 1.0))
        check_norm(life, outcome.value, before[1], 2.0, unscale)
    want = step(*before, **rule, found=outcome.value)
    after = (want.params, want.momenta, want.averages)
    for name, arrays in zip(("params", "momentum_buffers", "ema"), after, strict=True):
        for i, new in enumerate(arrays or []):
            assert_same_bits(np.array(lists[name][i].view), new, f"{name}[{i}]")
