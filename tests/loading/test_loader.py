"""BatchLoader against plain indexing: values, containers, samplers, errors."""

from __future__ import annotations

import gc
import itertools
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast import _core
from tests.bits import assert_same_bytes
from tests.loading.orders import N, Order, numbers


class Endless:
    """A sampler without an end or a length."""

    def __iter__(self) -> Iterator[list[int]]:
        return itertools.repeat([1, 2])


# --- values -------------------------------------------------------------------------------------

ROWS = [(), (0,), (1,), (3,), (7,), (8,), (9,), (15,), (16,), (17,), (31, 1), (32,), (2, 32), (63,)]
ROWS += [(65,), (97,), (128,), (129,), (28, 28), (4, 64), (257,), (1000,), (3, 700)]


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8", "c16"])
def test_values_and_order(row: tuple[int, ...], dtype: str, way: str) -> None:
    x = numbers((N, *row), dtype)
    order = Order()
    batches = list(sf.BatchLoader(x, order))
    assert len(batches) == len(order) == 32
    for batch, indices in zip(batches, order, strict=True):
        assert_same_bytes(batch, x[indices])


@pytest.mark.parametrize(
    "dtype", ["?", "S5", "U3", "M8[ns]", ">i4", "V7", [("a", "f4"), ("b", "u1", 3)]], ids=str
)
def test_unusual_dtypes(dtype: Any, way: str) -> None:
    x = numbers((N, 3), "u1").copy()
    x = (x % 2).view("?") if dtype == "?" else np.zeros((N, 3), dtype)
    if x.dtype.kind != "b":
        x.view("u1").reshape(-1)[:] = np.arange(x.nbytes) % 120
        if x.dtype.kind == "U":
            x[:] = np.arange(3 * N).reshape(N, 3).astype("U3")
    for batch, indices in zip(sf.BatchLoader(x, Order()), Order(), strict=True):
        assert_same_bytes(batch, x[indices])


def layouts() -> dict[str, np.ndarray]:
    x = numbers((N, 6, 4)).copy()
    return {
        "row stride": np.repeat(x, 3, axis=0)[::3],
        "reversed": x[::-1],
        "broadcast": np.broadcast_to(x[0], x.shape),
        "unaligned": np.frombuffer(b"\0" + x.tobytes(), "u1")[1:].view("f4").reshape(x.shape),
        "read-only": np.frombuffer(x.tobytes(), "f4").reshape(x.shape),
        "columns": x[:, ::2],
        "transposed": x.transpose(0, 2, 1),
        "Fortran": np.asfortranarray(x),
        "last axis": x[:, :, 1:2],
    }


@pytest.mark.parametrize("name", layouts())
def test_layouts(name: str, way: str) -> None:
    x = layouts()[name]
    for batch, indices in zip(sf.BatchLoader(x, Order()), Order(), strict=True):
        assert_same_bytes(batch, np.asarray(x)[indices])


def test_objects_keep_their_reference_counts(way: str) -> None:
    x = np.array([[object(), f"text {i}"] for i in range(N)], dtype=object)

    def references() -> int:
        gc.collect()
        return sys.getrefcount(x[0, 0])

    before = references()
    batches = list(sf.BatchLoader(x, Order()))
    assert references() == before + 1
    same = [np.array_equal(b, x[indices]) for b, indices in zip(batches, Order(), strict=True)]
    assert all(same)
    batches.clear()
    assert references() == before


def test_containers(way: str) -> None:
    x, y = numbers((N, 3)), numbers((N,), "i8")
    pair = namedtuple("pair", "x y")
    for arrays in [(x, y), [x, y], {"x": x, "y": y}, pair(x, y), (x,), [y], {0: x}]:
        for batch, indices in zip(sf.BatchLoader(arrays, Order()), Order(), strict=True):
            assert type(batch) is type(arrays)
            values = batch.values() if isinstance(batch, dict) else batch
            sources = arrays.values() if isinstance(arrays, dict) else arrays
            for got, source in zip(values, sources, strict=True):
                assert_same_bytes(got, source[indices])
            if isinstance(batch, dict | list):
                batch.clear()  # the caller's own


def test_memory_mapped_files(tmp_path: Path) -> None:
    x = numbers((N, 50))
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for source in (mapped, mapped[:], np.asarray(mapped)):
        made = sf.BatchLoader(source, Order())
        for batch, indices in zip(made, Order(), strict=True):
            assert type(batch) is np.ndarray
            assert_same_bytes(batch, x[indices])
        assert made._gatherer._spare[1]
    in_memory = sf.BatchLoader(x, Order())
    list(in_memory)
    assert not in_memory._gatherer._spare[1]


@pytest.mark.parametrize("n", [1, 2, 255, 256, 257, 4095, 4096, 4097, 50_000])
def test_batches_that_several_threads_share(
    n: int, way: str, threads: Callable[[int], None]
) -> None:
    x, y = numbers((N, 64)), numbers((N,), "i8")
    rng = np.random.default_rng(n)
    order = [rng.integers(0, N, n) for _ in range(5)]
    for count in (1, 2, 5):
        threads(count)
        for batch, indices in zip(sf.BatchLoader((x, y), order), order, strict=True):
            assert_same_bytes(batch[0], x[indices])
            assert_same_bytes(batch[1], y[indices])


def test_a_caller_who_is_early_late_or_gone(threads: Callable[[int], None]) -> None:
    """The thread makes room for a caller who waits for much, and comes back when he is slow."""
    threads(2)
    x = numbers((5000, 256))
    rng = np.random.default_rng(0)
    order = [rng.integers(0, len(x), 3000) for _ in range(60)]
    for prefetch in (1, 2, 5):
        made = sf.BatchLoader(x, order, prefetch=prefetch)
        for stop in (len(order), 7, len(order)):
            for i, batch in enumerate(itertools.islice(made, stop)):
                assert_same_bytes(batch, x[order[i]])
                time.sleep(rng.choice([0.0, 1e-4, 1e-3]))
        assert made._gatherer._spare[1]


# --- samplers -----------------------------------------------------------------------------------


def test_indices_of_other_kinds(way: str) -> None:
    x = numbers((N, 3))
    order: list[Any] = [[1, 2, 3], (4, 5), (6,), np.array([7, 8], "u1"), np.arange(20)[::3], []]
    for batch, indices in zip(sf.BatchLoader(x, order), order, strict=True):
        assert_same_bytes(batch, x[np.array(indices, dtype=int)])


def test_what_comes_with_the_indices_is_passed_on(way: str) -> None:
    x = numbers((N, 3))
    mask = np.array([True, False])
    order = [(np.array([1, 2]), mask), ([3, 4], mask, 0.5), [5, 6], ((7, 8), None)]
    got = list(sf.BatchLoader((x,), order))
    assert got[0][1] is mask
    assert got[1][1] is mask
    assert got[1][2] == 0.5
    assert len(got[2]) == 1
    assert got[3][1] is None
    batches = [got[0][0], got[1][0], got[2], got[3][0]]
    for batch, indices in zip(batches, ([1, 2], [3, 4], [5, 6], [7, 8]), strict=True):
        assert_same_bytes(batch[0], x[indices])


def test_batches_may_have_any_sizes(way: str) -> None:
    x = numbers((N, 5))
    rng = np.random.default_rng(0)
    order = [rng.integers(0, N, int(k)) for k in rng.integers(0, 300, 60)]
    for _ in range(2):
        for batch, indices in zip(sf.BatchLoader(x, order, prefetch=3), order, strict=True):
            assert_same_bytes(batch, x[indices])


def test_len_is_the_samplers() -> None:
    assert len(sf.BatchLoader(numbers((N,)), Order())) == 32
    with pytest.raises(TypeError, match="has no len"):
        len(sf.BatchLoader(numbers((N,)), Endless()))


def test_what_lightning_asks_loaders_with_a_sampler_for() -> None:
    order = Order()
    loader = sf.BatchLoader(numbers((N,)), order)
    assert loader.batch_sampler is loader.sampler is order


# --- errors -------------------------------------------------------------------------------------

GOOD = np.zeros((10, 2), np.float32)


@pytest.mark.parametrize(
    ("arrays", "options", "error", "message"),
    [
        ((GOOD, np.zeros(9)), {}, ValueError, r"arrays\[1\]: has 9 rows, but arrays\[0\] has 10"),
        ({"x": GOOD, "y": np.zeros(9)}, {}, ValueError, r"arrays\['y'\]: has 9 rows"),
        (np.zeros((0, 3)), {}, ValueError, "arrays: has no rows"),
        ([GOOD[:0]], {}, ValueError, r"arrays\[0\]: has no rows"),
        (np.zeros(()), {}, ValueError, "arrays: expected at least one dimension"),
        ((), {}, ValueError, "arrays: expected at least one array"),
        ({}, {}, ValueError, "arrays: expected at least one array"),
        ([[1.0, 2.0]], {}, TypeError, r"arrays\[0\]: expected a NumPy array or torch tensor"),
        ("text", {}, TypeError, "arrays: expected a NumPy array or torch tensor, got str"),
        (np.ma.masked_array(GOOD, GOOD == 0), {}, TypeError, "arrays: is a masked array"),
        (GOOD, {"prefetch": 0}, ValueError, "prefetch: expected an integer from 1 to 65536, got 0"),
        (GOOD, {"prefetch": 1.5}, TypeError, "prefetch: expected an integer .* got 1.5"),
        (GOOD, {"prefetch": "2"}, TypeError, "prefetch: expected an integer .* got '2'"),
        (
            GOOD,
            {"sampler": sf.BatchSampler(9, 2)},
            ValueError,
            "sampler: is of 9 rows, but the arrays have 10",
        ),
        (GOOD, {"sampler": 3}, TypeError, "sampler: expected an iterable, got int"),
        (GOOD, {"sampler": iter([])}, TypeError, "sampler: an iterator ends after one epoch"),
        (GOOD, {"pin": True}, TypeError, "pin: arrays is a NumPy array"),
    ],
)
def test_bad_arguments(
    arrays: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        sf.BatchLoader(arrays, **{"sampler": [[0]], **options})


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ([3, 10, 11], IndexError, "sampler: index 10 at position 1 of the batch is outside the 10"),
        ([3, 4, -1], IndexError, "sampler: index -1 at position 2"),
        (np.array([2**40]), IndexError, "sampler: index 1099511627776 at position 0"),
        (np.array([2**63 + 1], "u8"), IndexError, "at position 0"),
        (np.array([0.5]), TypeError, "sampler: expected batches of int64 indices .* float64"),
        (np.array([True]), TypeError, "sampler: expected batches of int64 indices .* bool"),
        (np.array([[1]]), TypeError, r"of shape \(1, 1\)"),
        (["a"], TypeError, "sampler: expected batches of int64 indices"),
        (7, TypeError, "sampler: expected batches of indices, got int"),
        ([[1], [2, 3]], TypeError, "sampler: expected batches of indices, got list"),
    ],
)
def test_bad_batches(batch: Any, error: type[Exception], message: str, way: str) -> None:
    x = np.arange(10)
    iterator = iter(sf.BatchLoader(x, [[0, 1], [2, 3], batch, [4]], prefetch=4))
    assert next(iterator).tolist() == [0, 1]
    kept = next(iterator)
    with pytest.raises(error, match=message):
        next(iterator)
    assert kept.tolist() == [2, 3]
    with pytest.raises(StopIteration):
        next(iterator)
    with pytest.raises(error, match=message):
        next(iter(sf.BatchLoader(x, [batch])))


def test_errors_of_the_sampler_reach_the_caller_in_turn(way: str) -> None:
    class Failing(Order):
        def __iter__(self) -> Iterator[Any]:
            yield from self.batches[:3]
            raise ZeroDivisionError("in the sampler")

    iterator = iter(sf.BatchLoader(numbers((N, 3)), Failing(), prefetch=5))
    assert len([next(iterator) for _ in range(3)]) == 3
    with pytest.raises(ZeroDivisionError, match="in the sampler"):
        next(iterator)


def ring_of(*fields: Any, rows: int = 10, slots: int = 2) -> Any:
    return _core.loading.Ring(list(fields), rows, slots, 2, tuple, np.zeros(1))


def test_the_ring_checks_what_it_is_given() -> None:
    x = np.zeros((10, 4), np.float32)
    pooled = _core.loading.Field.pooled
    with pytest.raises(ValueError, match=r"fields\[0\]: expected 10 contiguous rows"):
        ring_of(pooled(x[:, ::2], x, None))
    with pytest.raises(ValueError, match=r"fields\[1\]"):
        ring_of(pooled(x, x, None), pooled(x[:9], x, None))
    frozen = np.zeros((3, 4), np.float32)
    frozen.flags.writeable = False
    wrong = [np.zeros((3, 5), "f4"), np.zeros((2, 4), "f4"), np.zeros((3, 8), "f4")[:, ::2], frozen]
    for output in wrong:
        ring = ring_of(_core.loading.Field.made(x, lambda _, output=output: (output, output)))
        with pytest.raises(ValueError, match=r"fields\[0\]: does not fit"):
            ring.gather([1, 2, 3])
    ring = ring_of(pooled(x, x, None))
    with pytest.raises(IndexError, match="slot"):
        ring.take(2)
    with pytest.raises(RuntimeError, match="slot: nothing was submitted"):
        ring.take(0)
    slots = [ring.submit([i]) for i in range(2)]
    with pytest.raises(RuntimeError, match="slot: not taken yet"):
        ring.submit([2])
    assert [len(ring.take(slot)[0]) for slot in slots] == [1, 1]
