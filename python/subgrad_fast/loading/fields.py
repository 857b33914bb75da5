"""The arrays that a loader gathers from, checked, wherever they lie."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from subgrad_fast import _core
from subgrad_fast._arrays import Array, is_torch, raw_view

Pack = Callable[[list[Array]], Any]


def unpack(arrays: Any) -> tuple[list[Array], list[str], Pack]:
    """Arrays, their names in messages, and what puts others into the same container."""
    if isinstance(arrays, Mapping | tuple | list) and len(arrays) == 0:
        raise ValueError("arrays: expected at least one array")
    if isinstance(arrays, Mapping):
        keys = list(arrays)
        names = [f"arrays[{key!r}]" for key in keys]
        return list(arrays.values()), names, lambda a: dict(zip(keys, a, strict=True))
    if isinstance(arrays, tuple | list):
        names = [f"arrays[{i}]" for i in range(len(arrays))]
        pack: Pack = list if isinstance(arrays, list) else getattr(type(arrays), "_make", tuple)
        return list(arrays), names, pack
    return [arrays], ["arrays"], lambda a: a[0]


def _mapped_file(array: npt.NDArray[Any]) -> tuple[mmap.mmap, int] | None:
    """The mapping of a file that is the memory of `array`, and the file's size that it needs."""
    base: Any = array
    offset = 0
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and base.offset is not None:  # a copy has none
            offset = base.offset - base.offset % mmap.ALLOCATIONGRANULARITY
        base = base.base
    return (base, offset + len(base)) if isinstance(base, mmap.mmap) else None


def _text(device: int | None) -> str:
    return "the host" if device is None else f"cuda:{device}"


class Fields:
    """The arrays of one loader, and what can be gathered of them by the kernels.

    Attributes:
        arrays: as new batches are to be; detached tensors, for the caller may reshape his own.
        sources: as the kernels read them: on the host the memory as NumPy arrays.
        direct, loose: numbers of those that kernels gather, and that their library has to index.
        row_bytes: of all arrays, as far as another thread can be of help with them.
        mapped: whether memory of some is a file's.

    Raises:
        TypeError, ValueError: as `BatchLoader` says.
    """

    def __init__(self, arrays: Any, *, pin: bool) -> None:
        given, names, self.pack = unpack(arrays)
        self.device = _one_device(given, names)
        self.tensors = [i for i, a in enumerate(given) if is_torch(a)]
        if self.device is None:
            self.sources = [raw_view(a, name) for a, name in zip(given, names, strict=True)]
        else:
            self._check_device(self.device, given, names)
        self.pin = pin
        self.rows = _row_count(given, names)
        if pin:
            self._check_pin(names)
        detached = [a.detach() if is_torch(a) else a for a in given]
        if self.device is None:
            both = zip(detached, self.sources, strict=True)
            self.arrays = [mine if is_torch(mine) else source for mine, source in both]
            self.row_bytes = sum(s.dtype.itemsize * (s.size // self.rows) for s in self.sources)
            files = [(name, _mapped_file(s)) for name, s in zip(names, self.sources, strict=True)]
            self._files = [(name, file) for name, file in files if file is not None]
        else:
            self.arrays = self.sources = detached
            self.row_bytes, self._files = 0, []  # no thread pays: the device works beside us
        self.mapped = bool(self._files)
        self.direct = [i for i, source in enumerate(self.sources) if _is_direct(source)]
        self.loose = [i for i in range(len(self.sources)) if i not in self.direct]

    def check_files(self) -> None:
        """Raises ValueError for a mapped file that has become too short: to read behind its end is
        a fault (SIGBUS) that ends the process."""
        for name, (mapping, size) in self._files:
            if mapping.size() < size:
                raise ValueError(
                    f"{name}: its file has {mapping.size()} bytes and needs {size}; it was cut"
                )

    @staticmethod
    def _check_device(device: int, given: list[Array], names: list[str]) -> None:
        for array, name in zip(given, names, strict=True):
            if not is_torch(array):
                raise TypeError(f"{name}: expected a torch tensor, got {type(array).__name__}")
            if array.is_conj() or array.is_neg():
                raise ValueError(f"{name}: is a conjugated or negated view; resolve it first")
        problem = _core.cuda.problem(device)
        if problem is not None:
            raise ValueError(f"{names[0]}: is on cuda:{device}, but {problem}")

    def _check_pin(self, names: list[str]) -> None:
        if self.device is not None:
            raise ValueError(
                f"pin: {names[0]} is on cuda:{self.device}; only host memory can be pinned"
            )
        for i, name in enumerate(names):
            if i not in self.tensors:
                raise TypeError(f"pin: {name} is a NumPy array; only tensors can be pinned")
        if not sys.modules["torch"].accelerator.is_available():
            raise ValueError("pin: torch finds no accelerator to pin memory for")


def _one_device(given: list[Array], names: list[str]) -> int | None:
    devices = [_core.cuda.device_of(array) for array in given]
    for device, name in zip(devices, names, strict=True):
        if device != devices[0]:
            raise ValueError(
                f"{name}: expected memory on {_text(devices[0])} like {names[0]}, "
                f"got {_text(device)}"
            )
    return devices[0]


def _row_count(given: list[Array], names: list[str]) -> int:
    for array, name in zip(given, names, strict=True):
        if array.ndim == 0:
            raise ValueError(f"{name}: expected at least one dimension")
        if len(array) != len(given[0]):
            raise ValueError(f"{name}: has {len(array)} rows, but {names[0]} has {len(given[0])}")
    rows = len(given[0])
    if rows == 0:
        raise ValueError(f"{names[0]}: has no rows")
    return rows


def _is_direct(source: Array) -> bool:
    """Whether rows can be copied as bytes: runs of them, and no objects, which have counts."""
    if isinstance(source, np.ndarray) and source.dtype.hasobject:
        return False
    return _core.loading.contiguous_rows(source)
