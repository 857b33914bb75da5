"""The arrays that a loader gathers from, checked, wherever they lie."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from subgrad_fast import _core
from subgrad_fast._arguments import quoted
from subgrad_fast._arrays import Array, empty_rows, is_torch, raw_view
from subgrad_fast.loading.tables import shown

# What makes a batch of a list of arrays; None of the only one.
Pack: TypeAlias = "Callable[[list[Array]], Any] | None"


def unpack(arrays: Any) -> tuple[list[Array], list[str], Pack]:
    """Arrays, their names in messages, and what puts others into the same container."""
    if isinstance(arrays, Mapping | tuple | list) and len(arrays) == 0:
        raise ValueError("arrays: expected at least one array")
    if isinstance(arrays, Mapping):
        keys = list(arrays)
        names = [f"arrays[{quoted(key)}]" for key in keys]
        return list(arrays.values()), names, lambda a: dict(zip(keys, a, strict=True))
    if isinstance(arrays, tuple | list):
        names = [f"arrays[{i}]" for i in range(len(arrays))]
        pack: Pack = list if isinstance(arrays, list) else getattr(type(arrays), "_make", tuple)
        return list(arrays), names, pack
    return [arrays], ["arrays"], None


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
    """The arrays of one loader, and how their parts of a batch come about.

    Args:
        arrays: an array, or a container of arrays.
        pin: as `BatchLoader` says.
        pack: what makes a batch of the list of its arrays, if not the container's kind.
        like: arrays of any number of rows whose library and dtype the batches' have, if not those
            of `arrays`.

    Attributes:
        fields: for the core, one for each array.
        like: an array where all of them are.
        row_bytes: of all arrays, as far as another thread can be of help with them.
        mapped: whether memory of some is a file's.

    Raises:
        TypeError, ValueError: as `BatchLoader` says.
    """

    def __init__(
        self, arrays: Any, *, pin: bool, pack: Pack = None, like: list[Array] | None = None
    ) -> None:
        given, names, own_pack = unpack(arrays)
        self.pack = pack or own_pack
        self.device = _one_device(given, names)
        if self.device is None:
            given = [shown(array, name) for array, name in zip(given, names, strict=True)]
        else:
            self._check_device(self.device, given, names)
        given = [array.detach() if is_torch(array) else array for array in given]
        sources = given
        if self.device is None:
            sources = [raw_view(a, name) for a, name in zip(given, names, strict=True)]
        self.rows = _row_count(given, names)
        kinds = given if like is None else like
        if pin:
            self._check_pin(kinds, names)
        self._pin = pin
        self.like = sources[0]
        self.fields = [self._field(a, raw) for a, raw in zip(kinds, sources, strict=True)]
        self.row_bytes = 0  # on a device no thread pays: it works beside us
        self._files: list[tuple[str, tuple[mmap.mmap, int]]] = []
        if self.device is None:
            self.row_bytes = sum(s.dtype.itemsize * (s.size // self.rows) for s in sources)
            files = [(name, _mapped_file(s)) for name, s in zip(names, sources, strict=True)]
            self._files = [(name, file) for name, file in files if file is not None]
        self.mapped = bool(self._files)

    def _field(self, array: Array, raw: Array) -> _core.loading.Field:
        """`raw` is the array as kernels see it."""
        if not _is_direct(raw):
            return _core.loading.Field.indexed(_indexing(array, raw))
        if self.device is not None:
            return _core.loading.Field.made(
                raw, lambda rows: (made := empty_rows(array, rows), made)
            )
        if self._pin:
            pinned = partial(empty_rows, array, pin=True)
            return _core.loading.Field.made(
                raw, lambda rows: (made := pinned(rows), raw_view(made, "batch"))
            )
        return _core.loading.Field.pooled(raw, array, _wrapping(array) if is_torch(array) else None)

    def __repr__(self) -> str:
        where = "" if self.device is None else f" on cuda:{self.device}"
        return f"{len(self.fields)} array{'s' * (len(self.fields) > 1)} of {self.rows} rows{where}"

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

    def _check_pin(self, given: list[Array], names: list[str]) -> None:
        if self.device is not None:
            raise ValueError(
                f"pin: {names[0]} is on cuda:{self.device}; only host memory can be pinned"
            )
        for array, name in zip(given, names, strict=True):
            if not is_torch(array):
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


def _wrapping(tensor: Array) -> Callable[[npt.NDArray[Any]], Array]:
    """What makes a tensor of that dtype of raw memory."""
    torch, dtype = sys.modules["torch"], tensor.dtype

    def wrap(raw: npt.NDArray[Any]) -> Array:
        made = torch.from_numpy(raw)
        return made if made.dtype == dtype else made.view(dtype)

    return wrap


def _indexing(array: Array, raw: Array) -> Callable[[Any], Array]:
    """What has the array's own library pick rows."""
    if not is_torch(array):
        return lambda indices: np.ascontiguousarray(raw[indices])
    torch = sys.modules["torch"]
    if raw is not array:  # on the host; NumPy picks rows of any dtype's bytes
        wrap = _wrapping(array)
        return lambda indices: wrap(np.ascontiguousarray(raw[indices]))
    return lambda indices: torch.index_select(raw, 0, indices)
