"""Arrays and tables of other libraries in BatchLoader: without a copy, or told what to call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from tests.clients import toy

pytestmark = [pytest.mark.clients]

COLUMN = np.arange(toy.N, dtype=np.float64)
GRID = np.arange(2 * toy.N, dtype=np.float64).reshape(toy.N, 2)
TEXT = [str(i) for i in range(toy.N)]


def pandas(what: str, _: Path) -> Any:
    library = toy.client("pandas")
    return {
        "column": lambda: library.Series(COLUMN),
        "frame": lambda: library.DataFrame(GRID),
        "mixed": lambda: library.DataFrame({"a": COLUMN, "b": TEXT}),
        "nullable": lambda: library.Series([1, None] + [0] * (toy.N - 2), dtype="Int64"),
    }[what]()


def polars(what: str, _: Path) -> Any:
    library = toy.client("polars")
    return {
        "column": lambda: library.Series(COLUMN),
        "text": lambda: library.Series(TEXT),
        "nulls": lambda: library.Series([None, *COLUMN[1:].tolist()]),
        "frame": lambda: library.DataFrame({"a": COLUMN, "b": COLUMN.astype(np.float32)}),
    }[what]()


def pyarrow(what: str, _: Path) -> Any:
    library = toy.client("pyarrow")
    return {
        "column": lambda: library.array(COLUMN),
        "nulls": lambda: library.array([None, *COLUMN[1:].tolist()]),
        "text": lambda: library.array(TEXT),
        "chunked": lambda: library.chunked_array([COLUMN[:50], COLUMN[50:]]),
    }[what]()


def jax(what: str, _: Path) -> Any:
    return toy.client("jax.numpy").asarray(COLUMN.astype(np.float32))


def h5py(what: str, folder: Path) -> Any:
    return toy.client("h5py").File(folder / "file.h5", "w").create_dataset("x", data=COLUMN)


def zarr(what: str, folder: Path) -> Any:
    return toy.client("zarr").create_array(str(folder / "array.zarr"), data=COLUMN)


@pytest.mark.parametrize(
    ("make", "what", "expected"),
    [
        (pandas, "column", COLUMN),
        (pandas, "frame", GRID),
        (polars, "column", COLUMN),
        (pyarrow, "column", COLUMN),
        (jax, "array", COLUMN),
    ],
)
def test_taken_without_a_copy(make: Any, what: str, expected: Any, tmp_path: Path) -> None:
    table = make(what, tmp_path)
    loader = sf.BatchLoader(table, toy.sampler())
    assert np.shares_memory(loader._fields.like, np.asarray(table))
    for batch, rows in zip(loader, toy.sampler(), strict=True):
        assert type(batch) is np.ndarray
        assert (batch == expected[rows]).all()


@pytest.mark.parametrize(
    ("make", "what", "method", "call"),
    [
        (pandas, "mixed", r"arrays\.to_numpy\(\)", None),
        (pandas, "nullable", r"arrays\.to_numpy\(\)", None),
        (polars, "text", r"arrays\.to_numpy\(\)", lambda t: t.to_numpy()),
        (polars, "nulls", r"arrays\.to_numpy\(\)", lambda t: t.to_numpy()),
        (polars, "frame", r"arrays\.to_numpy\(\)", lambda t: t.to_numpy()),
        (pyarrow, "nulls", r"arrays\.to_numpy\(\)", None),
        (pyarrow, "text", r"arrays\.to_numpy\(\)", None),
        (pyarrow, "chunked", r"arrays\.to_numpy\(\)", lambda t: t.to_numpy()),
        (h5py, "array", r"arrays\[:\]", lambda t: t[:]),
        (zarr, "array", r"arrays\[:\]", lambda t: t[:]),
    ],
)
def test_told_what_to_call(make: Any, what: str, method: str, call: Any, tmp_path: Path) -> None:
    table = make(what, tmp_path)
    with pytest.raises(TypeError, match=rf"^arrays: this \w+ \w+ shows no memory.* pass {method}"):
        sf.BatchLoader(table, toy.sampler())
    if call is not None:
        batches = list(sf.BatchLoader(call(table), toy.sampler()))
        assert sum(map(len, batches)) == toy.N


def test_loaders_and_samplers_by_cloudpickle() -> None:
    """Those of one epoch's middle go on there, as by pickle."""
    cloudpickle = toy.client("cloudpickle")
    loader = sf.BatchLoader({"x": COLUMN, "rows": np.arange(toy.N)}, toy.sampler())
    begun = iter(loader)
    next(begun)
    copies = [cloudpickle.loads(cloudpickle.dumps(one)) for one in (loader, loader.sampler)]
    rest = [batch["rows"].tolist() for batch in begun]
    assert [batch["rows"].tolist() for batch in copies[0]] == rest
    assert [rows.tolist() for rows in copies[1]] == rest
