"""Memory that backward frees stays: what is counted are the faults of fresh processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from subgrad_fast import _core
from subgrad_fast.optim import keep_memory

ADJUSTABLE = _core.memory.allocator()[1]
needs_glibc = pytest.mark.skipif(not ADJUSTABLE, reason="needs glibc's malloc")
pytestmark = pytest.mark.torch

FRESH, FEW = 80, 20
"""Faults of four fresh blocks of 40 MiB at the least, on huge pages, and of four that stay."""

PROGRAM = """
import resource, sys, torch
from subgrad_fast.optim import keep_memory
torch.set_num_threads(1)

def faults(work):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def large():
    for _ in range(4):
        torch.empty(40 << 20, dtype=torch.uint8).fill_(1)  # more than glibc keeps by itself

def steady():  # a small block may come to lie where a large one was, once or twice
    return min(faults(large) for _ in range(5))
"""


def run(code: str, **environment: str) -> list[str]:
    """What a fresh process prints, in words."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM + code], env=env, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


@needs_glibc
def test_what_is_freed_is_used_again_until_it_is_released() -> None:
    """What is free may stay the heap's, where a small block lies behind it; its pages do not."""
    before, kept, heap, given_back, released = run(
        "def resident():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "before = steady(); kept = keep_memory(); during = steady()\n"
        "assert kept.kept and kept.why_not == '' and kept.allocator.startswith('glibc 2.')\n"
        "print(before, during, kept.heap_bytes)\n"
        "held = resident(); done = kept.release()\nprint(held - resident(), done)"
    )
    assert int(before) >= FRESH
    assert int(kept) < FEW
    assert int(heap) == 0 or int(heap) >= 2**30
    assert int(given_back) >= 32 << 20
    assert released == "True"


@needs_glibc
def test_huge_pages_of_the_heap_can_be_switched_off() -> None:
    code = "kept = keep_memory(); print(kept.heap_bytes, steady())"
    heap, faults = run(code, SUBGRAD_FAST_HUGE_PAGES="off")
    assert (heap, int(faults) < FEW) == ("0", True)


@needs_glibc
def test_a_reserve_takes_no_memory() -> None:
    code = (
        "def resident():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "before = resident(); kept = keep_memory(reserve=1 << 32)\n"
        "print(resident() - before)"
    )
    assert int(run(code)[0]) < 8 << 20


@needs_glibc
def test_another_malloc_is_left_alone(tmp_path: Path) -> None:
    """A library that is loaded before the C library stands in for jemalloc and its like."""
    source = tmp_path / "other.c"
    source.write_text(
        "#include <stddef.h>\n"
        "extern void *__libc_malloc(size_t); extern void __libc_free(void *);\n"
        "void *malloc(size_t n) { return __libc_malloc(n); }\n"
        "void free(void *p) { __libc_free(p); }\n"
    )
    library = tmp_path / "libothermalloc.so"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", source, "-o", library], check=True)
    code = (
        "kept = keep_memory()\nprint(kept.allocator, kept.kept, kept.heap_bytes, kept.release())\n"
        "print(kept.why_not != '', 'nothing was done' in str(kept), steady() >= 80)"
    )
    printed = run(code, LD_PRELOAD=str(library))
    assert printed == ["libothermalloc.so", "False", "0", "False", "True", "True", "True"]


def test_a_reserve_that_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^reserve: expected an integer"):
        keep_memory(reserve="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^reserve: expected an integer"):
        keep_memory(reserve=-1)
