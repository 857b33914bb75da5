"""Data sets for the loader: arrays of any dtype and layout, in any container."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tests.fuzz.life import Life
from tests.fuzz.memory import guarded, read_only

_DTYPES = ("f4", "f8", "f2", "i8", "i4", "i2", "u1", "?", "c8")
_NUMPYS_OWN = ("S3", "U2", "M8[s]", "u8,f4", ">f4", "V5")


class Pair(NamedTuple):
    """A container of the caller's own."""

    first: Any
    second: Any


class Data:
    """Arrays of the same length and what they hold.

    Attributes:
        given: what a loader is made of.
        fields: the arrays in order; `held`: copies of their values.
    """

    def __init__(self, life: Life, rows: int | None = None) -> None:
        self.rows = rows or life.pick((1, 2, 7, life.number(1, 400)))
        kind = life.pick(("single", "tuple", "list", "dict", "pair"))
        count = 1 if kind == "single" else 2 if kind == "pair" else life.number(1, 4)
        self.fields = [self._array(life) for _ in range(count)]
        self.held = [np.array(field) for field in self.fields]
        self.given: Any = {
            "single": lambda: self.fields[0],
            "tuple": lambda: tuple(self.fields),
            "list": lambda: self.fields,
            "dict": lambda: {f"field {i}": field for i, field in enumerate(self.fields)},
            "pair": lambda: Pair(*self.fields),
        }[kind]()
        arrays = [(type(f).__name__, str(f.dtype), tuple(f.shape)) for f in self.fields]
        life.note(f"data: {kind} of {arrays}")

    def _array(self, life: Life) -> Any:
        trailing = life.pick(((), (), (1,), (3,), (17,), (2, 5), (0,), (700,)))
        shape = (self.rows, *trailing)
        if life.chance(0.1):
            return life.numbers.integers(0, 9, shape).astype(object)
        if life.chance(0.2):
            dtype = np.dtype(life.pick(_NUMPYS_OWN))
            return np.frombuffer(self._bytes(life, shape, dtype), dtype).reshape(shape)
        dtype = np.dtype(life.pick(_DTYPES))
        values = np.frombuffer(self._bytes(life, shape, dtype), dtype).reshape(shape)
        if life.chance(0.15):
            return self._mapped(values)
        if dtype.kind in "c?" and life.chance(0.5):
            return torch.from_numpy(values.copy())
        made = guarded(life, values)
        if life.chance(0.2) and isinstance(made.array, np.ndarray):
            read_only(made)
        return made.array

    def _bytes(self, life: Life, shape: tuple[int, ...], dtype: np.dtype) -> bytes:
        count = int(np.prod(shape))
        if dtype.kind == "U":
            return np.full(count, "ab", dtype).tobytes()
        if dtype.kind == "?":
            return (life.numbers.random(count) < 0.5).tobytes()
        return life.numbers.bytes(count * dtype.itemsize)

    def _mapped(self, values: np.ndarray) -> np.ndarray:
        if values.size == 0:
            return values
        with tempfile.NamedTemporaryFile(suffix=".bin") as file:
            Path(file.name).write_bytes(values.tobytes())
            return np.memmap(file.name, values.dtype, "r", shape=values.shape)

    def parts(self, batch: Any) -> list[Any]:
        """The arrays of a batch, whose container must be like the one given."""
        if isinstance(self.given, dict):
            assert list(batch) == list(self.given)
            return list(batch.values())
        if isinstance(self.given, tuple | list):
            assert type(batch) is type(self.given)
            return list(batch)
        return [batch]

    def check(self, batch: Any, rows: Any) -> None:
        """Raises AssertionError unless a batch holds these rows, of the libraries given."""
        indices = np.asarray(rows, np.int64)
        for field, held, got in zip(self.fields, self.held, self.parts(batch), strict=True):
            assert isinstance(got, torch.Tensor) == isinstance(field, torch.Tensor), type(got)
            assert got.dtype == field.dtype, got.dtype
            want = held[indices]
            array = np.asarray(got)
            assert array.shape == want.shape, f"shape {array.shape}, not {want.shape}"
            if held.dtype.hasobject:
                assert (array == want).all(), "objects"
            else:
                assert array.tobytes() == want.tobytes(), f"rows {indices[:9]} of {held.dtype}"
