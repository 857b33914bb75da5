"""`python -m subgrad_fast info --memory`: a step's memory on this machine, by what it does here."""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from subgrad_fast import _core
from subgrad_fast.dense import FusedSGD
from subgrad_fast.memory import use_huge_pages

WEIGHTS_BYTES = 64 << 20
STEPS = 24


def weights() -> npt.NDArray[np.float32]:
    """Weights as torch allocates them: memory of their own that nobody has asked huge pages for."""
    flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    array = np.frombuffer(mmap.mmap(-1, WEIGHTS_BYTES, **flags), np.float32)
    array[:] = 0.0
    return array


def faults() -> int | None:
    """Page faults of this process that read no file; None where nobody counts them."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def share(array: npt.NDArray[Any]) -> str:
    """How much of an array lies on huge pages, in words."""
    size, huge = _core.memory.share_on_huge_pages([array])
    return "unknown (Linux 6.7 tells)" if huge is None else f"{huge / size:.0%}"


def of_steps(step: Callable[[], object]) -> str:
    """What a step takes and faults: the least of some."""
    times, found = [], []
    for _ in range(STEPS):
        before, start = faults(), time.perf_counter_ns()
        step()
        times.append(time.perf_counter_ns() - start)
        after = faults()
        found += [] if before is None or after is None else [after - before]
    counted = f", {sorted(found)[len(found) // 2]} faults" if found else ""
    return f"{min(times) / 1e6:.2f} ms a step{counted}"


def facts() -> dict[str, str]:
    """Step 64 MiB of weights with momentum, as they lie and on huge pages."""
    w = weights()
    g = np.ones_like(w)
    optimizer = FusedSGD(w, lr=1e-6, momentum=0.9)
    first = of_steps(lambda: optimizer(g))
    lie = f"{share(w)} on huge pages after {STEPS} steps; {first}"
    taken = use_huge_pages(w) >> 20
    second = of_steps(lambda: optimizer(g))
    name, adjustable = _core.memory.allocator()
    return {
        "64 MiB of weights": lie,
        "use_huge_pages()": f"{taken} MiB; {share(w)} on huge pages; {second}",
        "allocator": f"{name}; optim.keep_memory() {'works' if adjustable else 'does nothing'}",
    }
