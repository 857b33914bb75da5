"""Calls of every public function and class, in families: what works, and what is refused.

A family is a function that makes its arrays once and returns the call to be repeated.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Call = Callable[[], object]
Family = Callable[[], Call]

# Elements of an array: enough that the GIL is released.
N = 9000


class Families(dict[str, Family]):
    """Families by name; decorates those that have one."""

    def __call__(self, make: Family) -> Family:
        self[make.__name__] = make
        return make


def refused(*errors: type[Exception]) -> Callable[[Call], Call]:
    """Turns a call that must raise into one that does not."""

    def wrap(call: Call) -> Call:
        def attempt() -> None:
            try:
                call()
            except errors:
                return
            raise AssertionError("nothing was raised")

        return attempt

    return wrap


def vectors(count: int, n: int = N) -> list[np.ndarray]:
    return [np.random.default_rng(i).standard_normal(n).astype(np.float32) for i in range(count)]
