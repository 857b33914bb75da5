"""What has a state: each object with what it is asked to do and what must hold of it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

import subgrad_fast as sf
from subgrad_fast.optim import SGD, ThresholdSGD
from tests.fuzz.life import LEFT_OUT, Life, alike
from tests.fuzz.memory import values_of
from tests.fuzz.samplers import random_spec, short


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
        n = sampler.n
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
        self.loader = sf.BatchLoader(np.arange(self.n), self.sampler)

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
