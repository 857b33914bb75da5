"""Arrays and tables of other libraries, taken where they show their memory to NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from subgrad_fast._arrays import Array, is_torch

# What makes an array, by the library. The first word of a class's module names it.
_METHODS = {
    "pandas": "{}.to_numpy()",
    "polars": "{}.to_numpy()",
    "pyarrow": "{}.to_numpy()",
    "jax": "numpy.asarray({})",
    "jaxlib": "numpy.asarray({})",
    "xarray": "{}.to_numpy()",
    "h5py": "{}[:]",
    "zarr": "{}[:]",
    "dask": "{}.compute()",
    "tensorflow": "{}.numpy()",
    "cupy": "torch.from_dlpack({})",
    "scipy": "{}.toarray()",
    "datasets": "{}.with_format('numpy')[:], or use subgrad_fast.data.DataLoader",
}
# Of these a NumPy array is asked for twice, which costs little if it is a view and shows if it is
# none. The others would read files or compute.
_IN_MEMORY = {"pandas", "polars", "pyarrow", "jax", "jaxlib", "xarray"}


def shown(array: Array, name: str) -> Array:
    """`array` if it is NumPy's or torch's, else a NumPy array that shows its memory.

    Raises:
        TypeError: it shows none. The message says what makes an array of it.
    """
    if isinstance(array, np.ndarray) or is_torch(array):
        return array
    library = type(array).__module__.partition(".")[0]
    view = _view(array) if library in _IN_MEMORY else None
    if view is not None:
        return view
    kind = type(array).__name__
    if library not in _METHODS:
        raise TypeError(f"{name}: expected a NumPy array or torch tensor, got {kind}")
    method = _METHODS[library].format(name)
    raise TypeError(f"{name}: this {library} {kind} shows no memory as an array; pass {method}")


def _view(array: Any) -> Array | None:
    """A NumPy array of the memory of `array`; None if that would be a copy."""
    try:
        one, other = np.asarray(array), np.asarray(array)
    except Exception:  # noqa: BLE001  whatever the library raises, it shows nothing
        return None
    same = one.ctypes.data == other.ctypes.data and one.strides == other.strides
    return one if same and not one.dtype.hasobject else None
