"""Lives of `sgd_step` and `FusedSGD`, against the formula in NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import COMBINATIONS, DTYPES
from tests.fuzz import wrong
from tests.fuzz.life import Life, brief
from tests.fuzz.memory import Guarded, values_of
from tests.fuzz.tensors import (
    array,
    gradient,
    limit,
    one_or_list,
    shape_of,
    spoil,
    terms,
    text,
)
from tests.oracles.dense import sgd

TERMS = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")


def live(life: Life) -> None:
    held: list[Held] = []
    for _ in range(life.number(15, 30)):
        if life.chance(0.4):
            one_step(life)
        elif not held or life.chance(0.15):
            held.append(Held.make(life))
        else:
            life.pick(held).go_on(life)


def one_step(life: Life) -> None:
    """A call of `sgd_step`."""
    rule = terms(life)
    if life.chance(0.2):
        rule["l1"] = life.pick((0.1, 1.0))
    if life.chance(0.2):
        rule["first_step"] = True
    w, g, m = [], [], []
    single = life.chance(0.3)
    for _ in range(1 if single else life.pick((0, 1, 2, 3, 5))):
        types = life.pick(COMBINATIONS)
        shape = shape_of(life, limit(types[0]))
        w.append(array(life, types[0], shape))
        g.append(gradient(life, types[1], shape))
        m.append(array(life, types[2], shape))
    lists: dict[str, Any] = {"params": w, "grads": g}
    if rule.get("momentum") or life.chance(0.2):
        lists["momentum_buffers"] = m
    call = {name: one_or_list(life, found, single) for name, found in lists.items()} | rule
    if spoiled := life.chance(0.2):
        spoil(life, call, lists)
    want = [step_of(p, d, b, rule) for p, d, b in zip(w, g, m, strict=True)]
    outcome = life.call(
        f"sgd_step {text(call, lists)}",
        partial(sf.sgd_step, **call),
        memory=g,
        written=[*w, *m],
        spoiled=spoiled,
    )
    if outcome.done and not spoiled:
        for i, (new_w, new_m) in enumerate(want):
            assert_same_bits(values_of(w[i].view), new_w, f"params[{i}]")
            assert_same_bits(values_of(m[i].view), new_m, f"momentum_buffers[{i}]")


def step_of(w: Guarded, g: Guarded, m: Guarded, rule: dict[str, Any]) -> Any:
    return sgd(np.array(w.view), np.array(g.view), np.array(m.view), **rule)


@dataclass
class Held:
    """A `FusedSGD`, and what its parameters and momentum must be."""

    step: sf.FusedSGD
    params: list[Guarded]
    single: bool
    momentum_dtype: str | None
    buffers: list[np.ndarray] | None  # None: nothing is held
    rule: dict[str, Any]

    @classmethod
    def make(cls, life: Life) -> Held:
        single = life.chance(0.3)
        dtypes = [life.pick(list(DTYPES)) for _ in range(1 if single else life.pick((1, 2, 4)))]
        params = [array(life, d, shape_of(life, limit(d))) for d in dtypes]
        momentum_dtype = "float32" if life.chance(0.3) else None
        rule = terms(life)
        given = one_or_list(life, params, single)
        life.note(f"FusedSGD {params} {momentum_dtype} {rule}")
        step = sf.FusedSGD(given, momentum_dtype=momentum_dtype, **rule)
        return cls(step, params, single, momentum_dtype, None, rule)

    def seen(self) -> Any:
        """What can be seen of the object. Buffers that hold nothing yet are no difference."""
        state = self.step.state_dict()
        buffers = None if state["first_step"] else state["momentum_buffers"]
        return [{name: getattr(self.step, name) for name in (*TERMS, "l1")}, buffers]

    def go_on(self, life: Life) -> None:
        kind = life.pick(("step", "step", "step", "attribute", "state", "copy", "read"))
        getattr(self, f"do_{kind}")(life)

    def do_step(self, life: Life) -> None:
        grads = []
        for p in self.params:
            own = next(name for name, d in DTYPES.items() if d == p.view.dtype)
            grads.append(gradient(life, life.pick((own, "float32", "bfloat16")), p.view.shape))
        call = {"grads": one_or_list(life, grads, self.single)}
        if spoiled := life.chance(0.2):
            spoil(life, call, {"grads": grads})
        want = self.following(grads)
        outcome = life.call(
            f"step {grads}",
            partial(self.step, call["grads"]),
            memory=grads,
            written=self.params,
            state=self.seen,
            spoiled=spoiled,
        )
        if not outcome.done:
            return
        if not spoiled:
            for i, (p, (w, _)) in enumerate(zip(self.params, want, strict=True)):
                assert_same_bits(np.array(p.view), w, f"params[{i}]")
        if self.rule.get("momentum"):
            if spoiled:
                self.buffers = [values_of(b) for b in self.step.momentum_buffers]
            else:
                self.buffers = [m for _, m in want]
        self.check_buffers()

    def following(self, grads: list[Guarded]) -> list[Any]:
        """Parameters and momentum after a step by the formula."""
        first = self.buffers is None
        wanted = []
        for i, (p, g) in enumerate(zip(self.params, grads, strict=True)):
            dtype = DTYPES[self.momentum_dtype] if self.momentum_dtype else p.view.dtype
            m = np.zeros(p.view.shape, dtype) if self.buffers is None else self.buffers[i]
            new = sgd(np.array(p.view), np.array(g.view), m, first_step=first, **self.rule)
            wanted.append(new)
        return wanted

    def check_buffers(self) -> None:
        if self.buffers is not None:
            got = self.step.momentum_buffers
            for i, (b, want) in enumerate(zip(got, self.buffers, strict=True)):
                assert_same_bits(values_of(b), want, f"momentum_buffers[{i}]")

    def do_attribute(self, life: Life) -> None:
        """Other terms; or one that is wrong, until the next step has refused it."""
        if life.chance(0.7):
            self.rule = terms(life)
            life.note(f"terms {self.rule}")
            for name in (*TERMS, "decoupled_weight_decay"):
                neutral = name in ("nesterov", "maximize", "decoupled_weight_decay")
                setattr(self.step, name, self.rule.get(name, False if neutral else 0.0))
            return
        name = life.pick(TERMS)
        right, value = getattr(self.step, name), wrong.number(life)
        life.note(f"{name} = {brief(value)}")
        setattr(self.step, name, value)
        grads = [np.zeros(p.view.shape, np.float32) for p in self.params]
        life.call(
            "step",
            lambda: self.step(grads[0] if self.single else grads),
            written=self.params,
            spoiled=True,
        )
        setattr(self.step, name, right)
        # What was accepted may have moved everything; what was refused has moved nothing.
        now = self.step.state_dict()
        if now["first_step"] or not now["momentum_buffers"]:
            self.buffers = None
        else:
            self.buffers = [values_of(b) for b in now["momentum_buffers"]]

    def do_state(self, life: Life) -> None:
        """A state loaded back after some steps more goes on from where it was taken."""
        state = self.step.state_dict()
        buffers = None if self.buffers is None else [b.copy() for b in self.buffers]
        for _ in range(life.number(0, 2)):
            self.do_step(life)
        life.call("load_state_dict", lambda: self.step.load_state_dict(state), memory=self.params)
        self.buffers = buffers
        self.check_buffers()

    def do_copy(self, life: Life) -> None:
        """Another one over the same parameters takes the place of this."""
        other = sf.FusedSGD(
            one_or_list(life, self.params, self.single),
            momentum_dtype=self.momentum_dtype,
            **self.rule,
        )
        state = self.step.state_dict()
        life.call("load_state_dict of another", lambda: other.load_state_dict(state))
        self.step = other
        self.check_buffers()

    def do_read(self, life: Life) -> None:
        self.check_buffers()
        life.check(len(self.step.params) == len(self.params), "params")
