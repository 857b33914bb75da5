"""Labels, and what all samplers by class share."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from subgrad_fast import _core
from subgrad_fast._arguments import integer, quoted
from subgrad_fast._arrays import Array
from subgrad_fast.sampling._checks import Indices, as_numpy
from subgrad_fast.sampling.sampler import Sampler


def _class_numbers(
    values: Array, num_classes: int | None
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Class numbers of the rows, integers of any type, and the label of every class number."""
    array = np.array(as_numpy("labels", values))  # a copy: it is looked at more than once
    if array.ndim != 1:
        raise ValueError(f"labels: expected one label a row (1-d), got shape {array.shape}")
    if array.size == 0:
        raise ValueError("labels: expected at least one row, got none")
    if num_classes is not None:
        num_classes = integer("num_classes", num_classes, 1)
    if array.dtype.kind == "O":
        array = _text(array)
    if array.dtype.kind in "UST":
        if num_classes is not None:
            raise ValueError("num_classes: text has as many classes as there are different labels")
        names, numbers = np.unique(array, return_inverse=True)
        return numbers, names
    if array.dtype.kind == "b":
        names = np.arange(max(2, num_classes or 0))
        return array.view(np.uint8), names.astype(bool) if names.size == 2 else names
    if array.dtype.kind not in "iu":
        raise TypeError(f"labels: expected class numbers, bools or text, got {array.dtype}")
    classes = int(array.max()) + 1 if num_classes is None else num_classes
    bad = (array < 0) | (array >= classes)
    if bad.any():
        at = int(np.argmax(bad))
        wanted = ">= 0" if num_classes is None else f"from 0 to {classes - 1}"
        raise ValueError(f"labels[{at}]: expected a class number {wanted}, got {int(array[at])}")
    if num_classes is None and classes > max(2**20, 64 * array.size):
        raise ValueError(
            f"labels: the largest is {classes - 1} for {array.size} rows; number the classes from "
            "0, for example with np.unique(labels, return_inverse=True)"
        )
    return array, np.arange(classes)


def _text(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Text of an array of objects, as data frames hold it."""
    for at, label in enumerate(array):
        if not isinstance(label, str):
            raise TypeError(
                f"labels[{at}]: expected class numbers, bools or text in one array, got "
                f"{quoted(label)} in an array of objects"
            )
    return array.astype(str)


class RowsByClass:
    """The rows sorted by class."""

    def __init__(self, values: Array, num_classes: int | None) -> None:
        numbers, self.names = _class_numbers(values, num_classes)
        self.classes = self.names.size
        # Small integers are sorted in linear time.
        keys = numbers.astype(np.uint16 if self.classes <= 2**16 else np.int64)
        self.rows: Indices = np.argsort(keys, kind="stable")
        self.counts: Indices = np.bincount(keys, minlength=self.classes)
        self.starts: Indices = np.concatenate([[0], np.cumsum(self.counts)])
        self.strata = _core.sampling.Strata(self.starts.astype(np.uint64))

    @property
    def n(self) -> int:
        return self.rows.size

    @cached_property
    def number(self) -> int:
        """A number for the class numbers of all rows: 32 bits."""
        return crc(self.rows, crc(np.trim_zeros(self.counts, "b")))


def crc(array: npt.NDArray[Any], start: int = 0) -> int:
    """32 bits of an array's numbers, the same on every machine."""
    return zlib.crc32(array.astype(array.dtype.newbyteorder("<")).tobytes(), start)


class LabelSampler(Sampler):
    """Base of the samplers by class. Their states say of which labels and options they are."""

    _data: RowsByClass
    _decisive: dict[str, int | npt.NDArray[Any]]  # what the order depends on, beside the labels

    def _plan(self, seed: int, epoch: int) -> Indices:
        """What is computed for a whole epoch at once, by those that do."""
        raise NotImplementedError

    def _planned(self, epoch: int) -> Indices:
        """The plan of an epoch. The last two are kept: a pass may end after the next has begun."""
        key = (self.seed, epoch)
        plans = self.__dict__.get("_plans", {})  # looked at once: other threads replace it
        if key not in plans:
            plans = dict([*plans.items()][-1:])
            plans[key] = self._plan(*key)
            self._plans = plans
        return plans[key]  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("_plans", None)
        return state

    @property
    def classes(self) -> npt.NDArray[Any]:
        """The label of every class: of class 0, of class 1, ..."""
        return self._data.names.copy()

    def _own_numbers(self) -> dict[str, int]:
        """What the order depends on, as integers: arrays as 32 bits of them."""
        return {
            "labels": self._data.number,
            **{
                name: value if isinstance(value, int) else crc(value)
                for name, value in self._decisive.items()
            },
        }

    def _state(self, epoch: int, position: int) -> dict[str, int]:
        return {**super()._state(epoch, position), **self._own_numbers()}

    def _own_state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        for name, own in self._own_numbers().items():
            if name not in state:
                raise ValueError(f"state: {name} missing")
            value = integer(f"state['{name}']", state[name], 0)
            if value != own:
                if isinstance(self._decisive.get(name), int):
                    raise ValueError(f"state['{name}']: taken with {value}, but here it is {own}")
                raise ValueError(f"state['{name}']: taken with other {name} than this sampler has")
        return {}
