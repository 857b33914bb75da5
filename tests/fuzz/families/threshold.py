"""Lives of `threshold_step` with all of its options, against the formula in NumPy."""

from __future__ import annotations

import math
import pickle
from functools import partial
from typing import Any

import numpy as np

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import THRESHOLD_MODES, THRESHOLD_TYPES
from tests.fuzz.life import Life, alike
from tests.fuzz.memory import Guarded, Layout, values_of
from tests.fuzz.tensors import array, gradient, limit, one_or_list, shape_of, spoil, terms, text
from tests.oracles.select import keys
from tests.oracles.threshold import Stepped, at_least, threshold_step

_NUMBERS = ("threshold", "density", "k", "selector")


def live(life: Life) -> None:
    reused = [sf.Reused(life.pick((0.0, 0.1, 0.5, 1.0))) for _ in range(2)]
    for _ in range(life.number(15, 30)):
        one_step(life, reused)


def one_step(life: Life, reused: list[sf.Reused]) -> None:
    single, together = life.chance(0.3), life.chance(0.3)
    wide = life.pick(("float32", "float32", "float64"))
    w, g, v, m = _arrays(life, wide, single, together)
    rule = terms(life) | life.pick(THRESHOLD_MODES)
    if not rule.get("momentum"):
        rule |= THRESHOLD_MODES[0]
    choice = _choice(life, [a.view.size for a in w], together, reused)
    plain = all(a.view.flags.c_contiguous for found in (w, g, v, m) for a in found)
    options: dict[str, Any] = {"scope": "global" if together else "tensor"} | choice
    if not plain or "selector" in choice or life.chance(0.5):
        options["emit"] = life.pick(("int32", "int64"))
    for name in ("measure", "first_step"):
        if life.chance(0.3):
            options[name] = True
    feedback = life.chance(0.8)
    lists: dict[str, Any] = {"params": w, "grads": g}
    if feedback:
        lists["residuals"] = v
    else:
        options["error_feedback"] = False
    if rule.get("momentum"):
        lists["momentum_buffers"] = m
    call = {name: one_or_list(life, found, single) for name, found in lists.items()}
    call |= rule | options
    if spoiled := life.chance(0.2):
        spoil(life, call, lists)
    rule["first_step"] = options.get("first_step", False)
    before = [[np.array(a.view) for a in found] for found in (w, g, m, v)]
    if not feedback:
        before[3] = [None] * len(w)
    last = list(choice["selector"].thresholds) if choice.get("selector") in reused else []
    outcome = life.call(
        f"threshold_step {text(call, lists)}",
        partial(sf.threshold_step, **call),
        memory=g,
        written=[*w, *v, *m],
        state=lambda: [list(r.thresholds) for r in reused],
        spoiled=spoiled,
    )
    if not outcome.done or spoiled:
        return
    result = outcome.value
    held = [_step(arrays, None, rule).held for arrays in zip(*before, strict=True)]
    kept = _kept(life, held, result, options, last)
    for i, arrays in enumerate(zip(*before, strict=True)):
        want = _step(arrays, kept[i], rule)
        assert_same_bits(np.array(w[i].view), want.w, f"params[{i}]")
        if want.v is not None:
            assert_same_bits(np.array(v[i].view), want.v, f"residuals[{i}]")
        if rule.get("momentum") and want.m is not None:
            assert_same_bits(np.array(m[i].view), want.m, f"momentum_buffers[{i}]")
    _check_report(life, result, held, kept, options)


def _arrays(life: Life, wide: str, single: bool, together: bool) -> tuple[list[Guarded], ...]:
    lists: tuple[list[Guarded], ...] = ([], [], [], [])
    alike_types = [t for t in THRESHOLD_TYPES if (t[0] == "float64") == (wide == "float64")]
    rows = Layout(rows_contiguous=True) if life.chance(0.5) else Layout()
    for _ in range(1 if single else life.pick((1, 1, 2, 3, 5))):
        types = life.pick(alike_types if together else THRESHOLD_TYPES)
        own = "float64" if types[0] == "float64" else "float32"
        shape = shape_of(life, limit(types[0]))
        lists[0].append(array(life, types[0], shape, rows))
        lists[1].append(gradient(life, types[1], shape))
        lists[2].append(array(life, own, shape, rows))
        lists[3].append(array(life, own, shape, rows))
    return lists


def _choice(
    life: Life, sizes: list[int], together: bool, reused: list[sf.Reused]
) -> dict[str, Any]:
    """How much is kept."""
    kind = life.pick(("threshold", "density", "k", "exact", "sampled", "reused"))
    density = life.pick((0.0, 0.1, 0.5, 1.0, life.rng.random()))
    if kind == "threshold":
        return {"threshold": life.pick((0.0, 0.5, 1.0, math.inf, 1e-45, 10.0))}
    if kind == "density":
        return {"density": density}
    if kind == "k":
        return {"k": life.number(0, sum(sizes) if together else min(sizes))}
    if kind == "exact":
        return {"selector": sf.Exact(density=density)}
    if kind == "sampled":
        return {"selector": sf.Sampled(density)}
    return {"selector": life.pick(reused)}


def _step(arrays: tuple[Any, ...], kept: np.ndarray | None, rule: dict[str, Any]) -> Stepped:
    w, g, m, v = arrays
    return threshold_step(
        w, g, m, v, lambda held: np.zeros(held.shape, bool) if kept is None else kept, **rule
    )


def _kept(
    life: Life, held: list[np.ndarray], result: Any, options: dict[str, Any], last: list[Any]
) -> list[np.ndarray]:
    """What was to be kept: as the report says where it may, after a look at that."""
    if options.get("threshold") is not None:
        return [at_least(options["threshold"])(h).reshape(h.shape) for h in held]
    together = options["scope"] == "global"
    scopes = [range(len(held))] if together else [[i] for i in range(len(held))]
    kept: list[np.ndarray] = []
    if result.selections is not None:
        for h, selection in zip(held, result.selections, strict=True):
            mask = np.zeros(h.size, bool)
            indices = values_of(selection.indices)
            life.check(np.unique(indices).size == indices.size, "an index comes twice")
            mask[indices] = True
            kept.append(mask.reshape(h.shape))
    else:  # all is row-major, so of ties the first are kept
        kept = [np.zeros(h.shape, bool) for h in held]
        for scope in scopes:
            every = np.concatenate([keys(held[i]).ravel() for i in scope])
            order = np.argsort(-every, kind="stable")[: _wanted(options, every.size)]
            mask = np.zeros(every.size, bool)
            mask[order] = True
            ends = np.cumsum([held[i].size for i in scope])[:-1]
            for i, part in zip(scope, np.split(mask, ends), strict=True):
                kept[i] = part.reshape(held[i].shape)
    for number, scope in enumerate(scopes):
        every = np.concatenate([keys(held[i]).ravel() for i in scope])
        chosen = np.concatenate([kept[i].ravel() for i in scope])
        threshold = result.thresholds[scope[0]]
        known = last[number] if len(last) == len(scopes) else None
        reached = None
        if known is not None and known > 0:
            reached = known, sum(int(at_least(known)(held[i]).sum()) for i in scope)
        _check_scope(life, every, chosen, threshold, options, reached)
    return kept


def _wanted(options: dict[str, Any], size: int) -> int:
    selector = options.get("selector")
    k = options.get("k")
    if k is not None:
        return int(k)
    density = options["density"] if selector is None else selector.density
    return max(1, math.floor(density * size + 0.5)) if density > 0 and size else 0


def _check_scope(
    life: Life,
    every: np.ndarray,
    chosen: np.ndarray,
    threshold: float,
    options: dict[str, Any],
    last: tuple[float, int] | None,
) -> None:
    """That one scope's choice is what its selector promises.

    `last`: a threshold that may be reused, and how many reach it.
    """
    wanted, selector = _wanted(options, every.size), options.get("selector")
    count = int(chosen.sum())
    if chosen.any() and not chosen.all():
        life.check(every[chosen].min() >= every[~chosen].max(), "a smaller one was kept")
    if selector is None or isinstance(selector, sf.Exact):
        life.check(count == wanted, f"{count} kept, not {wanted}")
        return
    life.check(not (chosen & (every == 0)).any(), "a zero was kept")
    if every.size > 65_536:
        return
    # A sample of so few is all of them: the last threshold is judged by what it keeps.
    if isinstance(selector, sf.Reused) and last is not None and wanted > 0:
        before, reached = last
        if wanted / 1.5 <= reached <= wanted * 1.5:
            same = threshold in (before, float(np.float32(before)))
            life.check(same and count == reached, "the threshold is not the last one")
            return
    life.check(count == min(wanted, int((every > 0).sum())), f"{count} kept of {wanted}")


def _check_report(
    life: Life,
    result: Any,
    held: list[np.ndarray],
    kept: list[np.ndarray],
    options: dict[str, Any],
) -> None:
    life.check(result.kept == [int(k.sum()) for k in kept], "kept")
    life.check(result.sizes == [h.size for h in held], "sizes")
    if result.selections is not None:
        for h, selection in zip(held, result.selections, strict=True):
            indices, values = values_of(selection.indices), values_of(selection.values)
            life.check(str(indices.dtype) == options["emit"], "the indices' dtype")
            assert_same_bits(values, h.ravel()[indices], "values")
    if options.get("measure"):
        for h, k, (inside, outside) in zip(held, kept, result.energies, strict=True):
            with np.errstate(all="ignore"):
                squares = h.astype(np.float64) ** 2
                want = (squares[k].sum(), squares[~k].sum())
            for got, right in zip((inside, outside), want, strict=True):
                close = not math.isfinite(right) or math.isclose(got, right, rel_tol=1e-5)
                life.check(close or abs(got - right) < 1e-300, f"energy {got}, not {right}")
    else:
        life.check(result.energies is None, "energies that nobody asked for")
    again = pickle.loads(pickle.dumps(result))
    life.check(
        alike([*again.kept, *again.thresholds], [*result.kept, *result.thresholds]), "pickle"
    )
