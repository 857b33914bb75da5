"""Lives of torch.optim.SGD and of ours, side by side, the same bits after everything."""

# ruff: noqa: E402
from __future__ import annotations

import time
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from subgrad_fast.optim import SGD
from tests.optim.lives import Life
from tests.optim.torch_twins import assert_same, snapshot

pytestmark = pytest.mark.torch


def assert_same_life(cls: type, seed: int) -> None:
    """Leads both through the life of a seed; says what happened up to where they differ."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, ours = Life(torch.optim.SGD, seed), Life(cls, seed)
        past: list[str] = []
        lives = zip(_told(theirs, seed), _told(ours, seed), strict=True)
        for (event, want), (_, got) in lives:
            past.append(event)
            assert_same(got, want, f"seed {seed}, after {', '.join(past)}: ")


def _told(life: Life, seed: int) -> Any:
    """The events of a life with what was to be seen after each; the values drawn are its own."""
    values = torch.Generator().manual_seed(seed).get_state()
    events = life.events()
    while True:
        torch.set_rng_state(values)
        event = next(events, None)
        values = torch.get_rng_state()
        if event is None:
            return
        yield event, snapshot(life.tell())


def live_for(seconds: float, first: int) -> int:
    """Lives from seed `first` on, for some time; their number."""
    end, seed = time.monotonic() + seconds, first
    while time.monotonic() < end:
        assert_same_life(SGD, seed)
        seed += 1
    return seed - first


def test_lives() -> None:
    assert live_for(20, first=0) > 0


@pytest.mark.slow
def test_many_lives() -> None:
    assert live_for(600, first=1_000_000) > 0


class BelievesInFirstSteps(SGD):
    """A fault there was: a plan whose first step torch took thought that of every later one.

    So momentum was lost for good once the state was cleared.
    """

    _believes = False

    def _step_remaining(self, plan: Any, outcome: Any, buffers: Any, averages: Any) -> None:
        new = bool(buffers) and not self.state
        super()._step_remaining(plan, outcome, buffers, averages)
        self._believes = self._believes or (new and not buffers)

    def _step(self, *args: Any, **kwargs: Any) -> Any:
        first = self._believes and not self.state
        loss = super()._step(*args, **kwargs)
        if first:
            self.state.clear()
        return loss


def test_the_lives_find_a_fault_that_there_was() -> None:
    for seed in range(2000):
        try:
            assert_same_life(BelievesInFirstSteps, seed)
        except AssertionError:
            assert_same_life(SGD, seed)
            return
    raise AssertionError("no life has found it")
