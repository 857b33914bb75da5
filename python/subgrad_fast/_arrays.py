"""What the Python side needs to know of arrays: lists of them, and new ones like them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np

# A NumPy array, a torch tensor or another DLPack producer. torch is optional, so it cannot be named
# here.
Array: TypeAlias = Any
Arrays: TypeAlias = "Array | Iterable[Array]"


def as_sequence(arrays: Arrays) -> Arrays:
    """An iterator (such as ``model.parameters()``) as a list; anything else as it is."""
    return list(arrays) if isinstance(arrays, Iterator) else arrays


def as_list(arrays: Arrays) -> list[Array]:
    """One array or a sequence of arrays, as a list."""
    return list(arrays) if isinstance(arrays, list | tuple | Iterator) else [arrays]


def is_torch(array: Array) -> bool:
    """Whether `array` is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def zeros_like(array: Array, dtype: str | None = None) -> Array:
    """Zeros of `array`'s library, shape and memory order; of its dtype or of `dtype` (by name)."""
    if is_torch(array):
        torch = sys.modules["torch"]
        wanted = array.dtype if dtype is None else getattr(torch, dtype)
        return torch.zeros_like(array.detach(), dtype=wanted)
    if isinstance(array, np.ndarray):
        return np.zeros_like(array, dtype=dtype, subok=False)
    return np.zeros_like(np.from_dlpack(array), dtype=dtype)
