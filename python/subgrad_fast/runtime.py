"""Which kernels run, on how many threads, and what this build is."""

from __future__ import annotations

from typing import Any

from subgrad_fast import _core
from subgrad_fast._arguments import integer


def set_num_threads(n: int | None) -> None:
    """Sets the number of threads of this process, for as long as nothing else is said here.

    Until it is called, and after ``set_num_threads(None)``, the number is OpenMP's, which
    ``torch.set_num_threads`` and ``OMP_NUM_THREADS`` set. After ``set_num_threads(n)`` it is `n`,
    whatever torch is told. ``build_info()["threads_decided_by"]`` says which of them counts. No
    result depends on it.

    Args:
        n: 1 to 1024, or None (or 0) to follow torch and OpenMP.

    Raises:
        TypeError, ValueError: `n` is something else. Nothing has changed then.
    """
    _core.set_num_threads(0 if n is None else integer("n", n, 0, _core.MAX_THREADS))


def get_num_threads() -> int:
    """How many threads a large enough step would use now; 1 in a process made by ``fork()``."""
    return _core.get_num_threads()


def available_isas() -> list[str]:
    """The instruction sets that this build has kernels for and this processor runs, best first."""
    return _core.available_isas()


def build_info() -> dict[str, Any]:
    """What was built and what runs: version, instruction sets, compiler, CUDA, threads.

    ``threads_decided_by`` is "set_num_threads", "OpenMP" (whose setting torch shares), or "fork".
    """
    return _core.build_info()
