"""Lives of `optim.SGD` beside torch's, and of `ThresholdSGD` with a density of 1 beside `SGD`."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import Parameter

from subgrad_fast.optim import SGD, ThresholdSGD
from tests.fuzz import first_step, wrong
from tests.fuzz.gradients import (
    LAYOUTS,
    NEUTRAL,
    laid_out,
    random_gradient,
    random_shape,
    random_terms,
)
from tests.fuzz.life import LEFT_OUT, Life, alike, brief
from tests.optim.torch_twins import TorchSteps, assert_same, snapshot

first_step.take()


class OwnStep(SGD):
    """An optimizer with a step of its own around ours."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        return super().step(closure)


def live(life: Life) -> None:
    torch.manual_seed(life.rng.getrandbits(60))
    for _ in range(life.number(1, 2)):
        if life.chance(0.25):
            Twins(life, thresholded=True).go(life.number(10, 20))
        else:
            Twins(life).go(life.number(15, 35))


class Twins:
    """Two optimizers to which the same happens; `sides` are their parameters and they."""

    def __init__(self, life: Life, *, thresholded: bool = False) -> None:
        self.life, self.thresholded = life, thresholded
        terms = random_terms(life)
        self.makers: list[Callable[[list[Parameter]], Any]]
        if thresholded:
            self.makers = [
                lambda ps: ThresholdSGD(ps, density=1.0, momentum_masking=False, **terms),
                lambda ps: SGD(ps, **terms),
            ]
        else:
            cls = life.pick((SGD, SGD, SGD, OwnStep))
            self.makers = [
                lambda ps: cls(ps, **terms),
                lambda ps: torch.optim.SGD(ps, foreach=False, **terms),
            ]
        first = self.new_params()
        self.sides = [(ps, make(ps)) for ps, make in zip(first, self.makers, strict=True)]
        life.note(f"{type(self.sides[0][1]).__name__} {terms} {[tuple(p.shape) for p in first[0]]}")
        self.over = False

    def go(self, steps: int) -> None:
        kinds = [self.step] * 6 + [self.change_terms, self.zero, self.round_trip, self.spoiled]
        kinds += [self.copy, self.add_group, self.clear, self.buffer, self.replace_data]
        if not self.thresholded:
            kinds += [self.cross, self.hook, self.share]
        for _ in range(steps):
            self.life.pick(kinds)()
            if self.over:
                return
            self.compare()

    # --- what is made ----------------------------------------------------------------------------

    def new_params(self) -> list[list[Parameter]]:
        """The same parameters twice."""
        shapes = [random_shape(self.life) for _ in range(self.life.number(1, 5))]
        kinds = [self.life.pick(("plain", "plain", "plain", *LAYOUTS)) for _ in shapes]
        dtypes = [self.life.pick((torch.float32, torch.float32, torch.float64)) for _ in shapes]
        seed = self.life.rng.getrandbits(60)
        sides = []
        for _ in range(2):
            torch.manual_seed(seed)
            every = zip(shapes, kinds, dtypes, strict=True)
            sides.append([Parameter(laid_out(k, s, d)) for s, k, d in every])
        return sides

    # --- what happens ----------------------------------------------------------------------------

    def both(self, what: str, do: Callable[[list[Parameter], Any], Any]) -> None:
        """Does the same to both sides; what it returns and raises must be the same."""
        self.life.note(what)
        self.life.counts["calls"] += 1
        answers: list[Any] = []
        for params, optimizer in self.sides:
            try:
                answers.append(do(params, optimizer))
            except Exception as error:
                answers.append(type(error))
                self.life.note(f"  raised {brief(error)}")
                before = error
        kinds = [a for a in answers if isinstance(a, type)]
        if kinds:
            self.life.counts["raises"] += 1
            self.life.check(len(kinds) == 2, f"only one raised: {before!r}")
            self.over = True  # torch's own step may have done a part

    def step(self) -> None:
        for group_a, group_b in zip(*(s[1].param_groups for s in self.sides), strict=True):
            for a, b in zip(group_a["params"], group_b["params"], strict=True):
                a.grad = b.grad = random_gradient(self.life, a, group_a, covered=self.thresholded)
        if self.life.chance(0.2):
            self.both("step with a closure", lambda _, o: o.step(lambda: 3.5))
        else:
            self.both("step", lambda _, o: o.step())

    def change_terms(self) -> None:
        terms = NEUTRAL | random_terms(self.life)
        as_tensor = self.life.chance(0.2) and not self.thresholded
        at = self.life.rng.randrange(len(self.sides[0][1].param_groups))

        def change(_: Any, optimizer: Any) -> None:
            lr = torch.tensor(terms["lr"]) if as_tensor else terms["lr"]
            optimizer.param_groups[at].update({**terms, "lr": lr})

        self.both(f"group {at}: {terms}, lr a tensor: {as_tensor}", change)

    def zero(self) -> None:
        to_none = self.life.chance(0.5)
        for params, _ in self.sides:  # they share their gradients, which may not be writable
            for p in params:
                p.grad = None if p.grad is None else torch.randn(p.shape, dtype=p.dtype)
        self.both(f"zero_grad({to_none})", lambda _, o: o.zero_grad(set_to_none=to_none))

    def round_trip(self) -> None:
        self.both("state_dict, loaded back",
                  lambda _, o: o.load_state_dict(copy.deepcopy(o.state_dict())))  # fmt: skip

    def cross(self) -> None:
        """Each loads the other's state."""
        a, b = (copy.deepcopy(optimizer.state_dict()) for _, optimizer in self.sides)
        self.life.note("states cross")
        self.sides[0][1].load_state_dict(b)
        self.sides[1][1].load_state_dict(a)

    def copy(self) -> None:
        way = self.life.pick((copy.deepcopy, lambda side: pickle.loads(pickle.dumps(side))))
        self.life.note("deepcopy or pickle")
        for params, optimizer in self.sides:
            for p in params:
                p.grad = None
            optimizer._optimizer_step_post_hooks.clear()
        self.sides = [way(side) for side in self.sides]

    def add_group(self) -> None:
        if len(self.sides[0][1].param_groups) > 3:
            return
        terms, more = NEUTRAL | random_terms(self.life), self.new_params()
        self.life.note(f"add_param_group {terms}")
        for side, new in zip(self.sides, more, strict=True):
            side[1].add_param_group({"params": new, **terms})
            side[0].extend(new)

    def clear(self) -> None:
        self.both("state.clear()", lambda _, o: o.state.clear())

    def buffer(self) -> None:
        """A momentum buffer is replaced, or taken away."""
        at = self.life.rng.randrange(len(self.sides[0][0]))
        kind = self.life.pick(("new", "zero in place", "delete", "none", "clone"))
        seed = self.life.rng.getrandbits(60)

        def change(params: list[Parameter], optimizer: Any) -> None:
            torch.manual_seed(seed)
            state = optimizer.state.get(params[at], {})
            old = state.get("momentum_buffer")
            if old is None:
                return
            if kind == "new":
                state["momentum_buffer"] = torch.randn(old.shape, dtype=old.dtype)
            elif kind == "zero in place":
                old.zero_()
            elif kind == "delete":
                del state["momentum_buffer"]
            elif kind == "none":
                state["momentum_buffer"] = None
            else:
                state["momentum_buffer"] = old.clone()

        self.both(f"buffer {at}: {kind}", change)

    def replace_data(self) -> None:
        at = self.life.rng.randrange(len(self.sides[0][0]))
        kind, seed = self.life.pick(("plain", *LAYOUTS)), self.life.rng.getrandbits(60)

        def change(params: list[Parameter], _: Any) -> None:
            torch.manual_seed(seed)
            p = params[at]
            p.data = laid_out(kind, tuple(p.shape), p.dtype)

        self.both(f"params[{at}].data = {kind}", change)

    def share(self) -> None:
        """Two parameters come to lie in one memory: the order of torch's loop decides."""
        at = self.life.rng.randrange(len(self.sides[0][0]))

        def change(params: list[Parameter], _: Any) -> None:
            for other in params:
                same = (other.shape, other.dtype) == (params[at].shape, params[at].dtype)
                if other is not params[at] and same:
                    params[at].data = other.data
                    return

        self.both(f"params[{at}] shares memory", change)

    def hook(self) -> None:
        """Hooks before and behind a step run once each."""
        runs = [0, 0]

        def count(number: int) -> Callable[..., None]:
            def run(*_: Any) -> None:
                runs[number] += 1

            return run

        handles = [
            handle
            for number, (_, o) in enumerate(self.sides)
            for handle in (
                o.register_step_pre_hook(count(number)),
                o.register_step_post_hook(count(number)),
            )
        ]
        self.step()
        self.life.check(runs[0] == runs[1], f"hooks ran {runs} times")
        for handle in handles:
            handle.remove()

    def spoiled(self) -> None:
        """A copy of ours is stepped with a wrong term or gradient: all or nothing."""
        for p in self.sides[0][0]:
            p.grad = None
        params, optimizer = copy.deepcopy(self.sides[0])
        for p in params:
            p.grad = torch.randn_like(p)
        if self.life.chance(0.2) and "freed" not in LEFT_OUT:
            self.life.note("a copy with a gradient whose memory is freed")
            params[-1].grad = wrong.freed(tuple(params[-1].shape), params[-1].dtype)
        else:
            name = self.life.pick(("lr", "momentum", "weight_decay", "nesterov", "dampening"))
            value = wrong.number(self.life)
            self.life.note(f"a copy with {name} = {brief(value)}")
            optimizer.param_groups[-1][name] = value
        buffers = [optimizer.state.get(p, {}) for p in params]
        before = snapshot([params, buffers])
        self.life.counts["calls"] += 1
        torchs = TorchSteps()
        try:
            with torchs:
                optimizer.step()
        except (TypeError, ValueError, RuntimeError, OverflowError, wrong.Lie) as error:
            self.life.counts["raises"] += 1
            self.life.note(f"  raised {brief(error)}")
            now = snapshot([params, [optimizer.state.get(p, {}) for p in params]])
            same = alike(now, before) or torchs.params  # torch's own code may do a part
            self.life.check(same, "a step that raised has changed something")

    # --- what must hold --------------------------------------------------------------------------

    def compare(self) -> None:
        """The parameters and the momentum have the same bits."""
        (ours, a), (theirs, b) = self.sides
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(snapshot(p), snapshot(q), f"params[{i}]")
            got, want = (o.state.get(x, {}).get("momentum_buffer") for o, x in ((a, p), (b, q)))
            self.life.check((got is None) == (want is None), f"buffer {i}: one of them has none")
            if want is not None:
                assert_same(snapshot(got), snapshot(want), f"momentum_buffers[{i}]")
