"""What an argument may be. Every message names the argument and what was expected."""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from subgrad_fast import _core
from subgrad_fast._arguments import integer
from subgrad_fast._arrays import Array, is_torch, refuse_masked, require_storage

Indices: TypeAlias = npt.NDArray[np.int64]


def as_numpy(name: str, values: Array) -> npt.NDArray[Any]:
    """`values` as NumPy sees them; of a tensor its numbers, wherever it is and whatever follows it.

    Raises TypeError or ValueError naming the argument for what NumPy cannot read: a tensor without
    memory, lists of unequal lengths; and for masked arrays, whose masked values would count.
    """
    if isinstance(values, np.ndarray):
        refuse_masked(values, name)
    tensor = is_torch(values)
    if tensor:
        require_storage(values, name)
    try:
        if tensor:
            values = values.detach().cpu()
            if values.is_floating_point() and values.element_size() < 4:
                values = values.float()  # NumPy has no bfloat16
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: cannot be read as an array: {error}") from None


def reals(name: str, values: Array) -> npt.NDArray[np.float64]:
    """`values` as contiguous float64, which may be their own memory."""
    array = as_numpy(name, values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, got {array.dtype}")
    return array.astype(np.float64, order="C", copy=False)


def seed_or_epoch(name: str, value: Any) -> int:
    return integer(name, value, 0, 2**64 - 1)


def drawn_seed() -> int:
    """A seed of the generator that a program seeds: torch's, or NumPy's without torch."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.empty((), dtype=torch.int64, device="cpu").random_().item())
    return int(np.random.randint(2**63 - 1, dtype=np.int64))  # noqa: NPY002  the global one


def stretch(epoch: Any, start: Any, count: Any) -> tuple[int, int, int]:
    """An epoch, a position in it and how many follow, as ints. Raises TypeError or ValueError."""
    if (
        type(epoch) is type(start) is type(count) is int
        and 0 <= epoch < 2**64
        and 0 <= start < 2**63
        and 0 <= count < 2**63
    ):
        return epoch, start, count
    return seed_or_epoch("epoch", epoch), integer("start", start), integer("count", count)


def row_count(name: str, value: Any) -> int:
    """A number of rows: at least one, since there is nothing to sample from none."""
    return integer(name, value, 1, 2**63)


def output(out: Array | None, count: int) -> Any:
    """Where `count` indices are written: a new array, or `out`, on the host or on a device."""
    if out is None:
        return np.empty(count, np.int64)
    dtype = str(getattr(out, "dtype", type(out).__name__)).removeprefix("torch.")
    shape = getattr(out, "shape", None)
    if dtype != "int64" or shape is None or tuple(shape) != (count,):
        got = f"{dtype} of shape {'?' if shape is None else tuple(shape)}"
        raise ValueError(f"out: expected int64 of shape ({count},), got {got}")
    _core.sampling.check_output(out)
    return out


def places(name: str, values: Array, n: int) -> Any:
    """`values` as fresh int64 where they are: on the host of [0, n), as by `indices`. On a device
    their range is not looked at, since that would wait for it."""
    if _core.cuda.device_of(values) is None:
        return indices(name, values, n)
    torch = sys.modules["torch"]
    if values.dtype.is_floating_point or values.dtype.is_complex or values.dtype == torch.bool:
        raise TypeError(f"{name}: expected integers, got {values.dtype}")
    return torch.empty(values.shape, dtype=torch.int64, device=values.device).copy_(values)


def indices(name: str, values: Array, n: int) -> Indices:
    """`values` as fresh int64 of [0, n); negative ones count from the end, as NumPy's do."""
    # A copy is what is checked: another thread may change `values`.
    array = np.array(as_numpy(name, values))
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers, got {array.dtype}")
    low, high = (0, -1) if array.size == 0 else (int(array.min()), int(array.max()))
    if high >= n or low < -n:
        flat = array.reshape(-1)
        at = int(np.argmax((flat >= n) | (flat < -n)))
        raise IndexError(f"{name}[{at}]: {int(flat[at])} is out of range for {n} rows")
    wrapped = array.astype(np.int64, copy=False)
    if low < 0:
        negative = wrapped < 0
        # One after the other: n itself may be 2^63, which int64 does not hold.
        wrapped[negative] += n - 1
        wrapped[negative] += 1
    return wrapped
