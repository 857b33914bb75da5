"""Which kernels run, on how many threads, and what this build is."""

from __future__ import annotations

from typing import Any

from subgrad_fast import _core
from subgrad_fast._arguments import flag, integer


def set_num_threads(n: int | None, *, adaptive: bool = True) -> None:
    """Sets the number of threads of this process, for as long as nothing else is said here.

    Until it is called, and after ``set_num_threads(None)``, the number is OpenMP's, which
    ``torch.set_num_threads`` and ``OMP_NUM_THREADS`` set. After ``set_num_threads(n)`` it is `n`,
    whatever torch is told. ``build_info()["threads_decided_by"]`` says which of them counts. No
    result depends on it.

    On a machine whose cores are not always there, waiting for threads can take many times as long
    as the work does. Loops that have been measured to lose by their threads go alone for a while
    and are then tried again: `n` is the most that is used.

    Args:
        n: 1 to 1024, or None (or 0) to follow torch and OpenMP.
        adaptive: False has every loop that is large enough use its threads, whatever that takes.

    Raises:
        TypeError, ValueError: An argument is something else. Nothing has changed then.
    """
    adapt = flag("adaptive", adaptive)
    _core.set_num_threads(0 if n is None else integer("n", n, 0, _core.MAX_THREADS), adapt)


def get_num_threads() -> int:
    """How many threads a large enough step would use now; 1 in a process made by ``fork()``."""
    return _core.get_num_threads()


def available_isas() -> list[str]:
    """The instruction sets that this build has kernels for and this processor runs, best first."""
    return _core.available_isas()


def build_info() -> dict[str, Any]:
    """What was built and what runs: version, instruction sets, compiler, CUDA, threads.

    ``threads_decided_by`` is "set_num_threads", "OpenMP" (whose setting torch shares), or "fork".
    ``adaptive`` says whether loops that lose by their threads go alone, ``loops_alone`` how many of
    them (each counted by the size of its work) do so now. ``cpu_affinity`` is the number of
    processors that the calling thread may run on, ``cpu_quota`` how many processors' worth of time
    the process's control group has (a container's limit); None: not known, or there is none.
    """
    return _core.build_info()
