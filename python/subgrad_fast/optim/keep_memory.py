"""Gradients that are allocated anew by each backward, in memory that stays."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from subgrad_fast import _core
from subgrad_fast._arguments import integer


@dataclass(frozen=True)
class KeptMemory:
    """What `keep_memory` has done to this process.

    Attributes:
        allocator: whose malloc the process calls, "glibc 2.36" or the file of another one.
        kept: whether it keeps what is freed now. False where nothing was done.
        heap_bytes: bytes of the heap that are to be given huge pages; 0 if the system has none.
        why_not: why nothing was done, or "".
    """

    allocator: str
    kept: bool
    heap_bytes: int
    why_not: str

    def release(self) -> bool:
        """Has malloc give memory back again, and gives back what is free now.

        The limits are those that glibc begins with; the one from which blocks are mapped by
        themselves does not grow by itself any more, and the heap's huge pages stay. Returns whether
        there was something to release.
        """
        return self.kept and _core.memory.return_freed_memory()

    def __str__(self) -> str:
        if not self.kept:
            return f"{self.allocator}: nothing was done: {self.why_not}"
        huge = (
            f"{self.heap_bytes >> 20} MiB of it on huge pages" if self.heap_bytes else "small pages"
        )
        return f"{self.allocator}: keeps what is freed in its heap; {huge}"


def keep_memory(*, reserve: int = 2**30) -> KeptMemory:
    """Has the C library keep the memory that backward frees, for the next backward to use.

    glibc gives large blocks back to the system when they are freed, so that each backward pass gets
    its gradients' pages anew, one fault each. After this call no block is mapped by itself and the
    heap's end is not given back: the process keeps what it once needed at most. The heap is made
    longer by `reserve` bytes, which take no memory before they are used, and which get huge pages
    unless ``SUBGRAD_FAST_HUGE_PAGES=off``.

    It holds for the whole process, and for what the main thread allocates: other threads'
    allocations of more than 32 MiB are mapped as before. It is to be called once, at the start,
    from the main thread. With jemalloc, tcmalloc, mimalloc, musl, on macOS and on Windows it does
    nothing: they keep memory by rules of their own.

    Args:
        reserve: bytes, 0 to 2**40, by which the heap is made longer now.

    Returns:
        What was done, with `release()`, which undoes it as far as glibc allows.

    Raises:
        TypeError, ValueError: `reserve` is no such number.
    """
    size = integer("reserve", reserve, 0, 2**40)
    allocator, adjustable = _core.memory.allocator()
    if not adjustable:
        return KeptMemory(allocator, False, 0, "only glibc's own malloc can be told to keep memory")
    if not _core.memory.keep_freed_memory():
        _core.memory.return_freed_memory()
        return KeptMemory(allocator, False, 0, "mallopt() refuses the limits")
    main = threading.current_thread() is threading.main_thread()
    return KeptMemory(allocator, True, _core.memory.reserve_heap(size) if main else 0, "")
