"""Huge pages under arrays that exist: the same addresses, the same bits, fewer page walks."""

from __future__ import annotations

from subgrad_fast import _core
from subgrad_fast._arrays import Arrays, as_list, require_array


def use_huge_pages(arrays: Arrays) -> int:
    """Puts the memory of arrays on huge pages, in place and at once.

    Large steps wait for page walks: on pages of 2 MiB there are 512 times fewer. Linux 6.1 and
    newer collapse the small pages of a block (``MADV_COLLAPSE``): addresses and contents stay,
    whoever uses the memory meanwhile waits. A block takes 0.7 to 50 ms, once. Blocks of which less
    than half lies in the arrays are left alone, so what is resident grows by at most one block an
    array. Memory of files, shared memory, memory under ``MADV_NOHUGEPAGE``, devices and other
    systems are left alone, and so is everything under ``SUBGRAD_FAST_HUGE_PAGES=off``.

    ``optim.SGD``, ``FusedSGD`` and the loaders do this by themselves for what they use step by
    step, from the 16th step on and in at most a tenth of their own time.

    Args:
        arrays: one array, or a sequence of them: NumPy's or torch's, of any dtype and shape.

    Returns:
        The bytes of the arrays' blocks that are huge pages now: a multiple of 2 MiB.

    Raises:
        TypeError, ValueError: something is not an array, or its memory is not to be had.
    """
    given = as_list(arrays)
    for i, array in enumerate(given):
        require_array(array, f"arrays[{i}]" if len(given) > 1 else "arrays")
    return _core.memory.use_huge_pages(given)
