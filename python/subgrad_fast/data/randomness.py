"""torch's generators, which the order of a loader may depend on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch

from subgrad_fast._arguments import quoted

# "own": a state for each generator that the loader was given; "global": torch's, or None.
States: TypeAlias = "dict[str, Any]"


class Generators:
    """Those that a loader or its sampler was given, and torch's global one."""

    def __init__(self, *given: torch.Generator | None) -> None:
        self._own = list({id(one): one for one in given if one is not None}.values())

    def states(self, *, everyones: bool = True) -> States:
        """The states now; of the global one unless not asked."""
        own = [one.get_state() for one in self._own]
        return {"own": own, "global": torch.get_rng_state() if everyones else None}

    def check(self, states: Any) -> States:
        """Raises TypeError or ValueError unless `at` can put these generators back to `states`."""
        if not isinstance(states, Mapping) or set(states) != {"own", "global"}:
            raise TypeError("state['random']: expected a dict of 'own' and 'global'")
        own, everyones = states["own"], states["global"]
        if not isinstance(own, list) or len(own) != len(self._own):
            raise ValueError(
                f"state['random']: expected the states of {len(self._own)} generators, "
                f"got {quoted(own)}"
            )
        for state, generator in [
            *zip(own, self._own, strict=True),
            *([] if everyones is None else [(everyones, torch.default_generator)]),
        ]:
            if not isinstance(state, torch.Tensor):
                raise TypeError(f"state['random']: expected tensors, got {type(state).__name__}")
            try:
                torch.Generator(generator.device).set_state(state)
            except (RuntimeError, TypeError) as error:
                raise ValueError(f"state['random']: is no state of a generator: {error}") from None
        return {"own": list(own), "global": everyones}

    @contextmanager
    def at(self, states: States) -> Iterator[None]:
        """Has them go on from `states`, torch's global one only meanwhile."""
        now = torch.get_rng_state()
        self.put(states)
        try:
            yield
        finally:
            if states["global"] is not None:
                torch.set_rng_state(now)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Puts them back behind what is done meanwhile."""
        now = self.states()
        try:
            yield
        finally:
            self.put(now)

    def put(self, states: States) -> None:
        """Has them go on from `states`."""
        for generator, state in zip(self._own, states["own"], strict=True):
            generator.set_state(state)
        if states["global"] is not None:
            torch.set_rng_state(states["global"])
