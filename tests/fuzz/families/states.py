"""Lives of states: corrupted ones are refused and change nothing, or their loader goes on well."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import subgrad_fast as sf
from subgrad_fast.optim import SGD, ThresholdSGD
from tests.fuzz import wrong
from tests.fuzz.life import LEFT_OUT, REFUSALS, Life, alike, brief
from tests.fuzz.memory import values_of
from tests.fuzz.samplers import random_spec, short

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


def _kept(value: Any) -> Any:
    """A copy of what holds numbers; all else is itself, since copies of that would not be equal."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return copy.deepcopy(value)
    if isinstance(value, dict):
        return {key: _kept(inner) for key, inner in value.items()}
    return [_kept(inner) for inner in value] if isinstance(value, list | tuple) else value


class Samplers:
    """A sampler: its rows stay in range, its epochs have their length."""

    torchs_own = False

    def __init__(self, life: Life) -> None:
        self.life = life
        self.spec = random_spec(life)
        self.renew()

    def renew(self) -> None:
        self.sampler = self.spec.made()
        self.first_weights = not hasattr(self.sampler, "update")

    def state(self) -> Any:
        return self.sampler.state_dict()

    def seen(self) -> Any:
        weights = self.sampler.weights if hasattr(self.sampler, "weights") else None
        return [self.sampler.state_dict(), weights, self.sampler.seed, self.sampler.epoch]

    def load(self, state: Any) -> None:
        self.sampler.load_state_dict(state)

    def go_on(self) -> None:
        for _ in zip(self.sampler, range(self.life.number(0, 6)), strict=False):
            pass
        if not hasattr(self.sampler, "draw"):
            return
        if self.life.chance(0.5):
            self.sampler.draw(min(3, int((self.sampler.weights > 0).sum())))
        if self.life.chance(0.3) and self.sampler.replacement and "weights" not in LEFT_OUT:
            weight = self.life.pick((1e30, 1e-30, 1.0, 0.5))
            self.life.note(f"update([0], [{weight}])")
            self.sampler.update([0], [weight])

    def check(self) -> None:
        sampler, life = self.sampler, self.life
        n = sampler.n if hasattr(sampler, "n") else sampler._data.n
        life.check(0 <= sampler.position <= sampler.length, "position")
        if hasattr(sampler, "draw"):
            rows = sampler.draw(min(8, int((sampler.weights > 0).sum())))
            life.check(((rows >= 0) & (rows < n)).all(), f"draws {rows}")
        sampler.load_state_dict(sampler.state_dict())  # the next iterator begins there
        begin = sampler.position
        size = sampler.batch_size or sampler.world_size
        whole = -(-(sampler.length - begin) // size)
        count = 0
        for rows in sampler:
            count += 1
            array = np.atleast_1d(rows)
            life.check(((array >= 0) & (array < n)).all(), f"rows {array[:9]}")
        life.check(count <= whole, f"{count} batches of {whole}")
        if sampler.tail != "drop" and sampler.batch_size is not None:
            life.check(count == whole, f"{count} batches, not {whole}: {short(self.spec.options)}")


class Loaders(Samplers):
    """A loader over a sampler."""

    def renew(self) -> None:
        if self.spec.options.get("batch_size", 0) is None:
            self.spec.options |= {"batch_size": 1, "world_size": 1, "rank": 0}
        super().renew()
        self.n = self.sampler.n if hasattr(self.sampler, "n") else self.sampler._data.n
        self.loader = sf.BatchLoader(np.arange(self.n), self.sampler, copy=True)

    def state(self) -> Any:
        return self.loader.state_dict()

    def seen(self) -> Any:
        return self.loader.state_dict()

    def load(self, state: Any) -> None:
        self.loader.load_state_dict(state)

    def go_on(self) -> None:
        for _ in zip(self.loader, range(self.life.number(0, 6)), strict=False):
            pass

    def check(self) -> None:
        for rows in self.loader:
            self.life.check(((rows >= 0) & (rows < self.n)).all(), f"rows {rows[:9]}")
        again = [rows for _, rows in zip(range(3), self.loader, strict=False)]
        self.life.check(again or len(self.loader) == 0, "no batches in the next epoch")


class Fused:
    """A `FusedSGD` of one or two arrays."""

    torchs_own = False

    def __init__(self, life: Life) -> None:
        self.life = life
        torchs = life.chance(0.3)
        self.params: list[Any] = [np.ones(s, np.float32) for s in ((3,), (2, 3))]
        if torchs:
            self.params = [torch.from_numpy(p) for p in self.params]
        self.momentum = life.pick((0.0, 0.9))
        self.renew()

    def renew(self) -> None:
        self.step = sf.FusedSGD(self.params, lr=0.1, momentum=self.momentum)

    def state(self) -> Any:
        return self.step.state_dict()

    def seen(self) -> Any:
        state = self.step.state_dict()
        buffers = [] if state["first_step"] else state["momentum_buffers"]
        return [[values_of(b) for b in buffers], [values_of(p) for p in self.params]]

    def load(self, state: Any) -> None:
        self.step.load_state_dict(state)

    def go_on(self) -> None:
        for _ in range(self.life.number(0, 2)):
            self.step([np.ones(p.shape, np.float32) for p in self.params])

    def check(self) -> None:
        self.step.momentum = 0.9
        self.step([np.ones(p.shape, np.float32) for p in self.params])
        self.step.momentum = self.momentum
        for b, p in zip(self.step.momentum_buffers, self.params, strict=True):
            self.life.check(b.shape == p.shape and b.dtype == p.dtype, "a buffer")


class Masks:
    """A `Mask`."""

    torchs_own = False

    def __init__(self, life: Life) -> None:
        self.life = life
        self.params = [np.ones(5, np.float32), np.ones((2, 3))]
        self.renew()

    def renew(self) -> None:
        self.mask = sf.Mask(self.params)

    def state(self) -> Any:
        return self.mask.state_dict()

    def seen(self) -> Any:
        return [self.mask.state_dict(), [p.copy() for p in self.params]]

    def load(self, state: Any) -> None:
        self.mask.load_state_dict(state)

    def go_on(self) -> None:
        for p in self.params:
            p[...] = self.life.numbers.random(p.shape) < 0.5
        self.mask.record()

    def check(self) -> None:
        self.mask.apply()
        shapes = [tuple(m.shape) for m in self.mask.masks]
        self.life.check(shapes == [p.shape for p in self.params], f"masks of {shapes}")


class Optimizers:
    """An optimizer, whose `load_state_dict` is torch's; its steps are all or nothing."""

    torchs_own = True

    def __init__(self, life: Life) -> None:
        self.life = life
        self.kind = life.pick(("sgd", "threshold", "reused", "warm"))
        self.renew()

    def renew(self) -> None:
        self.params = [torch.nn.Parameter(torch.ones(s)) for s in ((4,), (2, 3))]
        self.optimizer = {
            "sgd": lambda: SGD(self.params, lr=0.1, momentum=0.9),
            "threshold": lambda: ThresholdSGD(self.params, lr=0.1, momentum=0.9, threshold=0.5),
            "reused": lambda: ThresholdSGD(self.params, density=0.5, selector="reused"),
            "warm": lambda: ThresholdSGD(self.params, density=0.1, warmup=3),
        }[self.kind]()

    def state(self) -> Any:
        return copy.deepcopy(self.optimizer.state_dict())

    def seen(self) -> Any:
        return _kept([self.optimizer.state_dict(), [p.detach() for p in self.params]])

    def load(self, state: Any) -> None:
        self.optimizer.load_state_dict(state)

    def go_on(self) -> None:
        for _ in range(self.life.number(0, 3)):
            for p in self.params:
                p.grad = torch.randn(p.shape)
            try:
                self.optimizer.step()
            except RuntimeError:
                if not self.beyond_float32():
                    raise

    def beyond_float32(self) -> bool:
        """Whether a number is torch's, whose own code goes from tensor to tensor and may raise."""
        numbers = [v for group in self.optimizer.param_groups for v in group.values()]
        return any(isinstance(v, int | float) and abs(v) > 3e38 for v in numbers)

    def check(self) -> None:
        """A step, which raises or not: one that raises has changed nothing."""
        for p in self.params:
            p.grad = torch.ones(p.shape)
        before = self.seen()
        try:
            self.optimizer.step()
        except Exception:
            if not self.beyond_float32():
                self.life.check(alike(self.seen(), before), "a step that raised changed something")
            raise
