"""Where the caller of a pass over a torch DataLoader is, and what its sampler must be told."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from subgrad_fast.data.randomness import Generators, States


class Drawn(Iterator[Any]):
    """The batches of a sampler, from the first that the caller has not got.

    Args:
        sampler: the batches of an epoch.
        state_dict: tells where the sampler is, if it knows.
        generators: those that the sampler may draw from.
        taken: batches of the epoch that the caller has got before.
        random: the generators' states before the epoch's first batch was drawn, if it was.

    Attributes:
        over: whether he has seen the end.
        random: as above, once the first batch has been drawn.
    """

    def __init__(
        self,
        sampler: Iterable[Any],
        state_dict: Callable[[], Any] | None,
        generators: Generators,
        *,
        taken: int = 0,
        random: States | None = None,
    ) -> None:
        self._taken = taken
        self._passed: Callable[[], Any] = lambda: None
        self.over = False
        self.random = random
        self._to_skip = taken
        self._generators = generators
        self._sampler = sampler
        self._batches: Iterator[Any] | None = None
        self._first: deque[Any] = deque()
        # A sampler that knows where it is has said so before and after each batch that is on its
        # way to the caller.
        self._state_dict = state_dict
        self._states: deque[Any] = deque()

    @property
    def taken(self) -> int:
        """Batches of this epoch that the caller has got."""
        return self._taken + getattr(self._passed(), "taken", 0)

    def is_of(self, passed: Callable[[], Any]) -> None:
        """Says what pass this is drawn for, if that counts on its own."""
        self._passed = passed

    def leave(self, taken: int) -> None:
        """Says what such a pass has counted, which is no more."""
        self._taken, self._passed = self._taken + taken, lambda: None

    @property
    def is_plain(self) -> bool:
        """Whether these are the batches of the sampler's iterator, with nothing to be added."""
        return self._state_dict is None and self._batches is None

    def noted(self) -> Iterator[Any]:
        """The batches of the sampler's iterator, where they are."""
        self._note()
        yield from self._sampler
        if self._passed() is not None:  # nothing is drawn ahead of the caller
            self.over = True

    def _note(self) -> None:
        if self.random is None and self._state_dict is None:
            self.random = self._generators.states()

    def draw_first(self) -> None:
        """Draws the first batch now, which `__next__` would do."""
        if self._batches is None:
            self._note()
            self._batches = iter(self._sampler)
            next(islice(self._batches, self._to_skip, self._to_skip), None)
            self._state_dict = getattr(self._batches, "state_dict", self._state_dict)
            self._first.extend(self._draw())

    def _draw(self) -> list[Any]:
        """The next batch, alone in a list; an empty one at the end."""
        if not self._states:
            self._ask()
        # Not by islice(), which calls iter(): some samplers are their own iterators and begin anew.
        end: list[Any] = []
        batch = next(self._batches, end)  # type: ignore[arg-type]
        if batch is end:
            return end
        self._ask()
        return [batch]

    def _ask(self) -> None:
        """Asks the sampler where it is. What it raises is for whoever asks the loader."""
        if self._state_dict is not None:
            try:
                self._states.append(self._state_dict())
            except ValueError as error:
                self._states.append(error)

    def __next__(self) -> Any:
        self.draw_first()
        drawn = [self._first.popleft()] if self._first else self._draw()
        if not drawn:
            raise StopIteration
        return drawn[0]

    @property
    def draw(self) -> Callable[[], Any]:
        """Draws the next batch, once the first has been drawn; without what is not needed."""
        plain = self._state_dict is None and self._batches is not None and not self._first
        return self._batches.__next__ if plain else self.__next__  # type: ignore[union-attr]

    def draw_ahead(self) -> Any:
        """The next batch."""
        return next(self)

    def count(self) -> None:
        """Says that the caller has got the next batch."""
        self._taken += 1
        if self._states:
            self._states.popleft()

    def finish(self) -> None:
        """Says that he has seen the end."""
        self.over = True

    def state(self) -> Any:
        """The sampler's, where the caller is; None if it does not know."""
        state = self._states[0] if self._states else None
        if isinstance(state, ValueError):
            raise state
        if state is None and self._state_dict is not None:
            return self._state_dict()
        return state
