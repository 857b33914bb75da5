"""Where a sampler stands: its epoch and position, the states that hold them, copies that go on."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from subgrad_fast._arguments import check_state, integer
from subgrad_fast._core import Turns
from subgrad_fast.sampling._checks import drawn_seed, seed_or_epoch
from subgrad_fast.sampling.passes import Pass, Place

_VERSION = 2


class Stateful:
    """The part of a sampler that moves, apart from its batches.

    Sampler and iterator have ``state_dict()`` and ``load_state_dict()``, as torchdata's
    StatefulDataLoader expects.

    Attributes:
        n: rows that are sampled from.
        length: rows in an epoch.
    """

    n: int
    length: int

    def __init__(self, length: int, seed: int | None) -> None:
        self.length = integer("length", length, 1, 2**63)
        self._turns = Turns()
        self._place = Place(drawn_seed() if seed is None else seed_or_epoch("seed", seed))

    @property
    def seed(self) -> int:
        """Which orders."""
        return self._place.seed

    @property
    def epoch(self) -> int:
        """The epoch that the current pass goes through, or the next one if that has ended."""
        return self._place.where()[0]

    @property
    def position(self) -> int:
        """How many rows of the epoch all ranks together have been given."""
        return self._place.where()[1]

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next pass, which begins at its start.

        A state that was loaded, and a pass under way, keep their position if it is their epoch: so
        training loops may call this after `load_state_dict`, and before or after ``iter()``.
        """
        epoch = seed_or_epoch("epoch", epoch)
        with self._turns:
            self._place = self._place.moved(epoch)

    def state_dict(self) -> dict[str, int]:
        """Where the epoch stands after the batches yielded so far, as a few integers."""
        with self._turns:
            return self._state(self.epoch, self.position)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues where `state` was taken: the next iterator yields what would have followed.

        Raises:
            TypeError, ValueError: the state is incomplete, of another version, or not one of this
                sampler's. Nothing has changed then.
        """
        with self._turns:
            self._load(state, None)

    def _state(self, epoch: int, position: int) -> dict[str, int]:
        return {
            "version": _VERSION,
            "seed": self.seed,
            "epoch": epoch,
            "position": position,
            "n": self.n,
            "order": self._order_number,
        }

    def _load(self, state: Mapping[str, int], iterator: Pass | None) -> None:
        """Takes over a state, for the next iterator or for a running one.

        All of it is checked before anything changes.
        """
        place, own = self._check_state(state), self._own_state(state)
        if iterator is not None:
            ours = not iterator.begun or iterator.progress is self._place.progress
            iterator.go_to(place.epoch, place.start)
            if ours:
                place = place._replace(progress=iterator.progress)
            else:
                place = self._place._replace(seed=place.seed)
        self.__dict__.update(own, _place=place)  # at once, whatever interrupts

    def _check_state(self, state: Mapping[str, int]) -> Place:
        check_state(state, _VERSION, {"seed", "epoch", "position", "n", "order"})
        if integer("state['n']", state["n"], 1, 2**63) != self.n:
            raise ValueError(
                f"state['n']: taken with {state['n']} rows of data, but there are {self.n}"
            )
        if integer("state['order']", state["order"], 0, 2**32 - 1) != self._order_number:
            raise ValueError(
                "state['order']: taken with other data or options than those of this sampler, "
                f"{self._order_text()}"
            )
        seed = seed_or_epoch("state['seed']", state["seed"])
        epoch = seed_or_epoch("state['epoch']", state["epoch"])
        return Place(seed, epoch, integer("state['position']", state["position"], 0, self.length))

    def _own_state(self, state: Mapping[str, int]) -> dict[str, Any]:  # noqa: ARG002
        """The attributes that hold what a subclass has added to a state; it checks it."""
        return {}

    @cached_property
    def _order_number(self) -> int:
        return self._order_key()

    def _order_key(self) -> int:
        """What the order depends on, apart from seed, epoch and position: 32 bits."""
        return zlib.crc32(self._order_text().encode())

    def _order_text(self) -> str:
        """What it depends on, in words."""
        return f"{type(self).__name__} of {self.n} rows"

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: these continue where this one stands."""
        with self._turns:
            return {**self.__dict__, "_place": self._place.kept(), "_turns": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({**state, "_turns": Turns()})
