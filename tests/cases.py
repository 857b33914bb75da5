"""What goes into the tests of several folders: dtypes, lengths, values, layouts, rules."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from subgrad_fast import _core

# --- dtypes and lengths ---------------------------------------------------------------------------

DTYPES = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}

# Parameter, gradient, momentum: every combination the kernels promise.
COMBINATIONS = [
    (p, g, m)
    for p in DTYPES
    for g in dict.fromkeys((p, "float32", "bfloat16", "float16"))
    for m in dict.fromkeys((p, "float32"))
]

# Parameter and gradient of the thresholded step, whose momentum and residual have the type that is
# computed in.
THRESHOLD_TYPES = [
    (p, g) for p, g, m in COMBINATIONS if m == ("float64" if p == "float64" else "float32")
]

# Sizes that straddle every register width, and one that straddles the split among threads.
LENGTHS = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 4095, 4096, 4097]


def every_isa() -> Iterator[str]:
    """The name of each instruction set of this machine, which is in force until the next one."""
    try:
        for isa in _core.available_isas():
            _core.testing.select_isa(isa)
            yield isa
    finally:
        _core.testing.select_isa(None)


# --- hyper-parameters -----------------------------------------------------------------------------

# A usual step.
RULE: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}


def _rules() -> list[dict[str, Any]]:
    found = []
    grid = itertools.product(
        (0.0, 0.9),
        (0.0, 0.3),
        (False, True),
        (0.0, 0.02),
        (False, True),
        (False, True),
        (False, True),
    )
    for momentum, dampening, nesterov, decay, decoupled, maximize, first in grid:
        if nesterov and (momentum == 0.0 or dampening != 0.0):
            continue
        if momentum == 0.0 and (first or dampening != 0.0):
            continue
        if decoupled and decay == 0.0:
            continue
        found.append(
            {
                "lr": 0.1,
                "momentum": momentum,
                "dampening": dampening,
                "nesterov": nesterov,
                "weight_decay": decay,
                "decoupled_weight_decay": decoupled,
                "maximize": maximize,
                "first_step": first,
            }
        )
    return found


# Every combination of hyper-parameters that takes another path through the rule, without l1.
RULES = _rules()
RULE_IDS = [
    "-".join(f"{k[:4]}{v:g}" for k, v in rule.items() if v and k != "lr") or "plain"
    for rule in RULES
]

# ... and with it; lr and l1 are left to the test.
L1_RULES: list[dict[str, Any]] = [
    {"momentum": momentum, "nesterov": nesterov, "weight_decay": decay, "first_step": first}
    | ({"decoupled_weight_decay": True} if decoupled else {})
    for momentum, nesterov, first in (
        (0.0, False, False),
        (0.9, False, False),
        (0.9, False, True),
        (0.9, True, False),
        (0.9, True, True),
    )
    for decay, decoupled in ((0.0, False), (0.02, False), (0.02, True))
]

# How the thresholded step treats momentum, and every rule in every such mode.
THRESHOLD_MODES: list[dict[str, Any]] = [
    {"momentum_correction": correction, "momentum_masking": masking}
    for correction, masking in ((True, True), (True, False), (False, True))
]
THRESHOLD_RULES = [
    rule | mode
    for rule, mode in itertools.product(RULES, THRESHOLD_MODES)
    if rule["momentum"] or mode is THRESHOLD_MODES[0]
]


# --- values ---------------------------------------------------------------------------------------


def special_values(dtype: np.dtype, n: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers of many sizes, salted with NaN, infinities, zeros of both signs and denormals."""
    x = rng.standard_normal(n) * 10.0 ** rng.integers(-3, 4, n)
    tiny = float(ml_dtypes.finfo(dtype).smallest_subnormal)
    salt = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, tiny, -tiny, 3 * tiny, 1.0, -1.0])
    where = rng.random(n) < 0.25
    x[where] = rng.choice(salt, int(where.sum()))
    with np.errstate(all="ignore"):
        return x.astype(dtype)


def special_arrays(types: Sequence[str], n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """An array of special values for each type."""
    return [special_values(DTYPES[t], n, rng) for t in types]


def threshold_arrays(types: tuple[str, str], n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Parameter, gradient, momentum and residual."""
    wide = "float64" if types[0] == "float64" else "float32"
    return special_arrays((*types, wide, wide), n, rng)


def around_16_bit_values(dtype: np.dtype) -> np.ndarray:
    """float32 numbers by which rounding to a 16-bit type is seen.

    They are its values, the midpoints between neighbours, what is next to these in float32, and
    numbers beyond both ends of its range.
    """
    with np.errstate(all="ignore"):
        every = np.arange(2**16, dtype=np.uint16)
        x = every.view(dtype).astype(np.float32)
        up = (every + np.uint16(1)).view(dtype).astype(np.float32)
        middle = (x.astype(np.float64) + up.astype(np.float64)).astype(np.float32) / np.float32(2)
        about = [np.nextafter(middle, np.float32(side)) for side in (-9e9, 9e9)]
        ends = np.float32([3e38, -3e38, 1e-45, -1e-45, 65519, 65520])
        return np.concatenate([x, middle, *about, ends])


def heavy_tailed(n: int, seed: int = 0) -> np.ndarray:
    """Student's t with two degrees of freedom: the tail of gradients."""
    return np.random.default_rng(seed).standard_t(2, n)


def adversaries(n: int) -> dict[str, np.ndarray]:
    """What a sample, a histogram or a division by values could get wrong in a selection."""
    rng = np.random.default_rng(5)
    x = heavy_tailed(n)
    ramp = np.linspace(-3, 5, n)
    one_huge = np.zeros(n)
    one_huge[n // 3] = 1e30
    huge_in_noise = rng.standard_normal(n) * 1e-3
    huge_in_noise[n // 2] = 1e30
    period = np.full(n, 1e-3)
    period[::16] = 1.0 + rng.random(len(period[::16]))
    unseen = rng.random(n) * 1e-6
    unseen[n // 2 : n // 2 + n // 50] = 1.0
    salted = special_values(np.dtype(np.float32), n, rng).astype(np.float64)
    return {
        "heavy": x,
        "equal": np.full(n, 2.7),
        "equal and negative": np.full(n, -1.5),
        "zero": np.zeros(n),
        "minus zero": np.where(rng.random(n) < 0.5, -0.0, 0.0),
        "two": np.where(rng.random(n) < 0.5, 1.0, -3.0),
        "few": np.round(x),
        "ascending": np.sort(np.abs(x)),
        "descending": -np.sort(-np.abs(x)),
        "ramp": ramp,
        "ramp down": ramp[::-1].copy(),
        "one huge": one_huge,
        "one huge in noise": huge_in_noise,
        "period": period,
        "a run": unseen,
        "rounded up": np.where(rng.random(n) < 0.004, x * 1e3, 0.1),
        "nan": np.where(rng.random(n) < 0.1, np.nan, ramp),
        "all nan": np.full(n, np.nan),
        "infinite": np.where(rng.random(n) < 0.3, -np.inf, x),
        "denormal": ramp * 1e-40,
        "salted": salted,
    }


# --- layouts --------------------------------------------------------------------------------------


Layout = Callable[[np.ndarray], np.ndarray]


def _part(whole: Callable[[int], int], which: slice, axes: slice = slice(None)) -> Layout:
    """What `which` takes of these axes of a larger array, whose lengths are `whole` of theirs."""

    def lay(x: np.ndarray) -> np.ndarray:
        among = range(x.ndim)[axes]
        lengths = [whole(n) if i in among else n for i, n in enumerate(x.shape)]
        # What lies between the elements is NaN: no result may depend on it.
        larger = np.full(lengths, np.nan, x.dtype)
        part = larger[tuple(which if i in among else slice(None) for i in range(x.ndim))]
        part[...] = x
        return part

    return lay


def _reversed(x: np.ndarray, axes: Iterable[int]) -> np.ndarray:
    backwards = tuple(axes)
    return np.flip(np.ascontiguousarray(np.flip(x, backwards)), backwards)


def _unaligned(x: np.ndarray) -> np.ndarray:
    out = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    out[...] = x
    return out


def _field(x: np.ndarray) -> np.ndarray:
    out = np.zeros(x.shape, [("pad", "u1"), ("x", x.dtype)])["x"]
    out[...] = x
    return out


# Functions that lay an array of floats out another way, without changing its values.
LAYOUTS: dict[str, Layout] = {
    "c": np.ascontiguousarray,
    "f": np.asfortranarray,
    "every_other": _part(lambda n: 2 * n, slice(None, None, 2), slice(-1, None)),
    "sliced": _part(lambda n: 2 * n, slice(None, None, 2)),
    "window": _part(lambda n: n + 3, slice(1, -2)),
    "reversed_rows": lambda x: _reversed(x, {0}),
    "reversed_ends": lambda x: _reversed(x, {0, x.ndim - 1}),
    "reversed_all": lambda x: _reversed(x, range(x.ndim)),
    "unaligned": _unaligned,
    "field": _field,  # of packed records: neither aligned nor contiguous
}
