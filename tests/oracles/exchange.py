"""The averages that ranks exchange by their largest entries, in NumPy: the oracle of the hook."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.cases import DTYPES

Step = dict[str, Any]


def in_memory(name: str, x: np.ndarray) -> np.ndarray:
    """The elements in the order in which they lie in memory, flat."""
    return (x.transpose(0, 2, 3, 1) if name == "conv.weight" else x).ravel()


def narrowed(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Rounded to the dtype; what is finite and beyond its range becomes its largest number."""
    with np.errstate(all="ignore"):
        rounded = x.astype(dtype)
        beyond = np.isfinite(x) & ~np.isfinite(rounded.astype(x.dtype))
        largest = np.nextafter(dtype.type(np.inf), dtype.type(0))
        rounded[beyond] = np.where(x[beyond] < 0, -largest, largest)
    return rounded


def kept(x: np.ndarray, settings: Step) -> np.ndarray:
    """Which of the elements are sent."""
    if settings.get("threshold") is not None:
        return np.abs(x) >= settings["threshold"]
    n = x.size
    k = min(settings.get("k", n), n)
    if "density" in settings:
        k = max(1, int(np.floor(settings["density"] * n + 0.5)))
    keep = np.zeros(n, bool)
    keep[np.argsort(-np.abs(x), kind="stable")[:k]] = True
    return keep


def exchange(
    gradients: list[Step], held: list[Step], buckets: list[list[str]], settings: Step
) -> Step:
    """The averages of one step, flat and in memory order; `held`, of each rank, goes on by it."""
    averages: Step = {}
    chosen = settings.get("wire_dtype")  # one of torch's
    for mine, residuals in zip(gradients, held, strict=True):
        for names in buckets:
            x = {}
            for name in names:
                g = in_memory(name, mine[name])
                wide = g.dtype if g.dtype == np.float64 else np.dtype(np.float32)
                nothing = np.full(g.size, -0.0, wide)
                x[name] = residuals.get(name, nothing) + g.astype(wide)
                if name not in averages:
                    averages[name] = nothing
                if not g.any() and x[name].any():
                    residuals[name] = x.pop(name)
            scopes = [list(x)] if settings.get("scope") == "bucket" else [[name] for name in x]
            for scope in filter(None, scopes):
                keep = kept(np.concatenate([x[name] for name in scope]), settings)
                ends = np.cumsum([x[name].size for name in scope])[:-1]
                for name, own in zip(scope, np.split(keep, ends), strict=True):
                    v = x[name]
                    own_type = mine[name].dtype
                    wire = own_type
                    if chosen is not None and own_type == np.float32:
                        wire = DTYPES[str(chosen).removeprefix("torch.")]
                    sent = narrowed(v, wire).astype(v.dtype)
                    rest = np.where(own, v - sent, v)
                    rest[own & (rest == 0)] = -0.0
                    residuals[name] = rest
                    share = v.dtype.type(1 / len(gradients))
                    product = (sent * share).astype(own_type).astype(v.dtype)
                    averages[name] = np.where(own, averages[name] + product, averages[name])
    return {name: narrowed(a, gradients[0][name].dtype) for name, a in averages.items()}
