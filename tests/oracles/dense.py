"""The SGD step written from its formula in NumPy: the oracle, shared by all tests, fast in nothing.

NumPy has no fused multiply-add, so one is made here: float32 through float64 (the product is exact
there; the sum is rounded to odd, so that the second rounding cannot err), float64 through exact
rationals.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np


def _fma64(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    a, b, c = np.broadcast_arrays(a, b, c)
    with np.errstate(all="ignore"):
        out = np.array(a * b + c)  # right for what is not finite, and for zeros' signs
    finite = np.isfinite(a) & np.isfinite(b) & np.isfinite(c) & (a != 0) & (b != 0)
    for i in np.flatnonzero(finite):
        exact = Fraction(float(a.flat[i])) * Fraction(float(b.flat[i])) + Fraction(float(c.flat[i]))
        if exact == 0:
            out.flat[i] = 0.0  # x - x is +0 in round-to-nearest; neither term is zero here
            continue
        try:
            out.flat[i] = float(exact)
        except OverflowError:
            out.flat[i] = np.inf if exact > 0 else -np.inf
        if out.flat[i] == 0:
            out.flat[i] = np.copysign(0.0, float(exact > 0) - 0.5)
    return out


def _fma32(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    a, b, c = (np.asarray(x, np.float64) for x in np.broadcast_arrays(a, b, c))
    with np.errstate(all="ignore"):
        product = a * b  # exact: 24 + 24 bits
        total = product + c
        # Knuth's two-sum gives the error of the addition, exactly.
        t = total - product
        error = (product - (total - t)) + (c - t)
        bits = total.view(np.int64)
        odd = (bits & 1) == 1
        inexact = np.isfinite(total) & (error != 0) & ~odd
        # Round to odd: move towards the error's side if the last bit is even.
        away = (error > 0) == (total > 0)
        bits = np.where(inexact, np.where(away, bits + 1, bits - 1), bits)
        return bits.view(np.float64).astype(np.float32)


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a * b + c rounded once, in the dtype of `c`."""
    return _fma32(a, b, c) if np.asarray(c).dtype == np.float32 else _fma64(a, b, c)


def soft_threshold(w: np.ndarray, t: np.floating) -> np.ndarray:
    """sign(w) * max(|w| - t, 0) in the dtype of `w`: NaN stays, what is shrunk away is +0."""
    with np.errstate(all="ignore"):
        shrunk = np.copysign(np.abs(w) - t, w)
        # At t = 0 nothing is shrunk: a zero keeps its sign.
        return np.where(np.abs(w) <= t, w if t == 0 else w.dtype.type(0.0), shrunk)


def as_threshold(t: float, wide: Any) -> Any:
    """A threshold as the type that is computed in; beyond its numbers the largest of them."""
    return wide(min(t, float(np.finfo(wide).max)))


def sgd(
    w: np.ndarray,
    g: np.ndarray,
    m: np.ndarray | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    l1: float = 0.0,
    first_step: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The new parameter and momentum; nothing is changed in place."""
    wide = np.dtype(np.float64) if w.dtype == np.float64 else np.dtype(np.float32)
    scalar = wide.type
    x, d = w.astype(wide), g.astype(wide)
    buf = None if m is None else m.astype(wide)
    with np.errstate(all="ignore"):
        if maximize:
            d = -d
        if weight_decay != 0.0 and decoupled_weight_decay:
            x = x * scalar(1.0 - lr * weight_decay)
        elif weight_decay != 0.0:
            d = fma(scalar(weight_decay), x, d)
        step = d
        if momentum != 0.0:
            assert buf is not None
            buf = d if first_step else fma(scalar(1.0 - dampening), d, scalar(momentum) * buf)
            step = fma(scalar(momentum), buf, d) if nesterov else buf
        x = fma(scalar(-lr), step, x)
        if l1 != 0.0:
            x = soft_threshold(x, as_threshold(lr * l1, scalar))
        return x.astype(w.dtype), m if m is None or momentum == 0.0 else buf.astype(m.dtype)


def sgd_rows(
    w: np.ndarray,
    rows: np.ndarray,
    values: np.ndarray,
    m: np.ndarray | None = None,
    *,
    momentum: float = 0.0,
    first_step: bool = False,
    **rule: float,
) -> tuple[np.ndarray, np.ndarray | None]:
    """`sgd` on each row that is named, once, with the sum of its gradients in order."""
    w, m = w.copy(), None if m is None else m.copy()
    wide = np.float64 if w.dtype == np.float64 else np.float32
    if m is not None and first_step:
        m[...] = 0
    for row in dict.fromkeys(np.asarray(rows).tolist()):
        total = np.full(w.shape[1:], -0.0, wide)
        with np.errstate(all="ignore"):
            for value in values[np.asarray(rows) == row]:
                total = total + value.astype(wide)
        holds_nothing = m is not None and not m[row].any()
        new_w, new_m = sgd(
            w[row : row + 1],
            total[None],
            None if m is None else m[row : row + 1],
            momentum=momentum,
            first_step=holds_nothing,
            **rule,  # type: ignore[arg-type]
        )
        w[row] = new_w[0]
        if m is not None and new_m is not None:
            m[row] = new_m[0]
    return w, m
