"""Lives of `BatchLoader`, against fancy indexing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

import subgrad_fast as sf
from subgrad_fast.loading import gathering as module
from tests.fuzz import wrong
from tests.fuzz.data import Data
from tests.fuzz.life import LEFT_OUT, Life, brief
from tests.fuzz.samplers import Spec, parts, random_spec


def live(life: Life) -> None:
    usual = module._BACKGROUND_BYTES
    try:
        for _ in range(life.number(1, 3)):
            module._BACKGROUND_BYTES = life.pick((0, 0, usual, sys.maxsize))
            life.note(f"gathered ahead from {module._BACKGROUND_BYTES} bytes on")
            if life.chance(0.5):
                Listed(life).go()
            else:
                Sampled(life).go()
            if life.chance(0.4):
                spoiled_loader(life)
    finally:
        module._BACKGROUND_BYTES = usual


class Taken:
    """What an iterator has handed out: it stays as it is for as long as it is held."""

    def __init__(self, life: Life, data: Data) -> None:
        self.life, self.data = life, data
        self.held: list[tuple[Any, Any]] = []

    def add(self, batch: Any, rows: Any) -> None:
        self.life.counts["calls"] += 1
        self.held.append((batch, rows))
        if self.life.chance(0.3):
            self.held = self.life.rng.sample(self.held, min(len(self.held), 5))
        for held, indices in self.held:
            self.data.check(held, indices)


class Listed:
    """A loader over a list of batches of indices, some of them out of range."""

    def __init__(self, life: Life) -> None:
        self.life, self.data = life, Data(life)
        n = self.data.rows
        self.batches: list[Any] = []
        self.wanted: list[Any] = []  # None: an error
        with_extra, bad = life.chance(0.2), life.chance(0.3)
        for _ in range(life.number(0, 12)):
            rows = life.numbers.integers(0, n, life.pick((0, 1, 5, 5, 5, life.number(0, 60))))
            given = _form(life, rows)
            if bad and life.chance(0.2):
                given, rows = _wrong_rows(life, rows, n), None
            self.batches.append((given, "extra") if with_extra else given)
            self.wanted.append(rows)
        self.prefetch = life.pick((1, 2, 3, 5))
        self.extra = with_extra
        life.note(f"batches of {[getattr(w, 'size', None) for w in self.wanted]} rows")
        self.loader = sf.BatchLoader(self.data.given, self.batches, prefetch=self.prefetch)
        self.iterators: list[list[Any]] = []

    def go(self) -> None:
        life = self.life
        for _ in range(life.number(3, 15)):
            if not self.iterators or life.chance(0.2):
                taken = Taken(life, self.data)
                self.iterators.append([iter(self.loader), 0, taken])
            if life.chance(0.1):  # a break
                entry = life.pick(self.iterators)
                life.note(f"leaves an iterator at {entry[1]}")
                self.iterators.remove(entry)
                continue
            entry = life.pick(self.iterators)
            most = life.pick((1, 2, 5, 100))
            life.note(f"takes {most} of an iterator at {entry[1]}")
            if not self.take(entry, most):
                self.iterators.remove(entry)
            del entry

    def take(self, entry: list[Any], most: int) -> bool:
        """Takes some batches. Returns whether there are more."""
        iterator, at, taken = entry
        for position in range(at, min(at + most, len(self.wanted))):
            want = self.wanted[position]
            if want is None:
                self.life.counts["raises"] += 1
                error = _raised(iterator)
                self.life.note(f"  raised {error!r}"[:150])
                self.life.check(
                    isinstance(error, IndexError | TypeError | ValueError), f"batch {position}"
                )
                self.life.check(next(iterator, None) is None, "goes on after an error")
                return False
            batch = next(iterator)
            if self.extra:
                batch, text = batch
                self.life.check(text == "extra", "the extra")
            taken.add(batch, want)
            entry[1] = position + 1
        if at + most > len(self.wanted):
            self.life.check(next(iterator, None) is None, "batches behind the last")
            return False
        return True


def _form(life: Life, rows: np.ndarray) -> Any:
    """Indices as a loader takes them."""
    strided = np.zeros(2 * rows.size, np.int64)[::2]
    strided[...] = rows
    forms = (rows, rows, rows.tolist(), strided, rows[::-1].copy()[::-1], torch.from_numpy(rows))
    return life.pick(forms)


def _wrong_rows(life: Life, rows: np.ndarray, n: int) -> Any:
    """Indices of which one is out of range, or which are none."""
    longer = np.append(rows, 0)
    longer[life.rng.randrange(longer.size)] = life.pick((n, n + 1, -1, -n - 1, 2**62, -(2**63)))
    other = ([n], [-1], [0.5], ["a"], None, 7, [2**70], np.full(3, n), longer.tolist())
    return longer if life.chance(0.6) else life.pick(other)


def _raised(iterator: Iterator[Any]) -> BaseException | None:
    try:
        next(iterator)
    except StopIteration:
        return None
    except Exception as error:
        return error
    return None


class Sampled:
    """A loader over a sampler: states, resumes, breaks."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.spec: Spec = random_spec(life, ("batch", "weighted", "stratified", "groups"))
        if self.spec.options.get("batch_size", 0) is None:
            self.spec.options |= {"batch_size": 1, "world_size": 1, "rank": 0}
        twin = self.spec.made()
        self.data = Data(life, twin.n)
        self.prefetch = life.pick((1, 2, 4))
        self.make()
        self.epoch = self.position = 0
        self.next_epoch: int | None = None  # where a pass that was left does not go on
        self.iterator: Iterator[Any] | None = None
        self.taken = Taken(life, self.data)

    def make(self) -> None:
        self.sampler = self.spec.made()
        self.loader = sf.BatchLoader(self.data.given, self.sampler, prefetch=self.prefetch)

    def go(self) -> None:
        for _ in range(self.life.number(4, 15)):
            kinds = (
                self.take,
                self.take,
                self.take,
                self.state,
                self.resume,
                self.leave,
                self.other,
            )
            self.life.pick(kinds)()

    @property
    def size(self) -> int:
        return int(self.sampler.batch_size or self.sampler.world_size)

    def take(self) -> None:
        life = self.life
        most = life.pick((1, 2, 5, 10**6))
        if self.next_epoch is not None:
            self.go_to(self.next_epoch)
        rows = self.spec.rows(self.sampler.seed, self.epoch)
        wanted = parts(rows, self.position, self.size, self.sampler)
        life.note(f"takes {most} of epoch {self.epoch} at {self.position}")
        if self.iterator is None:
            self.iterator = iter(self.loader)
            self.taken = Taken(life, self.data)
        for want, after in wanted[:most]:
            self.taken.add(next(self.iterator), want)
            self.position = after
        if most > len(wanted):
            life.check(next(self.iterator, None) is None, "batches behind the last")
            self.iterator = None
            self.go_to(self.epoch + 1)
        self.check_state()

    def go_to(self, epoch: int, position: int = 0) -> None:
        self.epoch, self.position, self.next_epoch = epoch, position, None

    def check_state(self) -> Any:
        state = self.loader.state_dict()
        inner = {name: state["sampler"][name] for name in ("epoch", "position")}
        want = {"epoch": self.epoch, "position": self.position}
        self.life.check(inner == want, f"state {inner}, not {want}")
        count = -(-self.position // self.size)
        right = state["batches"] == count or "batches" in LEFT_OUT
        self.life.check(right, f"batches {state['batches']}, not {count}")
        return state

    def state(self) -> None:
        """The same loader goes back to where it was."""
        state, epoch, position = self.check_state(), self.epoch, self.position
        if self.life.chance(0.6):
            self.take()
        self.life.call("load_state_dict", lambda: self.loader.load_state_dict(state))
        self.go_to(epoch, position)
        self.iterator = None

    def resume(self) -> None:
        """Another loader goes on."""
        state = self.check_state()
        self.make()
        self.life.call("load_state_dict of another", lambda: self.loader.load_state_dict(state))
        self.go_to(self.epoch, self.position)
        self.iterator = None
        self.check_state()

    def leave(self) -> None:
        """The iteration ends in the middle; the next one begins an epoch."""
        begun, self.iterator = self.iterator is not None, None
        way = self.life.pick(("the next", "the same", "none") if begun else ("the next",))
        self.life.note(f"break, and sets {way} epoch")
        rows = self.spec.rows(self.sampler.seed, self.epoch)
        over = not parts(rows, self.position, self.size, self.sampler)
        if way == "the next":
            self.loader.set_epoch(self.epoch + 1)
            self.go_to(self.epoch + 1)
        elif way == "the same":
            self.loader.set_epoch(self.epoch)
            self.position = 0 if over else self.position
            self.next_epoch = self.epoch
        elif over:
            self.go_to(self.epoch + 1)
        else:
            self.next_epoch = self.epoch + 1
        self.check_state()

    def other(self) -> None:
        epoch = self.life.pick((0, 5, 11))
        if epoch == self.sampler.epoch:
            return
        self.life.call(f"set_epoch({epoch})", lambda: self.loader.set_epoch(epoch))
        self.go_to(epoch)
        self.iterator = None


def spoiled_loader(life: Life) -> None:
    """A loader of wrong arguments; if it is made, its batches come or are refused."""
    x = np.arange(6.0)
    arrays = life.pick(
        (
            wrong.array(life, x),
            (x, wrong.array(life, x)),
            {"a": wrong.array(life, x)},
            wrong.arrays(life, [x, x], [x, x], []),
            x,
            (),
            (x, x[:-1]),
        )
    )
    sampler = life.pick(([[0, 1]], [[5]], None, 3, iter([[0]]), [None], [wrong.number(life)], {}))
    options = {life.pick(("prefetch", "pin")): life.pick((0, -1, None, "a", 1.5, True, 2))}

    def build_and_take() -> None:
        for _ in zip(sf.BatchLoader(arrays, sampler, **options), range(2), strict=False):
            pass

    life.call(
        f"BatchLoader {type(arrays)} {brief(sampler)} {options}", build_and_take, spoiled=True
    )
