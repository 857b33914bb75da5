"""Arrays and tables of other libraries: which show their memory, and what the others are told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf


def of_library(module: str, name: str, *, view: bool) -> Any:
    """An object like those of a library that shows its memory, or makes arrays when asked."""
    values = np.arange(20.0).reshape(10, 2)

    class Table:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return values if view else values.copy()

    Table.__module__, Table.__name__ = module, name
    return Table()


@pytest.mark.parametrize("module", ["pandas.core.frame", "polars.series", "pyarrow.lib", "jaxlib"])
def test_what_shows_its_memory_is_taken(module: str) -> None:
    table = of_library(module, "Table", view=True)
    loader = sf.BatchLoader({"x": table, "y": np.arange(10)}, sf.BatchSampler(10, 4))
    for batch in loader:
        assert type(batch["x"]) is np.ndarray
        assert (batch["x"][:, 0] == 2 * batch["y"]).all()


@pytest.mark.parametrize(
    ("module", "method"),
    [
        ("pandas.core.frame", r"arrays\[0\]\.to_numpy\(\)"),
        ("pyarrow.lib", r"arrays\[0\]\.to_numpy\(\)"),
        ("jaxlib._jax", r"numpy\.asarray\(arrays\[0\]\)"),
        ("h5py._hl.dataset", r"arrays\[0\]\[:\]"),
        ("zarr.core.array", r"arrays\[0\]\[:\]"),
        ("datasets.arrow_dataset", r"with_format\('numpy'\)\[:\], or use subgrad_fast\.data"),
    ],
)
def test_what_shows_none_is_told_what_to_call(module: str, method: str) -> None:
    table = of_library(module, "Table", view=False)
    with pytest.raises(TypeError, match=rf"^arrays\[0\]: this \w+ Table shows no memory.*{method}"):
        sf.BatchLoader((table, np.arange(10)), sf.BatchSampler(10, 4))


@pytest.mark.parametrize("wrong", [3, "rows", range(10), None, iter([1])])
def test_what_is_no_array(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^arrays: expected a NumPy array or torch tensor, got"):
        sf.BatchLoader(wrong, sf.BatchSampler(10, 4))


def test_the_libraries_themselves() -> None:
    """Those that are installed here; `make test-clients` installs them all."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": np.arange(10.0), "b": np.arange(10.0)})
    whole = np.concatenate(list(sf.BatchLoader(frame["a"], sf.BatchSampler(10, 4, shuffle=False))))
    assert (whole == np.arange(10.0)).all()
    mixed = pandas.DataFrame({"a": np.arange(10.0), "b": list("abcdefghij")})
    with pytest.raises(TypeError, match=r"^arrays: this pandas DataFrame .*\.to_numpy\(\)"):
        sf.BatchLoader(mixed, sf.BatchSampler(10, 4))
