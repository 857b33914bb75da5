"""Selection by magnitude: the largest elements of arrays, exactly, with their indices."""

from __future__ import annotations

from typing import Any, NamedTuple

from subgrad_fast import _core
from subgrad_fast._arguments import integer, one_of
from subgrad_fast._arrays import Array, Arrays, as_sequence
from subgrad_fast.select.selectors import check_density, check_threshold


class Selection(NamedTuple):
    """What was kept of one array, ascending by index."""

    indices: Array
    """Positions in the row-major flattened array, of shape (count,), int64 or int32."""
    values: Array
    """The elements there, of shape (count,) and the array's dtype."""
    threshold: float
    """The smallest magnitude that is kept: `threshold` as it was compared with, or the k-th largest
    magnitude (NaN if that is a NaN; infinity for k = 0)."""


def is_together(scope: str) -> bool:
    """Whether a scope is "global". Raises TypeError or ValueError if it is not "tensor" either."""
    return bool(one_of("scope", scope, "tensor", "global") == "global")


def check_amount(
    caller: str, threshold: float | None, density: float | None, k: int | None
) -> tuple[float | None, float | None, int | None]:
    """The three as numbers, of which one and no more is given, and is in range."""
    amount = (
        None if threshold is None else check_threshold(threshold),
        None if density is None else check_density(density),
        None if k is None else integer("k", k),
    )
    if amount.count(None) != 2:
        raise ValueError(f"{caller}: expected exactly one of threshold, density and k")
    return amount


def select(
    x: Arrays,
    *,
    threshold: float | None = None,
    density: float | None = None,
    k: int | None = None,
    scope: str = "tensor",
    index_dtype: str = "int64",
) -> Any:
    """Indices and values of the largest magnitudes of `x`.

    Exactly one of `threshold`, `density` and `k` says how much is kept. With `density` or `k` that
    many elements are kept, always: of equal magnitudes the first ones, by position in the list of
    arrays and then by index. The result does not depend on the instruction set or the number of
    threads. Every NaN counts as larger than infinity, all of them as equal; magnitudes are compared
    as bits, so that subnormals count even where the processor flushes them.

    Where an eighth or less of many elements is kept, a sample gives a bound, and the exact
    threshold is found among what reaches it: memory is read once. Where that does not help (more
    is kept, or the sample misled) the threshold is found digit by digit, in time that depends on
    the number of elements only.

    Args:
        x: one array or a sequence of arrays, NumPy or torch tensors, on the CPU or all on one GPU,
            of dtype float32, float64, float16 or bfloat16. Any shape; strided arrays are copied
            first.
        threshold: keep what has at least this magnitude, >= 0, and every NaN. It is rounded to
            float32 (float64 for float64), as by a comparison with an array. 0 keeps everything.
        density: keep this share of the elements, 0 to 1: n * density rounded to the nearest
            integer, halves up, but at least one if it is not 0.
        k: keep this many, 0 to n.
        scope: "tensor": `density` and `k` count within each array. "global": in all arrays
            together; float64 cannot be ranked with other dtypes.
        index_dtype: "int64" or "int32".

    Returns:
        A `Selection` (indices, values, threshold) for one array, a list of them for a sequence.
        Arrays of the library that the input is of; no gradient flows through the values.

    On a GPU (CUDA tensors, PyTorch 2.10 or newer) the work is done in torch's current stream, with
    the same selection, on the device; `Selection.threshold` is then a float64 tensor there. With
    `threshold`, or with "global", the host waits once for the counts, by which it makes the arrays;
    else it waits for nothing.

    Raises:
        TypeError: an argument is not an array, or its dtype or layout is not supported.
        ValueError: not exactly one of `threshold`, `density` and `k` is given, one is out of range,
            or int32 cannot number an array's elements.
    """
    threshold, density, k = check_amount("select", threshold, density, k)
    one_of("index_dtype", index_dtype, "int64", "int32")
    together = is_together(scope)
    x = as_sequence(x)
    found = [
        Selection(*part)
        for part in _core.select.select(x, threshold, density, k, together, index_dtype == "int32")
    ]
    return found if isinstance(x, list | tuple) else found[0]


def kth_magnitude(x: Arrays, k: int, *, scope: str = "tensor") -> Any:
    """The k-th largest magnitude of `x`: the `threshold` of ``select(x, k=k)``.

    Args:
        x, scope: as in `select`.
        k: 1 to the number of elements.

    Returns:
        A float (NaN if at least k elements are NaN); a list of floats for a sequence of arrays with
        `scope` "tensor". Of arrays on a GPU a float64 tensor there, which nothing waits for.

    Raises:
        TypeError, ValueError: as `select` does.
    """
    together = is_together(scope)
    x = as_sequence(x)
    magnitudes = _core.select.kth_magnitudes(x, integer("k", k), together)
    return magnitudes if isinstance(x, list | tuple) and not together else magnitudes[0]
