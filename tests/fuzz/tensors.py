"""Lists of arrays for the steps: shapes, values, rules, and one argument gone wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.cases import DTYPES, special_values
from tests.fuzz import wrong
from tests.fuzz.life import Life, brief
from tests.fuzz.memory import ANY, Guarded, Layout, guarded, read_only

_LENGTHS = (0, 1, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 97)
BROADCAST = Layout(broadcast=True)


def shape_of(life: Life, most: int = 400, *, dimensions: Sequence[int] = (0, 1, 1, 2, 3)) -> Any:
    """A shape of at most so many elements; now and then one that threads share."""
    if most >= 400 and dimensions[0] == 0 and life.chance(0.02):
        return (life.number(60_000, 80_000),)
    while True:
        shape = tuple(life.pick(_LENGTHS) for _ in range(life.pick(dimensions)))
        if math.prod(shape) <= most:
            return shape


def values(life: Life, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of all kinds, or few different ones, so that there are ties."""
    size = math.prod(shape)
    if life.chance(0.2):
        few = np.array([0.0, -0.0, 1.0, -1.0, 0.5, np.inf, np.nan, 1e-45])
        return life.numbers.choice(few, size).astype(DTYPES[dtype]).reshape(shape)
    if life.chance(0.3):
        return life.numbers.standard_normal(size).astype(DTYPES[dtype]).reshape(shape)
    return special_values(DTYPES[dtype], size, life.numbers).reshape(shape)


def array(life: Life, dtype: str, shape: tuple[int, ...], how: Layout = ANY) -> Guarded:
    return guarded(life, values(life, dtype, shape), how)


def gradient(life: Life, dtype: str, shape: tuple[int, ...]) -> Guarded:
    """An array that is only read: broadcast or read-only, too."""
    made = array(life, dtype, shape, BROADCAST)
    return read_only(made) if made.array is made.view and life.chance(0.2) else made


def limit(dtype: str) -> int:
    """How many elements: the oracles of float64 are made of exact rationals, slow."""
    return 60 if dtype == "float64" else 400


def terms(life: Life) -> dict[str, Any]:
    """Valid hyper-parameters of a step."""
    rule: dict[str, Any] = {"lr": life.pick((0.0, 0.1, 1.0, 1e-3))}
    if life.chance(0.6):
        rule["momentum"] = life.pick((0.9, 0.5, 1.0, 1e-3))
        if life.chance(0.3):
            rule["nesterov"] = True
        elif life.chance(0.3):
            rule["dampening"] = life.pick((0.3, 1.0, -0.5))
    if life.chance(0.4):
        rule["weight_decay"] = life.pick((0.01, 1.0))
        rule["decoupled_weight_decay"] = life.chance(0.4)
    if life.chance(0.2):
        rule["maximize"] = True
    return rule


def one_or_list(life: Life, arrays: Sequence[Guarded], single: bool) -> Any:
    """The arrays as an argument: a list or a tuple of them, or the one that there is."""
    given = [a.array for a in arrays]
    if single:
        return given[0]
    return tuple(given) if life.chance(0.2) else given


def spoil(life: Life, call: dict[str, Any], lists: dict[str, Sequence[Guarded]]) -> None:
    """Makes one argument of a call a wrong one, or one that may be wrong.

    Args:
        call: the arguments by name, one of which is replaced.
        lists: those that are arrays or lists of arrays.
    """
    name = life.pick(list(call))
    life.note(f"  spoils {name}")
    if name not in lists:
        call[name] = wrong.number(life)
        return
    mine = lists[name]
    others = [a.array for key, found in lists.items() if key != name for a in found]
    if isinstance(call[name], list | tuple):
        call[name] = wrong.arrays(life, call[name], [a.view for a in mine], others)
    elif others and life.chance(0.3):
        call[name] = life.pick(others)
    else:
        call[name] = wrong.array(life, mine[0].view)


def text(call: dict[str, Any], lists: dict[str, Sequence[Guarded]]) -> str:
    """A call's arguments for the log."""
    arrays = [f"{name}={list(found)}" for name, found in lists.items()]
    numbers = [f"{name}={brief(value)}" for name, value in call.items() if name not in lists]
    return ", ".join([*numbers, *arrays])
