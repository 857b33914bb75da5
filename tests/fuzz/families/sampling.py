"""Lives of the samplers and of `Permutation`: every epoch whole, every state exact."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tests.fuzz import wrong
from tests.fuzz.life import Life, alike, brief
from tests.fuzz.memory import Layout, guarded
from tests.fuzz.orders import one_choice, one_order
from tests.fuzz.samplers import Spec, parts, random_spec, ranks, short


def live(life: Life) -> None:
    for _ in range(life.number(1, 4)):
        one_order(life)
        one_choice(life)
    for _ in range(life.number(1, 3)):
        Walk(life).go(life.number(8, 20))


class Walk:
    """A sampler, its iterators, and where each must be."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.spec: Spec = random_spec(life)
        self.sampler = self.spec.made()
        self.seed, self.epoch, self.drawn = self.spec.options["seed"], 0, 0
        self.again = False  # the next pass goes through the same epoch
        self.start = 0  # where the next pass begins
        # [iterator, epoch, position]; the last says where the sampler is.
        self.iterators: list[list[Any]] = []

    def go(self, steps: int) -> None:
        kinds = ("take", "take", "take", "new", "batch", "state", "resume", "epoch", "copy")
        kinds += ("spoiled", "stale")
        if hasattr(self.sampler, "draw"):
            kinds += ("draw", "draw", "update", "weights")
        for _ in range(steps):
            getattr(self, f"do_{self.life.pick(kinds)}")()
            self.check_state()

    @property
    def size(self) -> int:
        return self.sampler.batch_size or self.sampler.world_size

    @property
    def position(self) -> int:
        return self.iterators[-1][2] if self.iterators else self.start

    def call(self, what: str, function: Callable[[], Any], **how: Any) -> Any:
        return self.life.call(what, function, state=self.sampler.state_dict, **how)

    def check_state(self) -> None:
        state = self.sampler.state_dict()
        want = {"version": 2, "seed": self.seed, "epoch": self.epoch, "position": self.position}
        got = {name: state[name] for name in want}
        self.life.check(got == want, f"state {got}, not {want}")
        self.life.check(state.get("drawn", 0) == self.drawn, f"drawn {state.get('drawn')}")
        self.life.check(self.sampler.position == self.position, "position")
        self.life.check(self.sampler.epoch == self.epoch, "epoch")
        whole = parts(np.zeros(self.sampler.length), 0, self.size, self.sampler)
        if self.sampler.batch_size is None:
            whole = [part for part in whole if part[0].size]
        self.life.check(len(self.sampler) == len(whole), f"length {len(self.sampler)}")

    # --- iterators -------------------------------------------------------------------------------

    def do_new(self) -> None:
        """A pass, which begins with its first batch; those before it go on, and no longer say where
        the sampler is."""
        iterator = self.call("iter", lambda: iter(self.sampler)).value
        if self.iterators:
            self.epoch, self.start = self.iterators[-1][1] + (not self.again), 0
        self.again = False
        place = (self.sampler.epoch, self.sampler.position)
        self.life.check(place == (self.epoch, self.start), f"a pass begins at {place}")
        self.iterators = [*self.iterators[-2:], [iterator, self.epoch, self.start]]
        self.take(len(self.iterators) - 1, 1)

    def do_take(self) -> None:
        if not self.iterators or self.life.chance(0.1):
            self.do_new()
        if not self.iterators:
            return
        most = 10**6 if self.life.chance(0.3) else self.life.number(1, 5)
        self.take(len(self.iterators) - 1, most)

    def do_stale(self) -> None:
        """Batches of an iterator that is not the newest."""
        if len(self.iterators) > 1:
            self.take(0, self.life.number(1, 5))

    def take(self, number: int, most: int) -> None:
        """Takes batches and compares them with those of the whole epoch."""
        life, entry = self.life, self.iterators[number]
        iterator, epoch, position = entry
        life.note(f"take {most} of iterator {number}, epoch {epoch} position {position}")
        rows = self.spec.rows(self.seed, epoch)
        wanted = parts(rows, position, self.size, self.sampler)
        single = self.sampler.batch_size is None
        if single:
            wanted = [part for part in wanted if part[0].size]
        for want, after in wanted[:most]:
            got = next(iterator)
            life.counts["calls"] += 1
            if single:
                life.check(type(got) is int and got == want[0], f"row {got}, not {want[0]}")
            else:
                life.check(got.dtype == np.int64, "the rows' dtype")
                life.check(np.array_equal(got, want), f"rows {got[:9]}, not {want[:9]}")
            entry[2] = after
        if most <= len(wanted):
            return
        life.check(next(iterator, None) is None, "batches behind the last")
        life.check(next(iterator, None) is None, "batches behind the end")
        if number == len(self.iterators) - 1:
            self.epoch, self.start, self.iterators = epoch + (not self.again), 0, []
            self.again = False
        else:
            self.iterators.pop(number)

    def do_batch(self) -> None:
        length = len(self.sampler)
        if length == 0:
            return
        step, epoch = self.life.number(0, length - 1), self.life.pick((self.epoch, 0, 7))
        got = self.call(f"batch({step}, epoch={epoch})",
                        lambda: self.sampler.batch(step, epoch=epoch)).value  # fmt: skip
        wanted = parts(self.spec.rows(self.seed, epoch), 0, self.size, self.sampler)
        self.life.check(np.array_equal(got, wanted[step][0]), f"batch {got}, not {wanted[step]}")
        valid = self.call(f"valid({step})", lambda: self.sampler.valid(step)).value
        padded = len(valid) - int(valid.sum())
        self.life.check(len(valid) == len(got), "valid's length")
        self.life.check(padded == 0 or self.sampler.tail == "pad", "padding")

    # --- states ----------------------------------------------------------------------------------

    def do_state(self) -> None:
        """The sampler goes back to where it was some batches ago."""
        state = self.sampler.state_dict()
        epoch, position, drawn = self.epoch, self.position, self.drawn
        if self.life.chance(0.7):
            self.do_take()
        self.call("load_state_dict", lambda: self.sampler.load_state_dict(state))
        self.epoch, self.start, self.drawn, self.iterators = epoch, position, drawn, []
        self.again = False

    def do_resume(self) -> None:
        """Another sampler goes on, perhaps on other ranks."""
        state, life = self.sampler.state_dict(), self.life
        options: dict[str, Any] = {"seed": life.pick((0, self.seed))}
        if self.spec.batched and life.chance(0.5):
            options |= ranks(life, self.sampler.length, batched=self.sampler.batch_size is not None)
        life.note(f"another one: {short(options)}")
        self.spec.options |= options
        other = self.spec.made()
        outcome = life.call("load_state_dict of another", lambda: other.load_state_dict(state))
        life.check(outcome.done, "refused")
        self.start, self.sampler, self.iterators = self.position, other, []
        self.again = False

    def do_epoch(self) -> None:
        epoch = self.life.pick((self.epoch, 0, 3, 2**64 - 100))
        self.call(f"set_epoch({epoch})", lambda: self.sampler.set_epoch(epoch), spoiled=False)
        if epoch != self.epoch:
            self.epoch, self.start, self.iterators = epoch, 0, []
        self.again = bool(self.iterators)

    def do_copy(self) -> None:
        """A copy goes on where the sampler stands."""
        way = self.life.pick((copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))))
        self.life.note("copy")
        try:
            other = way(self.sampler)
        except TypeError as error:  # the core's objects cannot be copied
            self.life.note(f"  {error}")
            return
        self.start, self.sampler, self.iterators = self.position, other, []
        self.again = False

    # --- weights ---------------------------------------------------------------------------------

    def do_draw(self) -> None:
        life, n = self.life, self.sampler.n
        weights = self.sampler.weights
        most = n if self.sampler.replacement else int((weights > 0).sum())
        count = life.number(0, most)
        out = guarded(life, np.zeros(count, np.int64), Layout(library="numpy"))
        plain = out.view.flags.c_contiguous and out.view.flags.aligned
        given = out.array if life.chance(0.5) else None
        twin = self.spec.made(seed=self.seed)
        twin.load_state_dict(self.sampler.state_dict())
        want = twin.draw(count)
        outcome = self.call(f"draw({count}, {out})", lambda: self.sampler.draw(count, out=given),
                            written=[out], spoiled=given is not None and not plain)  # fmt: skip
        if not outcome.done:
            return
        got = outcome.value
        self.drawn += count
        life.check(np.array_equal(got, want), f"draws {got[:9]}, not {want[:9]}")
        life.check((weights[got] > 0).all(), "a row of weight zero was drawn")
        distinct = self.sampler.replacement or np.unique(got).size == count
        life.check(distinct, "a row was drawn twice")

    def do_update(self) -> None:
        """New weights, between epochs: what iterators have computed ahead keeps the old ones."""
        life, n = self.life, self.sampler.n
        count = life.number(0, min(n, 4))
        rows = life.numbers.integers(-n, n, count)
        weights = life.numbers.random(count) * life.pick((1.0, 1e-30, 1e30))
        if life.chance(0.3):
            weights[:] = 0
        spoiled = life.chance(0.3)
        bad_rows, bad_weights = rows, weights
        if spoiled and life.chance(0.5):
            bad_rows = life.pick(
                (rows + 2 * n, rows - 2 * n, rows * 0.5, None, "x", [2**70], [[0]])
            )
        elif spoiled:
            bad = (-1.0, np.nan, np.inf, None, "x", 1j, [[1.0]], np.append(weights, 1.0))
            bad_weights = life.pick(bad)
        after = self.sampler.weights
        after[rows] = weights
        if (after > 0).sum() < (1 if self.sampler.replacement else self.sampler.length):
            return
        outcome = life.call(
            f"update({bad_rows}, {bad_weights})",
            lambda: self.sampler.update(bad_rows, bad_weights),
            state=lambda: [self.sampler.state_dict(), self.sampler.weights],
            spoiled=spoiled,
        )
        if outcome.done:
            self.spec.updates.append((bad_rows, bad_weights))
            self.spec.rows_of.clear()
            self.sampler.rows(2**63, 0, 0)  # the epoch that keeps its rows is another one now
            if not spoiled:
                life.check(np.array_equal(self.sampler.weights, after), "the weights")
        self.sampler.set_epoch(self.epoch + 1)
        self.epoch, self.start, self.iterators = self.epoch + 1, 0, []
        self.again = False

    def do_weights(self) -> None:
        weights, life = self.sampler.weights, self.life
        rows = life.numbers.integers(0, self.sampler.n, 5)
        got = self.call("importance", lambda: self.sampler.importance_weights(rows)).value
        with np.errstate(all="ignore"):
            want = weights.sum() / (self.sampler.n * weights[rows])
        life.check(np.allclose(got, want, rtol=1e-9), f"importance {got}, not {want}")

    # --- wrong arguments -------------------------------------------------------------------------

    def do_spoiled(self) -> None:
        value = wrong.number(self.life) if self.life.chance(0.7) else wrong.array(
            self.life, np.zeros(3))  # fmt: skip
        name = self.life.pick(("batch", "valid", "build", "importance_weights"))
        self.life.note(f"  value {brief(value)}")
        if name == "build":
            key = self.life.pick(list(self.spec.options))
            changed = {key: value}
            outcome = self.life.call(f"build {key}", partial(self.spec.made, **changed),
                                     spoiled=True)  # fmt: skip
            if outcome.done:
                self.use(outcome.value)
        elif hasattr(self.sampler, name):
            self.call(name, lambda: getattr(self.sampler, name)(value), spoiled=True)

    def use(self, sampler: Any) -> None:
        """What was built of a wrong argument gives rows in range, or refuses."""
        most = sampler.n

        def some() -> Any:
            return [row for row, _ in zip(sampler, range(3), strict=False)]

        outcome = self.life.call("some batches", some, spoiled=True)
        for rows in outcome.value or []:
            array = np.atleast_1d(rows)
            in_range = array.size == 0 or (array.min() >= 0 and int(array.max()) < most)
            self.life.check(in_range, f"rows {rows}")
        self.life.check(alike(sampler.state_dict(), sampler.state_dict()), "its state")
