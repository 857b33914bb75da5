"""Numbers and states as arguments. Every message names the argument and what was expected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import index
from typing import Any

import numpy as np

from subgrad_fast import _core
from subgrad_fast._arrays import is_torch, require_storage

_PLAIN = (str, bytes, int, float, complex, type(None), np.number, np.bool_)


def integer(name: str, value: Any, low: int = 0, high: int | None = None) -> int:
    """`value` as an int of [low, high], or [low, 2**63). Raises TypeError or ValueError."""
    high = 2**63 - 1 if high is None else high
    wanted = f"an integer from {_text(low)} to {_text(high)}"
    if is_torch(value):
        require_storage(value, name)
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"{name}: expected {wanted}, got {quoted(value)}") from None
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected {wanted}, got {value!r}")
    if not low <= number <= high:
        raise ValueError(f"{name}: expected {wanted}, got {number}")
    return number


def quoted(value: Any) -> str:
    """A value for a message: of what may hold others only the type, as of tensors, whose elements
    torch would read, freed or not."""
    return repr(value) if isinstance(value, _PLAIN) else type(value).__name__


def _text(limit: int) -> str:
    """A limit as one reads it."""
    power = (limit + 1).bit_length() - 1
    return f"2**{power} - 1" if power >= 31 and limit == 2**power - 1 else str(limit)


def number(name: str, value: Any) -> float:
    """`value` as a float; one that is too large for it is infinite. Raises TypeError."""
    if is_torch(value):
        require_storage(value, name)
    return _core.read_number(name, value)


def flag(name: str, value: Any) -> bool:
    """`value` as a bool: True, False, NumPy's, or 0 and 1. Raises TypeError."""
    return value if isinstance(value, bool) else _core.read_flag(name, value)


def one_of(name: str, value: Any, *wanted: str | None) -> Any:
    """`value`, which is one of these. Raises TypeError for no text, ValueError for another."""
    if (value is None or isinstance(value, str)) and value in wanted:
        return value
    *most, last = (repr(each) for each in wanted)
    kind = ValueError if isinstance(value, str) else TypeError
    raise kind(f"{name}: expected {', '.join(most)} or {last}, got {quoted(value)}")


def check_names(state: Any, names: Iterable[str], name: str = "state") -> None:
    """Raises TypeError or ValueError unless `state` is a dict that has these names."""
    if not isinstance(state, Mapping):
        raise TypeError(f"{name}: expected a dict, got {type(state).__name__}")
    missing = [wanted for wanted in names if wanted not in state]
    if missing:
        raise ValueError(f"{name}: {', '.join(missing)} missing")


def check_state(state: Any, version: int, names: set[str]) -> None:
    """Raises TypeError or ValueError unless `state` is a dict of that version, with these names."""
    check_names(state, sorted({"version", *names}))
    given = state["version"]
    if not isinstance(given, int) or given != version:
        raise ValueError(f"state['version']: expected {version}, got {quoted(given)}")
