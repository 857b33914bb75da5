"""Arrays between guard bytes, in every layout, of both libraries."""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tests.cases import DTYPES

_GUARD = 64
_C_LIBRARY = ctypes.CDLL(None, use_errno=True)


class Guarded:
    """An array, and all of the memory around it.

    Attributes:
        view: its elements as NumPy sees them, whatever library `array` is of.
        array: what calls are given.
    """

    def __init__(self, memory: np.ndarray, view: np.ndarray, offset: int) -> None:
        self._memory, self.view, self._offset = memory, view, offset
        self.array: Any = view
        self._elements: np.ndarray | None = None

    def __repr__(self) -> str:
        kind = type(self.array).__name__
        steps = "" if self.view.flags.c_contiguous else f" strides {self.view.strides}"
        marks = "" if self.view.flags.aligned else " unaligned"
        if isinstance(self.array, np.ndarray) and not self.array.flags.writeable:
            marks += " read-only"
        return f"{kind} {self.view.dtype}{list(self.view.shape)}{steps}{marks}"

    def bytes(self) -> np.ndarray:
        """A copy of the memory, guards and all."""
        return self._memory.copy()

    def check(self, before: np.ndarray, *, inside: bool) -> None:
        """Raises AssertionError where the memory has changed: the elements too, if `inside`."""
        changed = self._memory != before
        if not inside:
            changed &= ~self._of_elements()
        if changed.any():
            where = "an array that was not to be written" if inside else "memory around an array"
            raise AssertionError(f"{where} has changed, {int(changed.sum())} bytes: {self!r}")

    def _of_elements(self) -> np.ndarray:
        """Which bytes of the memory are those of elements."""
        if self._elements is None:
            twin = np.zeros_like(self._memory)
            kind = np.dtype(f"V{self.view.itemsize}")
            elements = np.ndarray(self.view.shape, kind, twin, self._offset, self.view.strides)
            elements[...] = np.frombuffer(b"\xff" * kind.itemsize, kind)[0]
            self._elements = twin == 255
        return self._elements


def raw_memory(size: int, *, at_a_page: bool) -> np.ndarray:
    """Bytes; `at_a_page`: behind the last of them lies a page that nobody may even read."""
    if not at_a_page:
        return np.zeros(size, np.uint8)
    page = mmap.PAGESIZE
    length = -(-size // page) * page
    pages = np.frombuffer(mmap.mmap(-1, length + page), np.uint8)
    no_access = 0
    if _C_LIBRARY.mprotect(ctypes.c_void_p(pages.ctypes.data + length), page, no_access) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    return pages[length - size : length]


@dataclass(frozen=True)
class Layout:
    """Which layouts `guarded` chooses among.

    Attributes:
        rows_contiguous: each row is a run of memory.
        broadcast: elements may share memory.
        aligned: elements lie at multiples of their size.
        library: "numpy", "torch", or None for either.
    """

    rows_contiguous: bool = False
    broadcast: bool = False
    aligned: bool = False
    library: str | None = None


ANY = Layout()


def _strides_of(
    life: Any, shape: tuple[int, ...], itemsize: int, how: Layout, *, negative: bool
) -> tuple[int, ...]:
    """Strides in bytes, of no two elements at one place unless `how` is broadcast."""
    axes = list(range(len(shape)))
    if how.rows_contiguous or life.chance(0.5):
        order = axes[::-1]
    else:
        order = life.rng.sample(axes, len(axes))
    strides, run = [0] * len(shape), itemsize
    plain = life.chance(0.5)
    for axis in order:
        inner = how.rows_contiguous and axis != 0
        step = 1 if plain or inner else life.pick((1, 1, 1, 2, 3, -1, -2))
        if step < 0 and not negative:
            step = -step
        strides[axis] = run * step
        run *= abs(step) * max(shape[axis], 1)
        if how.broadcast and not inner and life.chance(0.2):
            strides[axis] = 0
    return tuple(strides)


def guarded(life: Any, values: np.ndarray, how: Layout = ANY) -> Guarded:
    """An array with these values, laid out at random."""
    library = how.library or life.pick(("numpy", "numpy", "torch"))
    shape, itemsize = values.shape, values.itemsize
    strides = _strides_of(life, shape, itemsize, how, negative=library == "numpy")
    reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)] if values.size else [0]
    low, high = sum(r for r in reach if r < 0), sum(r for r in reach if r > 0)
    may_be_unaligned = itemsize > 1 and not how.aligned
    unaligned = life.number(1, itemsize - 1) if may_be_unaligned and life.chance(0.1) else 0
    at_a_page = life.chance(0.2)
    before = _GUARD + unaligned - low
    size = before + high + itemsize + (0 if at_a_page else _GUARD)
    if at_a_page and not unaligned:
        before += -size % itemsize  # behind the last element lies the page's end
        size += -size % itemsize
    memory = raw_memory(size, at_a_page=at_a_page)
    memory[...] = life.numbers.integers(0, 256, size, np.uint8)
    view = np.ndarray(shape, values.dtype, memory, before, strides)
    view[...] = values
    made = Guarded(memory, view, before)
    if library == "torch":
        made.array = _as_tensor(memory, view, before)
    return made


def _as_tensor(memory: np.ndarray, view: np.ndarray, offset: int) -> torch.Tensor:
    """A tensor of the elements of `view`, which begin at `offset` of `memory`."""
    name = next((name for name, d in DTYPES.items() if d == view.dtype), str(view.dtype))
    first = offset % view.itemsize
    count = (memory.size - first) // view.itemsize
    flat = torch.frombuffer(memory, dtype=getattr(torch, name), count=count, offset=first)
    steps = [s // view.itemsize for s in view.strides]
    return flat.as_strided(view.shape, steps, offset // view.itemsize)


def read_only(array: Guarded) -> Guarded:
    """The same, handed over as a view that may not be written. Of NumPy's only."""
    array.array = array.view.view()
    array.array.flags.writeable = False
    return array


def values_of(array: Any) -> np.ndarray:
    """A copy as an array of NumPy's, bfloat16 too."""
    if not isinstance(array, torch.Tensor):
        return np.array(array)
    array = array.detach().contiguous()
    if array.dtype == torch.bfloat16:
        return array.view(torch.int16).numpy().view(DTYPES["bfloat16"]).copy()
    return array.numpy().copy()
