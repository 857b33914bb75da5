"""Arrays on a device, as far as Python sees to them: memory for results and scratch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from subgrad_fast import _core
from subgrad_fast._arrays import Array, is_torch


def on_device(arrays: Sequence[Array]) -> bool:
    """Whether any of the arrays is on a GPU."""
    return _core.on_device(list(arrays))


def empty(like: Array, count: int, dtype: str | None = None) -> Array:
    """Memory where `like` is, by its library's allocator, which knows the stream that uses it.

    Args:
        like: an array on a device.
        count: the number of elements.
        dtype: by name; None for that of `like`.
    """
    if dtype is None:
        return like.new_empty((count,))
    if is_torch(like):
        return like.new_empty((count,), dtype=getattr(sys.modules["torch"], dtype))
    return like.new_empty((count,), dtype=dtype)


def address(array: Array | None) -> int:
    """Where an array begins; 0 for none."""
    return 0 if array is None else int(array.data_ptr())


def outputs_like(
    arrays: Sequence[Array], counts: Sequence[int], index_dtype: str, dtypes: Sequence[str | None]
) -> tuple[list[tuple[Array, Array]], list[tuple[int, int, int]]]:
    """New (indices, values) of so many elements for each array, and the addresses of both."""
    made = [
        (empty(array, count, index_dtype), empty(array, count, dtype))
        for array, count, dtype in zip(arrays, counts, dtypes, strict=True)
    ]
    places = [
        (address(indices), address(values), count)
        for (indices, values), count in zip(made, counts, strict=True)
    ]
    return made, places


def contiguous(array: Array) -> Array:
    """The array, row-major: a copy where it lies otherwise. Only torch's can be copied."""
    return array.detach().contiguous() if is_torch(array) else array


def read(array: Array) -> list[Any]:
    """The elements as Python numbers. Waits for the device."""
    elements: list[Any] = array.tolist()
    return elements
