"""What a call leaves behind: objects of Python, memory of its allocator, of malloc, of the system.

Each is looked at after every round of calls. What leaks grows in all rounds, and what only happens
now and then (a cache that is filled, a table that is made larger) does not: the least growth
counts.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Call = Callable[[], object]

ROUNDS = 3


class Held(NamedTuple):
    """What the process holds, or by how much that has grown."""

    objects: int  # that the garbage collector knows
    blocks: int  # of Python's allocator
    malloc_bytes: int  # in use; those of C++ are among them
    resident_bytes: int


_FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class _Mallinfo2(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_size_t) for name in _FIELDS.split())


# glibc's, from 2.33 on; elsewhere the other three have to do.
_mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
if _mallinfo2 is not None:
    _mallinfo2.restype = _Mallinfo2


def held() -> Held:
    gc.collect()
    malloc_bytes = 0
    if _mallinfo2 is not None:
        info = _mallinfo2()
        malloc_bytes = info.uordblks + info.hblkhd
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Held(
        len(gc.get_objects()),
        sys.getallocatedblocks(),
        malloc_bytes,
        pages * resource.getpagesize(),
    )


def growth(call: Call, calls: int) -> Held:
    """The least growth of any round of `calls` calls, after as many to warm up."""
    repeat(call, calls)
    states = [held()]
    for _ in range(ROUNDS):
        repeat(call, calls)
        states.append(held())
    rounds = list(zip(states[1:], states[:-1], strict=True))
    return Held(*(min(b[i] - a[i] for b, a in rounds) for i in range(len(Held._fields))))


def repeat(call: Call, calls: int) -> None:
    for _ in range(calls):
        call()


def allowed(calls: int) -> Held:
    """What counts as flat.

    A call that leaks leaves an object, a block or a piece of malloc's, which is of 32 bytes at
    least, each time. Half of that may come of other things: of threads that end a little later, of
    free lists, of tables that grow with the process. Of resident memory this can only be said
    roughly, as the allocators take it and give it back many pages at a time: malloc moves its top
    by 128 KiB, and may do so twice.
    """
    return Held(calls // 2, calls // 2, 16 * calls, 256 << 10)
