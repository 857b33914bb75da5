"""Arguments of wrong types, and what a call says of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.border.public_calls import Call, kind_of


class Thing:
    """Of no type that anybody knows."""


class Sneaky:
    """Has a truth and is no flag; is compared and is no number."""

    def __bool__(self) -> bool:
        return True

    def __ge__(self, other: object) -> bool:
        return True

    __le__ = __ge__


# By kind: what is not of it. None is left out where it is the default.
WRONG: dict[str, list[Any]] = {
    "number": ["0.1", b"1", None, np.ones(1), np.full(3, 0.9), [0.1], (0.1,), 1j, np.complex64(1),
               {}, Thing(), Sneaky(), "1%", np.array(["1"]), slice(1)],
    "flag": ["no", "", b"no", None, 2.5, 0.0, 2, -1, np.ones(1), [], [True], {}, Thing(), Sneaky(),
             np.float32(1)],
    "integer": ["1", 2.5, 1.0, [1], np.ones(1), np.array([1]), 1j, {}, Thing(), Sneaky(), True,
                np.True_, None, np.float64(1)],
    "choice": [5, 2.5, b"tensor", ["tensor"], None, True, Thing(), np.array(["tensor"])],
}  # fmt: skip

# Of any type: what may be given to any argument by mistake.
ANYTHING: list[Any] = [
    None, "x", "", b"x", 2.5, -1, 10**30, float("nan"), True, [], (), {}, Thing(), Sneaky(), 1j,
    np.array([0.1]), np.full(3, 0.9), np.array("x"), np.array([None]), np.ones((2, 2), np.float32),
    np.float32(1), [[]], [None], iter([]), [1, 2], len, type, slice(1), np.ones(4, ">f4"),
    np.ma.masked_array(np.ones(4, np.float32), [1, 0, 0, 0]), np.ones((0, 3)), {"a": 1},
]  # fmt: skip

# pybind11's own words, which name neither the argument nor what it may be.
BINDINGS_WORDS = (
    "incompatible function arguments",
    "incompatible constructor arguments",
    "The following argument types are supported",
    "Unable to cast",
    "Unable to convert",
    "subgrad_fast._core",
    "subgrad::",
)


def has_bindings_words(error: BaseException) -> bool:
    return any(words in str(error) for words in BINDINGS_WORDS)


def attempt(call: Call, *positional: Any, **arguments: Any) -> Exception | None:
    """The error that a call raises."""
    try:
        call.make()(*positional, **arguments)
    except Exception as error:
        return error
    return None


def may_be_none(parameter: inspect.Parameter) -> bool:
    """Whether an argument is nothing by default, or says that None means something of its own."""
    return parameter.default is None or "None" in str(parameter.annotation)


def wrong_types(call: Call) -> Iterator[tuple[str, Any]]:
    """An argument's name and what is of another type than it is."""
    for parameter in call.parameters():
        for value in WRONG.get(kind_of(parameter.name), []):
            if value is not None or not may_be_none(parameter):
                yield parameter.name, value


def unnamed(call: Call) -> list[str]:
    """The wrong types that do not raise a TypeError which begins with the argument's name."""
    found = []
    for name, value in wrong_types(call):
        error = attempt(call, **{**call.arguments(), name: value})
        if not isinstance(error, TypeError) or not str(error).startswith(f"{name}: "):
            found.append(f"{name}={value!r}: {error!r}")
    return found


def in_bindings_words(call: Call) -> list[str]:
    """The mistakes that the bindings answer, or that raise what no caller expects."""
    attempts: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "an unknown keyword": ((), {**call.arguments(), "no_such": 1}),
        "thirty too many": ((1,) * 30, call.arguments()),
        "thirty": ((1,) * 30, {}),
        "nothing": ((), {}),
    }
    for parameter in call.parameters():
        without = call.arguments()
        without.pop(parameter.name, None)
        attempts[f"no {parameter.name}"] = (), without
        for i, value in enumerate(ANYTHING):
            given = {**call.arguments(), parameter.name: value}
            attempts[f"{parameter.name}={value!r} ({i})"] = (), given
    found = []
    for name, (positional, arguments) in attempts.items():
        error = attempt(call, *positional, **arguments)
        if error is not None and has_bindings_words(error):
            found.append(f"{name}: {error!r}")
    return found
