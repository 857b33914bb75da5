"""Arrays of any layout in one block of memory, and what must hold after a call on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ml_dtypes
import numpy as np

from tests.bits import assert_same_bits
from tests.fuzz_bytes.source import Source

FLOATS = [np.dtype(t) for t in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)]
OTHERS = [np.dtype(t) for t in ("i4", "?", "c8", ">f4", "V3", "u1")]

MOST_ELEMENTS = 200
REFUSALS = (TypeError, ValueError)


class Memory:
    """A block with arrays in its middle. Its ends are a guard: nothing may write there."""

    BYTES, GUARD = 12_000, 2_000

    def __init__(self, source: Source) -> None:
        self.source = source
        rng = np.random.default_rng(source.byte())
        self.block = rng.integers(0, 256, self.BYTES, np.uint8)
        if source.flag():  # numbers of usual sizes, rather than any bits
            numbers = rng.standard_normal(self.BYTES // 4).astype(np.float32)
            self.block[:] = numbers.view(np.uint8)

    def shape(self) -> tuple[int, ...]:
        """Any number of small dimensions."""
        shape: list[int] = []
        for _ in range(self.source.pick([1, 2, 0, 3, 4, 6])):
            shape.append(self.source.pick([4, 1, 3, 2, 17, 0, 64, 5]))
            if np.prod(shape) > MOST_ELEMENTS:
                shape[-1] = 1
        return tuple(shape)

    def dtype(self) -> np.dtype:
        return self.source.pick(OTHERS if self.source.rarely() else FLOATS)

    def array(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """An array somewhere in the block: in any order, with gaps, overlaps, off its alignment."""
        source = self.source
        wild = source.below(4)  # 0: in order; 1: with gaps; 2: and backwards; 3: anyhow
        strides = [0] * len(shape)
        step = dtype.itemsize
        order = list(range(len(shape)))[::-1]
        if source.flag():
            order.reverse()
        for d in order:
            strides[d] = step * (1 + source.below(3)) if wild >= 1 else step
            if wild >= 2 and source.flag():
                strides[d] = -strides[d]
            if wild == 3:
                strides[d] = source.pick([strides[d], 0, dtype.itemsize, source.byte() - 128])
            step = max(abs(strides[d]) * max(shape[d], 1), dtype.itemsize)
        reaches = [(n - 1) * s for n, s in zip(shape, strides, strict=True) if n > 0]
        low, high = sum(r for r in reaches if r < 0), sum(r for r in reaches if r > 0)
        room = self.BYTES - 2 * self.GUARD - dtype.itemsize - high + low
        if room <= 0:
            return self.array((1,) * len(shape), dtype)
        # Often at the same places, so that arrays meet.
        at = source.pick([0, 16, 64, 200, 2048, 4096]) + (source.byte() if wild == 3 else 0)
        offset = self.GUARD - low + min(at, room)
        array = np.ndarray(tuple(shape), dtype, self.block.data, offset, tuple(strides))
        if source.rarely():
            array.flags.writeable = False
        return array

    def places(self, array: np.ndarray) -> np.ndarray:
        """Which bytes of the block its elements are: how many elements lie at each."""
        hits = np.zeros(self.BYTES, int)
        start = array.__array_interface__["data"][0] - self.block.__array_interface__["data"][0]
        for index in np.ndindex(array.shape):
            first = start + sum(i * s for i, s in zip(index, array.strides, strict=True))
            hits[first : first + array.itemsize] += 1
        return hits

    def check(
        self, call: Callable[[], object], written: Sequence[np.ndarray], want: Sequence[np.ndarray]
    ) -> bool:
        """Calls: either it refuses and writes nothing, or writes what is wanted and no more."""
        before = self.block.copy()
        try:
            call()
        except REFUSALS:
            assert np.array_equal(self.block, before), "refused, and yet something was written"
            return False
        hits = sum((self.places(array) for array in written), np.zeros(self.BYTES, int))
        assert hits.max() <= 1, "elements that share memory were written"
        assert all(array.flags.writeable or array.size == 0 for array in written), "read-only"
        for array, wanted in zip(written, want, strict=True):
            assert_same_bits(array, wanted)
        assert np.array_equal(self.block[hits == 0], before[hits == 0]), "written beside the arrays"
        return True
