"""Batches gathered on a device: every row size, distance and alignment."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from subgrad_fast import _core
from tests.cuda.fake_cuda import GATHER_ARRAY, Api, structs
from tests.cuda.machines import Gpu


class Field:
    """An array of rows, `gap` bytes between them, so many bytes behind aligned addresses."""

    def __init__(
        self,
        gpu: Gpu,
        rows: int,
        row_bytes: int,
        batch: int,
        gap: int = 0,
        at: tuple[int, int] = (0, 0),
    ) -> None:
        self.rows, self.row_bytes, self.pitch = rows, row_bytes, row_bytes + gap
        rng = np.random.default_rng((rows, row_bytes, gap))
        self.values = rng.integers(0, 256, rows * self.pitch, np.uint8)
        self.source = gpu.array(self.values, at[0])
        self.out = gpu.array(np.full(batch * row_bytes, 0xEE, np.uint8), at[1])
        self.gpu = gpu

    def listed(self) -> tuple[int, ...]:
        """A GatherArray."""
        source, out = self.gpu.address(self.source), self.gpu.address(self.out)
        return source, out, self.pitch, self.row_bytes

    def check(self, indices: np.ndarray, what: str) -> None:
        wanted = self.values.reshape(self.rows, self.pitch)[indices, : self.row_bytes]
        got = self.gpu.numpy(self.out).reshape(wanted.shape)
        np.testing.assert_array_equal(got, wanted, err_msg=what)
        assert self.gpu.numpy(self.source).tobytes() == self.values.tobytes()


def gather(gpu: Gpu, api: Api, listed: list[tuple[int, ...]], indices: np.ndarray) -> None:
    on = gpu.array(indices)
    arrays = structs(GATHER_ARRAY, *listed)
    error = api.gather(0, 0, arrays.ctypes.data, len(listed), gpu.address(on), len(indices))
    assert error == 0, ctypes.string_at(api.error_text(error))


def picks(rows: int, batch: int) -> np.ndarray:
    indices = np.random.default_rng(batch).integers(0, rows, batch)
    indices[:2] = (0, rows - 1)
    return indices


ROW_BYTES = [0, 1, 2, 3, 4, 6, 7, 8, 12, 16, 17, 24, 31, 32, 48, 64, 100, 255, 256, 512, 4096]


@pytest.mark.parametrize("row_bytes", ROW_BYTES)
def test_row_sizes(gpu: Gpu, api: Api, row_bytes: int) -> None:
    indices = picks(9, 33)
    for gap in (0, 1, 16):
        field = Field(gpu, 9, row_bytes, 33, gap)
        gather(gpu, api, [field.listed()], indices)
        field.check(indices, f"{row_bytes} gap {gap}")


@pytest.mark.parametrize("row_bytes", [4, 16, 48])
def test_alignments(gpu: Gpu, api: Api, row_bytes: int) -> None:
    indices = picks(7, 40)
    for at in [(1, 0), (2, 0), (4, 0), (8, 0), (0, 1), (0, 2), (0, 4), (0, 8), (3, 3), (8, 8)]:
        field = Field(gpu, 7, row_bytes, 40, 0, at)
        gather(gpu, api, [field.listed()], indices)
        field.check(indices, f"{row_bytes} at {at}")


@pytest.mark.parametrize("batch", [1, 2, 63, 64, 65, 255, 256, 257, 1023, 1024, 1025])
def test_batch_sizes(gpu: Gpu, api: Api, batch: int) -> None:
    indices = np.resize(picks(20, 64), batch)
    fields = [Field(gpu, 20, row_bytes, batch) for row_bytes in (16, 4, 1)]
    gather(gpu, api, [f.listed() for f in fields], indices)
    for field in fields:
        field.check(indices, f"{field.row_bytes}")


def test_large_batches_take_several_packs_a_thread(gpu: Gpu, api: Api) -> None:
    # The interpreter is told of one multiprocessor, so four blocks are many.
    indices = picks(5, 21)
    fields = [Field(gpu, 5, row_bytes, 21) for row_bytes in (4096, 4090, 17)]
    gather(gpu, api, [f.listed() for f in fields], indices)
    for field in fields:
        field.check(indices, f"{field.row_bytes}")


def test_more_arrays_than_a_list_holds(gpu: Gpu, api: Api) -> None:
    indices = picks(4, 5)
    fields = [Field(gpu, 4, i % 19, 5) for i in range(160)]
    gather(gpu, api, [f.listed() for f in fields], indices)
    for i, field in enumerate(fields):
        field.check(indices, f"array {i}")


def test_rows_backwards_and_all_the_same(gpu: Gpu, api: Api) -> None:
    indices = picks(8, 30)
    for stride in (-32, 0):
        field = Field(gpu, 8, 32, 30)
        source, out, _, row_bytes = field.listed()
        if stride < 0:
            source += 7 * 32
        gather(gpu, api, [(source, out, stride, row_bytes)], indices)
        wanted = 7 - indices if stride < 0 else 0 * indices
        field.check(wanted, f"stride {stride}")


def test_nothing_to_gather(gpu: Gpu, api: Api) -> None:
    field = Field(gpu, 3, 8, 0)
    gather(gpu, api, [field.listed()], np.array([], np.int64))
    gather(gpu, api, [], np.array([1, 2]))


def test_a_wrong_row_would_be_seen(gpu: Gpu, api: Api) -> None:
    indices = picks(9, 33)
    field = Field(gpu, 9, 16, 33)
    gather(gpu, api, [field.listed()], indices)
    indices[20] ^= 1
    with pytest.raises(AssertionError):
        field.check(indices, "")


def test_errors_come_back(gpu: Gpu, api: Api) -> None:
    field = Field(gpu, 3, 8, 2)
    on = gpu.array(np.array([0, 1]))
    arrays = structs(GATHER_ARRAY, field.listed())
    error = api.gather(99, 0, arrays.ctypes.data, 1, gpu.address(on), 2)
    assert error != 0 and b"invalid" in ctypes.string_at(api.error_text(error)).lower()
    # And it is not what the next launch finds.
    gather(gpu, api, [field.listed()], np.array([0, 1]))
    field.check(np.array([0, 1]), "")


# --- by the bindings -----------------------------------------------------------------------------


def test_arrays_of_any_type(gpu: Gpu) -> None:
    x = np.arange(60, dtype=np.float64).reshape(10, 6)
    y = np.arange(10, dtype=np.uint8)
    indices = np.array([3, 3, 9, 0])
    sources = [gpu.array(x), gpu.array(y)]
    outputs = [gpu.array(np.zeros((4, 6))), gpu.array(np.zeros(4, np.uint8))]
    _core.testing.gather(sources, outputs, gpu.array(indices))
    np.testing.assert_array_equal(gpu.numpy(outputs[0]), x[indices])
    np.testing.assert_array_equal(gpu.numpy(outputs[1]), y[indices])


def test_what_does_not_fit_is_refused(gpu: Gpu) -> None:
    x, indices = gpu.array(np.zeros((10, 6))), gpu.array(np.array([1, 2]))
    good: Any = gpu.array(np.zeros((2, 6)))
    for output in (np.zeros((3, 6)), np.zeros((2, 5)), np.zeros((2, 6), np.float32)):
        with pytest.raises(ValueError, match=r"outputs\[0\]: does not fit"):
            _core.testing.gather([x], [gpu.array(output)], indices)
    with pytest.raises(ValueError, match="outputs: one per source"):
        _core.testing.gather([x], [good, good], indices)
    with pytest.raises(ValueError, match=r"sources\[0\]: expected 10 contiguous rows on cuda:0"):
        _core.testing.gather([np.zeros((10, 6))], [good], indices)
    with pytest.raises(ValueError, match="indices: expected int64, got float64"):
        _core.testing.gather([x], [good], gpu.array(np.zeros(2)))


@pytest.mark.parametrize("count", [0, 1, 510, 511, 512, 4093, 4094, 4095, 9000])
def test_indices_are_sent(gpu: Gpu, count: int) -> None:
    # A list has room for 511 of them, or for 4094.
    values = np.random.default_rng(count).integers(0, 2**40, count)
    for given in (values, values.astype(np.uint64), values.tolist()):
        out = gpu.array(np.full(count, 77))
        _core.testing.send_indices(given, 2**40, out)
        np.testing.assert_array_equal(gpu.numpy(out), values)


def test_indices_are_looked_at_before_they_are_sent(gpu: Gpu) -> None:
    out = gpu.array(np.full(3, 77))
    for bad in ([0, 1, 10], [0, -1, 3]):
        with pytest.raises(IndexError, match="is outside the 10 rows"):
            _core.testing.send_indices(bad, 10, out)
    with pytest.raises(ValueError, match="expected 3, got 2"):
        _core.testing.send_indices([1, 2], 10, out)
    assert gpu.numpy(out).tolist() == [77, 77, 77]
