"""Lives of states: corrupted ones are refused and change nothing, or their loader goes on well."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tests.fuzz import wrong
from tests.fuzz.life import LEFT_OUT, REFUSALS, Life, alike, brief
from tests.fuzz.subjects import Fused, Loaders, Masks, Optimizers, Samplers

_VALUES: list[Callable[[Any], Any]] = [
    lambda _: None,
    lambda _: math.nan,
    lambda _: math.inf,
    lambda _: -1,
    lambda _: 2**64,
    lambda _: 2**62,
    lambda _: 10**400,
    lambda _: "state",
    lambda _: [],
    lambda _: {},
    lambda _: 0.5,
    lambda _: True,
    lambda _: np.int64(1),
    lambda _: np.zeros(3),
    lambda _: torch.zeros(3),
    lambda _: torch.zeros(2, 2, device="meta"),
    lambda _: torch.zeros(3, dtype=torch.complex64),
    lambda _: torch.zeros(3, 2).to_sparse(),
    lambda v: [v],
    lambda v: [v, v],
    lambda v: -v if isinstance(v, int | float) else v,
    lambda v: v + 1 if isinstance(v, int | float) else v,
    lambda v: v[:-1] if isinstance(v, list | str | np.ndarray | torch.Tensor) and len(v) else v,
    lambda v: v[..., None] if isinstance(v, np.ndarray | torch.Tensor) else v,
    lambda v: v.astype("c8") if isinstance(v, np.ndarray) else v,
    lambda v: v.to(torch.float64) if isinstance(v, torch.Tensor) else v,
]


def live(life: Life) -> None:
    torch.manual_seed(life.rng.getrandbits(60))
    for _ in range(life.number(3, 6)):
        kinds = (Samplers, Loaders, Fused, Masks, Optimizers, Optimizers)
        kind = life.pick([kind for kind in kinds if kind.__name__ not in LEFT_OUT])
        subject: Any = kind(life)
        states = [subject.state()]
        for _ in range(life.number(2, 5)):
            subject.go_on()
            states.append(subject.state())
            attempt(life, subject, corrupted(life, life.pick(states)))


def corrupted(life: Life, state: Any) -> Any:
    """A copy with one thing wrong, or with nothing, or something else altogether."""
    state = copy.deepcopy(state)
    if life.chance(0.1) and "no dict" not in LEFT_OUT:
        return life.pick(_VALUES)(state)
    if life.chance(0.1):
        return state
    holder, path = state, ""
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return state
        key = life.pick(keys)
        path += f"[{key!r}]"
        inner = holder[key]
        if isinstance(inner, dict | list) and len(inner) and life.chance(0.8):
            holder = inner
            continue
        if life.chance(0.25):
            del holder[key]
            life.note(f"  without {path}")
        elif isinstance(holder, dict) and life.chance(0.1):
            holder["more"] = holder[key]
            life.note(f"  more than {path}")
        else:
            holder[key] = life.pick(_VALUES)(inner) if life.chance(0.7) else wrong.number(life)
            life.note(f"  {path} = {brief(holder[key])}")
        return state


def attempt(life: Life, subject: Any, state: Any) -> None:
    """Loads a state into the subject, or into another one like it."""
    if life.chance(0.3):
        subject.renew()
    before = subject.seen()
    life.note(f"{type(subject).__name__}.load_state_dict")
    life.counts["calls"] += 1
    try:
        subject.load(state)
    except REFUSALS as error:
        life.counts["raises"] += 1
        life.note(f"  raised {brief(error)}")
        life.check(alike(subject.seen(), before), "a state that was refused has changed the object")
    except AttributeError as error:
        life.check(subject.torchs_own, f"{type(error).__name__}: {error}")
        life.note(f"  raised by torch's code: {brief(error)}")
        subject.renew()
    try:
        subject.check()
    except (*REFUSALS, AttributeError) as error:
        # An optimizer's groups are not looked at before a step.
        life.check(subject.torchs_own, f"after a load: {type(error).__name__}: {error}")
        life.note(f"  refused later: {brief(error)}")
        subject.renew()
