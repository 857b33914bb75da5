"""What the Python side needs to know of arrays: lists of them, and new ones like them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from subgrad_fast import _core

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


def torch_tensors(arrays: Iterable[Array]) -> list[Array]:
    """Those that are torch tensors, without importing torch."""
    torch = sys.modules.get("torch")
    return [] if torch is None else [array for array in arrays if isinstance(array, torch.Tensor)]


def advised(tensor: Array) -> Array:
    """A torch tensor that nobody has touched, which is to lie on huge pages if it is large."""
    torch = sys.modules["torch"]
    if type(tensor) is torch.Tensor and tensor.layout == torch.strided and tensor.nbytes >= 2 << 20:
        with contextlib.suppress(
            TypeError, ValueError
        ):  # one that stands for another has no memory
            _core.memory.advise(tensor)
    return tensor


def zeros_like(array: Array, dtype: str | None = None) -> Array:
    """Zeros of `array`'s library, shape and memory order; of its dtype or of `dtype` (by name)."""
    if is_torch(array):
        torch = sys.modules["torch"]
        wanted = array.dtype if dtype is None else getattr(torch, dtype)
        made = advised(torch.empty_like(array.detach(), dtype=wanted))
        return made.zero_()
    if isinstance(array, np.ndarray):
        return np.zeros_like(array, dtype=dtype, subok=False)
    return np.zeros_like(np.from_dlpack(array), dtype=dtype)


def fill(array: Array, values: Array, name: str) -> None:
    """Copies `values` into `array`, of another library too; `name` is how messages call them.

    Raises:
        TypeError: `values` is no array of real numbers.
        ValueError: its shape is another.
    """
    shape = getattr(values, "shape", None)
    if shape is None:
        raise TypeError(f"{name}: expected an array, got {type(values).__name__}")
    if isinstance(values, np.ndarray):
        refuse_masked(values, name)
    if tuple(shape) != tuple(array.shape):
        raise ValueError(f"{name}: expected shape {tuple(array.shape)}, got {tuple(shape)}")
    try:
        if is_torch(array):
            values = values if is_torch(values) else sys.modules["torch"].from_numpy(values)
            if values.is_complex():
                raise TypeError("complex numbers")
            require_storage(values, name)
            array.copy_(values.detach())
        elif is_torch(values):
            require_storage(values, name)
            values = values.detach().cpu()
            wide = values.float() if values.dtype == sys.modules["torch"].bfloat16 else values
            np.copyto(array, wide.numpy(), casting="same_kind")
        else:
            np.copyto(array, values, casting="same_kind")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: cannot be copied to {array.dtype}: {error}") from None


def refuse_masked(array: npt.NDArray[Any], name: str) -> None:
    """Raises TypeError for an array that has a mask: its memory alone is not what it holds."""
    if type(array) is not np.ndarray and hasattr(type(array), "mask"):
        raise TypeError(f"{name}: {_core.MASKED_ARRAY}")


def require_array(array: Array, name: str) -> None:
    """Raises TypeError unless it is an array of a library that shows its memory."""
    if isinstance(array, np.ndarray):
        refuse_masked(array, name)
    elif not hasattr(type(array), "__dlpack__"):
        kind = type(array).__name__
        raise TypeError(f"{name}: expected a NumPy array or torch tensor, got {kind}")


def raw_view(array: Array, name: str) -> npt.NDArray[Any]:
    """The memory of `array` as a NumPy array of the same shape.

    A dtype that NumPy lacks becomes integers of its size. The view keeps the memory alive, and
    torch marks the tensor's storage as not resizable.

    Raises:
        TypeError: neither a NumPy array nor a dense torch tensor.
        ValueError: a tensor on another device, or a view that conjugates or negates.
    """
    if isinstance(array, np.ndarray):
        refuse_masked(array, name)
        return array.view(np.ndarray)
    if not is_torch(array):
        raise TypeError(
            f"{name}: expected a NumPy array or torch tensor, got {type(array).__name__}"
        )
    torch = sys.modules["torch"]
    if array.layout != torch.strided or array.is_quantized:
        raise TypeError(f"{name}: expected a dense tensor, got {array.layout} {array.dtype}")
    if array.device.type != "cpu":
        raise ValueError(f"{name}: expected CPU memory, got a tensor on {array.device}")
    if array.is_conj() or array.is_neg():
        raise ValueError(f"{name}: is a conjugated or negated view; resolve it first")
    array = array.detach()
    require_storage(array, name)
    try:
        return cast("npt.NDArray[Any]", array.numpy())
    except TypeError:  # bfloat16, float8 …
        integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
        return cast("npt.NDArray[Any]", array.view(integers[array.element_size()]).numpy())
    except RuntimeError as error:  # fake, distributed and other tensors without memory of their own
        raise TypeError(f"{name}: its memory cannot be reached: {error}") from None


def require_storage(tensor: Array, name: str) -> None:
    """Raises ValueError for a tensor that reaches beyond its storage, which can be freed or cut."""
    if tensor.numel() == 0 or tensor.layout != sys.modules["torch"].strided:
        return
    if tensor.device.type != "cpu" or not hasattr(tensor, "untyped_storage"):
        return
    last = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    needed = (tensor.storage_offset() + last + 1) * tensor.element_size()
    there = tensor.untyped_storage().nbytes()
    if there < needed:
        raise ValueError(f"{name}: needs {needed} bytes of a storage that has {there}")


def empty_rows(array: Array, rows: int, *, pin: bool = False) -> Array:
    """A new array like `array`, of its library and dtype, with `rows` rows. `pin`: page-locked."""
    shape = (rows, *array.shape[1:])
    if not is_torch(array):
        return np.empty(shape, dtype=array.dtype)
    torch = sys.modules["torch"]
    with torch.inference_mode(False):  # a buffer outlives the mode that it was made in
        return torch.empty(shape, dtype=array.dtype, device=array.device, pin_memory=pin)
