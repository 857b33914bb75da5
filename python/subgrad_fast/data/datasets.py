"""Which data sets are arrays in memory whose rows are the items."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
import torch
from torch.utils.data import StackDataset, Subset, TensorDataset

from subgrad_fast._arrays import Array
from subgrad_fast.data.hugging_face import columns_of
from subgrad_fast.data.rows import Refused, Rows, as_rows

# Takes gathered arrays from an iterator and makes of them what torch's default_collate would.
Part: TypeAlias = "Callable[[Iterator[Any]], Any]"


class InMemory(NamedTuple):
    """A data set as arrays whose rows are its items.

    Attributes:
        arrays: tensors and NumPy arrays.
        like: a tensor for each, without rows, of what it collates to.
        structure: of a batch, as lists and dicts with `next` for each array.
        rows: which of the arrays' rows the items are; None: all, in order.
        n: the number of items.
    """

    arrays: list[Array]
    like: list[torch.Tensor]
    structure: Any
    rows: Rows | None
    n: int

    def memory(self) -> list[tuple[Any, ...]]:
        """Which memory the arrays show, and how."""
        return [
            (a.data_ptr(), a.stride(), a.shape, a.dtype)
            if isinstance(a, torch.Tensor)
            else (a.ctypes.data, a.strides, a.shape, a.dtype)
            for a in self.arrays
        ]

    def pack(self) -> Any:
        """What makes a batch of the list of gathered tensors."""
        part = self.structure
        if isinstance(part, list) and all(p is next for p in part):
            return list
        collate = _collating(part)
        return lambda gathered: collate(iter(gathered))


def as_columns(dataset: Any) -> Any:
    """A tuple or dict of arrays as the `StackDataset` of them; anything else as it is.

    torch takes a tuple for a list of items, so one stays that whose members could be stacked, or
    are as many as they have rows.
    """
    if type(dataset) is dict and dataset and all(_is_array(part) for part in dataset.values()):
        return StackDataset(**dataset) if all(type(key) is str for key in dataset) else dataset
    if type(dataset) is not tuple or not all(_is_array(part) for part in dataset):
        return dataset
    forms = {(tuple(part.shape[1:]), str(part.dtype)) for part in dataset}
    rows = {len(part) for part in dataset}
    columns = len(forms) > 1 and len(rows) == 1 and min(rows) > len(dataset)
    return StackDataset(*dataset) if columns else dataset


class Recogniser:
    """Finds the arrays of one data set, which may have changed since it was asked last."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Rows]] = {}  # by the depth of nested subsets
        self._columns: dict[str, dict[str, Any]] = {}  # by the fingerprint of the data set

    def __call__(self, dataset: Any) -> InMemory:
        """`dataset` as arrays.

        Raises:
            Refused: its items may be anything.
        """
        n: int = len(dataset)
        rows, depth = None, 0
        while type(dataset) is Subset:
            whole: Any = dataset.dataset
            chosen = self._rows(dataset.indices, len(whole), depth)
            rows = chosen if rows is None else chosen[rows]
            dataset, depth = whole, depth + 1
        arrays: list[Array] = []
        structure = _part(self._read(dataset), arrays)
        if n == 0:
            raise Refused("dataset: has no items")
        if len({len(array) for array in arrays}) != 1:
            raise Refused("dataset: its arrays have different numbers of rows")
        return InMemory(arrays, [_like(array) for array in arrays], structure, rows, n)

    def _read(self, dataset: Any) -> Any:
        """A Hugging Face data set as its columns, read once; anything else as it is."""
        datasets = sys.modules.get("datasets")
        if datasets is None or type(dataset) is not getattr(datasets, "Dataset", None):
            return dataset
        fingerprint = dataset._fingerprint
        if fingerprint not in self._columns:
            self._columns = {fingerprint: columns_of(dataset)}
        return self._columns[fingerprint]

    def _rows(self, indices: Any, n: int, depth: int) -> Rows:
        """The rows of a Subset. To compare a list with a copy is far cheaper than to convert it."""
        seen = self._known.get(depth)
        if seen is not None and type(indices) is list and seen[0] == indices:
            return seen[1]
        rows = as_rows(indices, n)
        if rows is None:
            raise Refused("dataset: its Subset's indices are not row numbers")
        if type(indices) is list:
            self._known[depth] = (list(indices), rows)
        return rows


def _collating(part: Any) -> Part:
    if isinstance(part, list):
        parts = [_collating(p) for p in part]
        return lambda gathered: [p(gathered) for p in parts]
    if isinstance(part, dict):
        named = {key: _collating(p) for key, p in part.items()}
        return lambda gathered: {key: p(gathered) for key, p in named.items()}
    return next


def _part(data: Any, arrays: list[Array]) -> Any:
    """The structure of a batch: lists and dicts, and `next` where an array stands."""
    if type(data) is TensorDataset:
        return _listed(data.tensors, arrays)
    if type(data) is StackDataset:
        parts = data.datasets
        return _mapped(parts, arrays) if isinstance(parts, dict) else _listed(parts, arrays)
    if _is_array(data):
        arrays.append(_stacked(data))
        return next
    if type(data) is dict:
        return _mapped(data, arrays)
    raise Refused(f"dataset: the items of a {type(data).__name__} may be anything")


def _listed(parts: Sequence[Any], arrays: list[Array]) -> list[Any]:
    if not parts:
        raise Refused("dataset: holds no arrays")
    return [_part(part, arrays) for part in parts]


def _mapped(parts: Mapping[Any, Any], arrays: list[Array]) -> dict[Any, Any]:
    if not parts:
        raise Refused("dataset: holds no arrays")
    return {key: _part(part, arrays) for key, part in parts.items()}


def _is_array(data: Any) -> bool:
    return type(data) in (torch.Tensor, np.ndarray, np.memmap) and data.ndim > 0


def _stacked(data: Array) -> Array:
    """Rows that torch's default_collate stacks as they are."""
    if isinstance(data, np.ndarray):
        if data.dtype.kind not in "biufc" or not data.dtype.isnative:
            raise Refused(f"dataset: an array of {data.dtype}")
        try:
            _like(data)
        except TypeError:
            raise Refused(f"dataset: torch has no dtype for {data.dtype}") from None
        return data
    if data.requires_grad:
        raise Refused("dataset: a tensor requires a gradient, which goes through a batch")
    if data.device.type != "cpu" or data.layout != torch.strided or data.is_quantized:
        raise Refused(f"dataset: a tensor on {data.device} with {data.layout} layout")
    if data.is_conj() or data.is_neg():
        raise Refused("dataset: a tensor that is a conjugated or negated view")
    return data


def _like(data: Array) -> torch.Tensor:
    """No rows of what those of `data` collate to."""
    if isinstance(data, np.ndarray):
        return torch.from_numpy(np.empty((0, *data.shape[1:]), data.dtype))
    return cast("torch.Tensor", data[:0])
