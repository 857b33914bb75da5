"""The thresholded step written from its formula in NumPy: the oracle of its tests."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tests.oracles.clip import clip
from tests.oracles.dense import fma
from tests.oracles.select import keys, ranked

Keep = Callable[[np.ndarray], np.ndarray]


def at_least(threshold: float) -> Keep:
    """Keeps every magnitude of at least `threshold`, and every NaN."""

    def keep(v: np.ndarray) -> np.ndarray:
        return keys(v) >= keys(np.array([threshold]).astype(v.dtype))

    return keep


def largest(k: int) -> Keep:
    """Keeps the k largest magnitudes; of those that tie the ones with the lowest index."""

    def keep(v: np.ndarray) -> np.ndarray:
        kept = np.zeros(v.size, bool)
        kept[ranked([v])[:k]] = True
        return kept.reshape(v.shape)

    return keep


class Stepped(NamedTuple):
    """What a step leaves, and what it moved: `applied` is 0 where nothing was kept."""

    w: np.ndarray
    m: np.ndarray | None
    v: np.ndarray | None
    kept: np.ndarray
    held: np.ndarray  # the residual before anything was taken out


def threshold_step(
    w: np.ndarray,
    g: np.ndarray,
    m: np.ndarray | None,
    v: np.ndarray | None,
    keep: Keep,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    momentum_correction: bool = True,
    momentum_masking: bool = True,
    first_step: bool = False,
    scale: float = 1.0,
    limit: float = math.inf,
) -> Stepped:
    """One step; nothing is changed in place. `v` None: no error feedback.

    `scale`, `limit`: what the gradient is multiplied by, and then held within.
    """
    wide = np.dtype(np.float64) if w.dtype == np.float64 else np.dtype(np.float32)
    scalar = wide.type
    nothing = scalar(-0.0)
    x, d = w.astype(wide), clip(g, scale, limit, wide.type)

    def descend(d: np.ndarray) -> np.ndarray:
        nonlocal m
        if momentum == 0.0:
            return d
        assert m is not None
        m = d if first_step else fma(scalar(1.0 - dampening), d, scalar(momentum) * m)
        return fma(scalar(momentum), m, d) if nesterov else m

    with np.errstate(all="ignore"):
        if maximize:
            d = -d
        if weight_decay != 0.0 and not decoupled_weight_decay:
            d = fma(scalar(weight_decay), x, d)
        if momentum_correction:
            d = descend(d)
        held = np.full_like(d, nothing) if v is None or first_step else v
        held = held + d
        kept = keep(held)
        if weight_decay != 0.0 and decoupled_weight_decay:
            x = x * scalar(1.0 - lr * weight_decay)
        if momentum_correction or momentum == 0.0:
            x = np.where(kept, fma(scalar(-lr), held, x), x)
            if momentum != 0.0 and momentum_masking:
                m = np.where(kept, nothing, m)
        else:
            x = fma(scalar(-lr), descend(np.where(kept, held, nothing)), x)
        left = np.where(kept, nothing, held)
        return Stepped(x.astype(w.dtype), m, None if v is None else left, kept, held)
