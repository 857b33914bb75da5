"""Memory on small pages, and what the system tells of it."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from subgrad_fast import _core

MiB = 1 << 20
BLOCK = 2 * MiB
PRIVATE = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)


def small_pages(size: int, flags: int = PRIVATE) -> np.ndarray:
    """Bytes that begin with a block of 2 MiB, every page of which has been written."""
    memory = mmap.mmap(-1, size + BLOCK, flags=flags)
    everything = np.frombuffer(memory, np.uint8)
    array = everything[-everything.ctypes.data % BLOCK :][:size]
    array[:: mmap.PAGESIZE] = np.arange(len(array[:: mmap.PAGESIZE])) % 251
    return array


def huge_bytes(*arrays: object) -> int:
    """How many bytes lie on huge pages. Skips the test where the system does not tell."""
    huge = _core.memory.share_on_huge_pages(list(arrays))[1]
    if huge is None:
        pytest.skip("needs PAGEMAP_SCAN (Linux 6.7)")
    return huge


def collapses() -> bool:
    """Whether this system collapses small pages."""
    if sys.platform != "linux":
        return False
    array = small_pages(BLOCK)
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.madvise(ctypes.c_void_p(array.ctypes.data), BLOCK, 25) == 0)


needs_collapse = pytest.mark.skipif(not collapses(), reason="needs MADV_COLLAPSE (Linux 6.1)")


def mappings() -> Iterator[tuple[int, int, dict[str, int]]]:
    """Each mapping's first address and end, and its sizes in bytes by /proc/self/smaps."""
    begin = end = 0
    sizes: dict[str, int] = {}
    for line in Path("/proc/self/smaps").read_text().splitlines():
        label, _, rest = line.partition(" ")
        if label.endswith(":"):
            if rest.endswith(" kB"):
                sizes[label[:-1]] = int(rest.split()[0]) << 10
        else:
            if end:
                yield begin, end, sizes
            begin, end = (int(x, 16) for x in label.split("-"))
            sizes = {}
    yield begin, end, sizes


def resident(array: np.ndarray) -> int:
    """Resident bytes of the pages that an array lies in: of no neighbour in the same mapping."""
    begin = array.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
    size = array.ctypes.data + array.nbytes - begin
    there = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(begin), ctypes.c_size_t(size), there) == 0
    return sum(flag & 1 for flag in there) * mmap.PAGESIZE
