"""Lives of `data.DataLoader` beside torch's: the same batches, and the same draws."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.data as torchs

from subgrad_fast.data import DataLoader
from tests.data.cases import assert_same
from tests.fuzz import wrong
from tests.fuzz.life import REFUSALS, Life, brief

_DTYPES = (torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool)
_END = object()


def live(life: Life) -> None:
    for _ in range(life.number(1, 3)):
        Beside(life).go()
        if life.chance(0.3):
            spoiled_loader(life)


def data_set(life: Life) -> Any:
    """Arrays in memory, as torch takes them for a data set."""
    n = life.pick((1, 2, 7, life.number(1, 300)))
    kind = life.pick(("tensors", "stack", "named", "tensor", "array", "mapped"))
    life.note(f"data set: {kind} of {n} rows")
    if kind == "mapped":
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(life.numbers.bytes(n * 12))
            made: Any = np.memmap(file.name, np.int32, "r+", shape=(n, 3))
    elif kind in ("tensor", "array"):
        made = _tensor(life, n) if kind == "tensor" else _tensor(life, n).numpy()
    else:
        fields = [_tensor(life, n) for _ in range(life.number(1, 3))]
        made = {
            "tensors": lambda: torchs.TensorDataset(*fields),
            "stack": lambda: torchs.StackDataset(*(field.numpy() for field in fields)),
            "named": lambda: torchs.StackDataset(**{f"f{i}": f for i, f in enumerate(fields)}),
        }[kind]()
    if life.chance(0.2):
        made = torchs.Subset(made, life.numbers.integers(-n, n, life.number(1, 2 * n)).tolist())
    return made


def _tensor(life: Life, n: int) -> torch.Tensor:
    trailing = life.pick(((), (1,), (3,), (2, 5), (0,), (900,)))
    values = life.numbers.integers(0, 100, (n, *trailing))
    made = torch.from_numpy(values).to(life.pick(_DTYPES))
    return made.flip(0).t().contiguous().t() if len(trailing) == 1 and life.chance(0.2) else made


class Beside:
    """A loader of ours and one of torch's. Each has a generator, and the two stand alike."""

    def __init__(self, life: Life) -> None:
        self.life, self.data = life, data_set(life)
        n = len(self.data)
        self.seed = life.number(0, 2**31)
        self.options: dict[str, Any] = {"batch_size": life.pick((1, 3, life.number(1, n + 3)))}
        self.options["drop_last"] = life.chance(0.3)
        self.order = life.pick(("shuffle", "shuffle", "in order", "replacement", "listed"))
        self.samples, self.batches = life.number(1, 2 * n), self._listed(n)
        gathered = DataLoader(self.data).handed_over is None
        self.ahead = gathered and self.order == "in order" and life.chance(0.5)
        life.note(f"{self.order}, {self.options}")
        self.ours, self.torchs = self.made(DataLoader), self.made(torchs.DataLoader)
        self.passes: tuple[Any, Any] | None = None
        self.resumes = False
        # The generator where the epoch began, and how many of its batches have been taken.
        self.begun, self.taken = self.torchs.generator.get_state(), 0
        self.held: list[tuple[Any, Any]] = []

    def _listed(self, n: int) -> list[list[int]]:
        """Batches of row numbers, of which some may be none."""
        rows = [
            self.life.numbers.integers(-n, n, self.life.number(1, 6)).tolist() for _ in range(5)
        ]
        if self.life.chance(0.2):
            self.life.pick(rows).append(self.life.pick((n, -n - 1, 2**62)))
        return rows

    def made(self, kind: Any) -> Any:
        generator = torch.Generator().manual_seed(self.seed)
        options = self.options | {"generator": generator, "shuffle": self.order == "shuffle"}
        if self.order == "replacement":
            options["sampler"] = torchs.RandomSampler(self.data, True, self.samples, generator)
        elif self.order == "listed":
            options = {"generator": generator, "batch_sampler": self.batches}
        if kind is DataLoader and self.ahead:
            options["num_workers"] = 2  # for us a thread, which draws ahead
        return kind(self.data, **options)

    def go(self) -> None:
        for _ in range(self.life.number(3, 10)):
            self.life.pick((self.take, self.take, self.take, self.leave, self.back, self.copied))()

    def begin(self) -> tuple[Any, Any]:
        if not self.resumes:
            self.begun, self.taken = self.torchs.generator.get_state(), 0
        self.torchs.generator.set_state(self.begun)
        self.resumes = False
        ours, its = iter(self.ours), iter(self.torchs)
        for _ in range(self.taken):
            next(its)
        return ours, its

    def take(self) -> None:
        life, most = self.life, self.life.pick((1, 2, 5, 10**6))
        self.passes = self.passes or self.begin()
        life.note(f"takes {most} of an epoch at {self.taken}")
        for _ in range(most):
            got, want = (_next(one) for one in self.passes)
            life.counts["calls"] += 1
            if isinstance(want, Exception):
                life.counts["raises"] += 1
                life.check(type(got) is type(want), f"{got!r}, not {want!r}")
                return self.fresh()
            if want is _END:
                life.check(got is _END, "batches behind the last")
                self.passes, self.taken = None, 0
                self.begun = self.torchs.generator.get_state()
                break
            assert_same(got, want)
            self.taken += 1
            self.held = [*self.held[-3:], (got, want)]
        for got, want in self.held:
            assert_same(got, want)
        if not self.ahead:
            states = [one.generator.get_state() for one in (self.ours, self.torchs)]
            life.check(torch.equal(*states), "the generator stands elsewhere")
        return None

    def fresh(self) -> None:
        """Two others: what a pass is behind an error, is not compared."""
        self.ours, self.torchs = self.made(DataLoader), self.made(torchs.DataLoader)
        self.passes, self.resumes = None, False
        self.begun, self.taken = self.torchs.generator.get_state(), 0

    def leave(self) -> None:
        self.life.note("break")
        left, self.passes = self.passes is not None, None
        if left and self.taken >= len(self.torchs):  # which is seen only now
            self.begun, self.taken = self.torchs.generator.get_state(), 0

    def back(self) -> None:
        """The loader, or another, goes on where it was."""
        state = copy.deepcopy(self.life.call("state_dict", self.ours.state_dict).value)
        begun, taken = self.begun, self.taken
        if self.life.chance(0.5):
            self.take()
        if self.life.chance(0.5):
            self.ours = self.made(DataLoader)
        self.life.call("load_state_dict", lambda: self.ours.load_state_dict(state))
        self.passes, self.resumes = None, True
        self.begun, self.taken = begun, taken

    def copied(self) -> None:
        self.ours = self.life.call("deepcopy", lambda: copy.deepcopy(self.ours)).value
        self.passes, self.resumes = None, True


def _next(iterator: Any) -> Any:
    try:
        return next(iterator, _END)
    except Exception as error:
        return error


def spoiled_loader(life: Life) -> None:
    """A loader of wrong arguments; if it is made, its batches come or are refused."""
    data = life.pick((data_set(life), wrong.array(life, np.arange(6.0)), (), None, 3))
    name = life.pick(
        ("batch_size", "shuffle", "sampler", "batch_sampler", "drop_last", "generator")
    )
    value = life.pick((wrong.number(life), None, [0, 1], [[0], [10**6]], "ab", [None]))

    def build_and_take() -> None:
        for _ in zip(DataLoader(data, **{name: value}), range(2), strict=False):
            pass

    life.call(
        f"DataLoader {type(data)} {name}={brief(value)}",
        build_and_take,
        spoiled=True,
        refusals=(*REFUSALS, AttributeError, AssertionError),
    )
