"""Where a loader has its batches of indices from, and where its caller is among them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from operator import index
from typing import Any, NamedTuple, Protocol

from subgrad_fast.sampling.passes import Pass


class Source(Protocol):
    """What a pass draws its batches of indices from."""

    def draw(self) -> Any:
        """The next batch, to be taken at once; raises StopIteration at the end."""

    def draw_ahead(self) -> Any:
        """The next batch, which the caller may not see before others have been drawn."""

    def count(self) -> None:
        """Says that the caller has got the next of those that were drawn."""

    def finish(self) -> None:
        """Says that the caller has seen the end."""


class At(NamedTuple):
    """Where the caller is, in one value: it changes all at once, whatever interrupts."""

    state: Any  # the sampler's before the next batch; None: it is to be asked
    taken: int  # batches of this epoch


START = At(None, 0)


class Counted:
    """A pass over one of our samplers, which is told of each batch when it is taken."""

    def __init__(self, batches: Pass) -> None:
        self.draw = self.draw_ahead = batches.draw
        self.count = batches.count
        self.finish = batches.finish


class Foreign:
    """One over any other sampler, which is where the last batch was drawn."""

    def __init__(self, sampler: Iterable[Any], at: At) -> None:
        self.at = At(None, at.taken)
        self._state_dict = getattr(sampler, "state_dict", None)
        self._batches = iter(sampler)
        self._to_skip = at.taken if self._state_dict is None else 0
        self._states: deque[Any] = deque()  # of the sampler before each batch that was drawn ahead

    def draw_ahead(self) -> Any:
        self._states.append(None if self._state_dict is None else self._state_dict())
        if len(self._states) == 1:
            self.at = At(self._states[0], self.at.taken)
        return self.draw()

    def draw(self) -> Any:
        if self._to_skip:
            skipped, self._to_skip = self._to_skip, 0
            next(islice(self._batches, skipped, skipped), None)
        return next(self._batches)

    def count(self) -> None:
        states = self._states
        self.at = At(states[1] if len(states) > 1 else None, self.at.taken + 1)
        if states:
            states.popleft()

    def finish(self) -> None:
        self.at = START


def split(item: Any) -> tuple[Any, tuple[Any, ...]]:
    """What a sampler yielded, as indices and what came with them."""
    if isinstance(item, tuple) and item and not _is_index(item[0]):
        return item[0], item[1:]
    return item, ()


def _is_index(value: Any) -> bool:
    if getattr(value, "ndim", 0) != 0:
        return False
    try:
        index(value)
    except TypeError:
        return False
    return True
