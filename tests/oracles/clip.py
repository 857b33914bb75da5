"""What stands around a step, in NumPy: norms, coefficients, averages, and the whole sequence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.oracles.dense import fma, sgd

BLOCK, LANES = 4096, 32


def exact_norm(arrays: Sequence[np.ndarray]) -> float:
    """The norm of all elements together, to the last bit or nearly; NaN before infinities."""
    x = np.concatenate([np.asarray(a).astype(np.float64).ravel() for a in arrays] or [np.zeros(0)])
    if np.isfinite(x).all():
        return math.hypot(*x.tolist())
    return math.nan if np.isnan(x).any() else math.inf


def square_sum(x: np.ndarray) -> np.float64:
    """The sum of squares in the order that is promised: blocks in a row, in each 32 lanes."""
    total = np.float64(0.0)
    flat = np.asarray(x).astype(np.float64).ravel()
    for begin in range(0, flat.size, BLOCK):
        block = flat[begin : begin + BLOCK]
        rows = np.concatenate([block, np.zeros(-block.size % LANES)]).reshape(-1, LANES)
        lanes = np.zeros(LANES)
        for row in rows:
            # The square of a float32 is exact in float64: one rounding, as of a fused operation.
            lanes = fma(row, row, lanes) if x.dtype == np.float64 else row * row + lanes
        while lanes.size > 1:
            half = lanes.size // 2
            lanes = lanes[:half] + lanes[half:]
        total = total + lanes[0]
    return total


def norm(arrays: Sequence[np.ndarray]) -> float:
    """The norm in the order that is promised, where no square leaves float64."""
    total = np.float64(0.0)
    with np.errstate(all="ignore"):
        for x in arrays:
            total = total + square_sum(x)
        return float(np.sqrt(total))


def wide_of(dtype: Any) -> Any:
    """The type that is computed in."""
    return np.float64 if np.dtype(dtype) == np.float64 else np.float32


def coefficient(norm: float, max_norm: float, wide: Any) -> float:
    """torch's, which divides by way of the reciprocal, in the type `wide`."""
    with np.errstate(all="ignore"):
        reciprocal = wide(1.0) / (wide(norm) + wide(1e-6))
        c = reciprocal * wide(max_norm)
    return 1.0 if c > 1 else float(c)


def clip(g: np.ndarray, scale: float, limit: float = math.inf, wide: Any = None) -> np.ndarray:
    """The gradient times `scale`, held within the limit, in the type that is computed in."""
    wide = wide_of(g.dtype) if wide is None else wide
    with np.errstate(all="ignore"):
        x = g.astype(wide)
        if scale != 1.0:
            x = x * wide(scale)
        low, high = -wide(limit), wide(limit)
        return np.where(x < low, low, np.where(x > high, high, x)).astype(wide)


def average(e: np.ndarray, w: np.ndarray, decay: float) -> np.ndarray:
    """torch.lerp(e, w, 1 - decay), in both of its forms."""
    share = e.dtype.type(1.0 - decay)
    with np.errstate(all="ignore"):
        if share < 0.5:
            return fma(np.broadcast_to(share, e.shape), w - e, e)
        return fma(np.broadcast_to(share - e.dtype.type(1.0), e.shape), w - e, w)


@dataclass
class Step:
    """What a step leaves behind. Lists are by tensor, and None where there are no such arrays."""

    params: list[np.ndarray]
    momenta: list[np.ndarray] | None
    averages: list[np.ndarray] | None
    norm: float
    skipped: bool
    scales: list[float]


def step(
    params: Sequence[np.ndarray],
    grads: Sequence[np.ndarray],
    momenta: Sequence[np.ndarray] | None = None,
    ema: Sequence[np.ndarray] | None = None,
    *,
    grad_scale: float = 1.0,
    max_norm: float | None = None,
    max_norm_scope: str = "global",
    clip_value: float | None = None,
    skip_nonfinite: bool = False,
    ema_decay: float | None = None,
    first_step: bool = False,
    found: float | None = None,
    **rule: Any,
) -> Step:
    """The whole sequence; nothing is changed in place.

    `found`: the norm that a step has found, where its last bits are not what is looked at.
    """
    unscale = 1.0 / grad_scale
    together = max_norm_scope != "tensor"
    total = norm(grads) * abs(unscale) if found is None else found
    norms = [total if together else norm([g]) * abs(unscale) for g in grads]
    wide = [np.float64 if g.dtype == np.float64 else np.float32 for g in grads]
    if together and np.float64 in wide:
        wide = [np.float64] * len(wide)
    scales = [
        unscale * (1.0 if max_norm is None else coefficient(n, max_norm, t))
        for n, t in zip(norms, wide, strict=True)
    ]
    out = Step([], None, None, total, False, scales)
    if skip_nonfinite and not all(np.isfinite(g.astype(np.float64)).all() for g in grads):
        out.skipped = True
        out.params = [w.copy() for w in params]
        out.momenta = None if momenta is None else [m.copy() for m in momenta]
        out.averages = None if ema is None else [e.copy() for e in ema]
        return out
    limit = math.inf if clip_value is None else clip_value
    out.momenta = None if momenta is None else []
    out.averages = None if ema is None else []
    for i, (w, g) in enumerate(zip(params, grads, strict=True)):
        x = clip(g, scales[i], limit, wide_of(w.dtype))
        m = None if momenta is None else momenta[i]
        # The weights before they are rounded are those of a wide parameter.
        unrounded, new_m = sgd(w.astype(x.dtype), x, m, first_step=first_step, **rule)
        out.params.append(unrounded.astype(w.dtype))
        if out.momenta is not None and new_m is not None:
            out.momenta.append(new_m)
        if out.averages is not None and ema is not None:
            if ema_decay is None:
                out.averages.append(ema[i].copy())
            elif first_step:
                out.averages.append(unrounded.astype(ema[i].dtype))
            else:
                out.averages.append(average(ema[i], unrounded, ema_decay))
    return out
