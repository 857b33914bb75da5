"""The step on chosen elements in NumPy: the dense formula on what is taken out, and put back."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.oracles.dense import sgd


def sgd_chosen(
    w: np.ndarray, g: np.ndarray, indices: np.ndarray, m: np.ndarray | None = None, **rule: Any
) -> tuple[np.ndarray, np.ndarray | None]:
    """The new parameter and momentum; nothing is changed in place."""
    out = np.array(w)
    flat = out.reshape(-1)
    stepped, momentum = sgd(flat[indices], g.reshape(-1)[indices], m, **rule)
    flat[indices] = stepped
    return out, momentum


def masked(g: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """A gradient that is zero everywhere else, laid out like it."""
    out = np.zeros_like(g)
    where = np.unravel_index(indices, g.shape)
    out[where] = g[where]
    return out
