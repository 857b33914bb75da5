"""One life: a few dozen calls that a seed determines, each of them logged, counted and checked."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from tests.fuzz.memory import Guarded, values_of
from tests.fuzz.ring_log import RingLog

T = TypeVar("T")

# Names, with commas, of families, wrong arguments and checks to leave out: a fault that is known,
# and not yet mended, hides all that may come after it.
LEFT_OUT = frozenset(os.environ.get("FUZZ_WITHOUT", "").split(","))


class Fault(AssertionError):  # noqa: N818  what is at fault is somebody else
    """What a life has found wrong."""


class Lie(Exception):  # noqa: N818  it is no error of the library's
    """What an argument of ours raises when it is asked for what it claims to have."""


# What a wrong argument may raise. The last three are what arguments raise themselves when they are
# asked for a number: ours, Python's large integers, torch's tensors. All else is a fault.
REFUSALS = (
    TypeError,
    ValueError,
    IndexError,
    KeyError,
    MemoryError,
    Lie,
    OverflowError,
    RuntimeError,
)


class Outcome(NamedTuple):
    """What a call returned, or what it raised."""

    value: Any
    error: Exception | None

    @property
    def done(self) -> bool:
        return self.error is None


def nothing() -> None:
    """The state of what has none."""


class Life:
    """The random numbers of a seed, the log, the counts, and the way to make a call.

    Attributes:
        rng: what is chosen; `numbers`: what arrays hold.
        counts: of calls, raises, and whatever else a family counts.
    """

    def __init__(self, family: str, seed: int, log: RingLog) -> None:
        self.family, self.seed = family, seed
        self.rng = random.Random(f"{family} {seed}")
        self.numbers = np.random.Generator(np.random.Philox(self.rng.getrandbits(64)))
        self.counts: Counter[str] = Counter()
        self._log = log
        log.begin(seed)

    # --- choices ---------------------------------------------------------------------------------

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def pick(self, things: Sequence[T]) -> T:
        return things[self.rng.randrange(len(things))]

    def number(self, low: int, high: int) -> int:
        """An integer of [low, high]."""
        return self.rng.randint(low, high)

    # --- calls -----------------------------------------------------------------------------------

    def note(self, line: str) -> None:
        """A line of the log."""
        self._log.write(line)

    def call(
        self,
        what: str,
        function: Callable[[], T],
        *,
        memory: Sequence[Guarded] = (),
        written: Sequence[Guarded] = (),
        state: Callable[[], Any] = nothing,
        spoiled: bool = False,
        refusals: tuple[type[Exception], ...] = REFUSALS,
    ) -> Outcome:
        """Calls `function` and checks what holds for every call.

        One that raises has changed nothing, and only a spoiled one may. One that returns has
        written to the elements of `written` and to nothing else. (A spoiled one that is accepted
        may have been given one of `memory` to write to.)

        Args:
            what: how the log calls it.
            memory: arrays that the call can reach, besides `written`.
            written: arrays that the call may write.
            state: returns what can be seen of the objects that take part, comparable by `alike`.
            spoiled: whether an argument is wrong, or may be.
            refusals: what it may raise then.
        """
        self.note(what)
        self.counts["calls"] += 1
        everything = [*memory, *written]
        before = [m.bytes() for m in everything]
        known = state()
        try:
            value = function()
        except refusals as error:
            self.counts["raises"] += 1
            self.note(f"  raised {type(error).__name__}: {str(error)[:200]}")
            for m, old in zip(everything, before, strict=True):
                m.check(old, inside=True)
            self.check(alike(state(), known), "a call that raised has changed an object")
            if not spoiled:
                raise Fault(f"a valid call raised {error!r}") from error
            return Outcome(None, error)
        for i, (m, old) in enumerate(zip(everything, before, strict=True)):
            m.check(old, inside=i < len(memory) and not spoiled)
        return Outcome(value, None)

    def check(self, holds: Any, message: str) -> None:
        """Raises a `Fault` unless it holds."""
        if not holds:
            raise Fault(message)


def brief(value: Any) -> str:
    """A value for the log; some refuse to say what they are."""
    if type(value) is torch.Tensor:  # torch reads what it shows, of freed storage too
        return f"tensor {value.dtype}{list(value.shape)}"
    try:
        return repr(value)[:80]
    except Exception:
        return type(value).__name__


def alike(a: Any, b: Any) -> bool:
    """Whether two values are the same in every bit: numbers, arrays, tensors, containers of them.

    Arrays are compared as bytes, so that a NaN is like itself.
    """
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(alike(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float):
        return a == b or (a != a and b != b)
    if isinstance(a, np.ndarray):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if hasattr(a, "untyped_storage"):
        return _alike_tensors(a, b)
    return bool(a == b)


def _alike_tensors(a: Any, b: Any) -> bool:
    if (a.dtype, a.shape, a.layout, a.device) != (b.dtype, b.shape, b.layout, b.device):
        return False
    if a.is_meta:
        return True
    if a.is_sparse:
        a, b = a.to_dense(), b.to_dense()
    return values_of(a).tobytes() == values_of(b).tobytes()
