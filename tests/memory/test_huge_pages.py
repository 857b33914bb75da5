"""Huge pages under memory that exists: what is collapsed, when, and what is left alone."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast import _core
from tests.memory.pages import (
    BLOCK,
    PRIVATE,
    MiB,
    huge_bytes,
    needs_collapse,
    resident,
    small_pages,
)
from tests.threads import run_threads

LEAST = _core.testing.LEAST_PAGED_BYTES


@needs_collapse
def test_small_pages_become_huge_ones_in_place() -> None:
    array = small_pages(8 * MiB)
    address, before = array.ctypes.data, array.copy()
    assert huge_bytes(array) == 0
    assert sf.use_huge_pages(array) == 8 * MiB
    assert huge_bytes(array) == 8 * MiB
    assert array.ctypes.data == address
    assert (array == before).all()
    assert sf.use_huge_pages([array]) == 8 * MiB  # once more changes nothing


@needs_collapse
@pytest.mark.parametrize(
    ("begin", "end", "blocks"),
    [
        (0, 4 * BLOCK, 4),
        (BLOCK // 4, 4 * BLOCK, 4),
        (BLOCK // 2 + 1, 4 * BLOCK, 3),
        (0, 3 * BLOCK + BLOCK // 2, 4),
        (0, 3 * BLOCK + BLOCK // 2 - 1, 3),
        (BLOCK, BLOCK + BLOCK // 2 - 1, 0),
        (BLOCK // 2, BLOCK + BLOCK // 2, 2),
        (7, 7, 0),
    ],
)
def test_blocks_of_which_half_is_used(begin: int, end: int, blocks: int) -> None:
    array = small_pages(5 * BLOCK)
    assert sf.use_huge_pages(array[begin:end]) == blocks * BLOCK
    assert huge_bytes(array) == blocks * BLOCK


@needs_collapse
def test_small_arrays_of_a_block_share_in_it() -> None:
    array = small_pages(4 * BLOCK)
    parts = [array[i : i + 24_000] for i in range(0, 2 * BLOCK, 32_000)]
    assert sf.use_huge_pages(parts[0]) == 0
    assert sf.use_huge_pages(parts) == 2 * BLOCK
    assert sf.use_huge_pages([parts[0]] * 1000) == 0  # the same bytes count once


@needs_collapse
def test_resident_memory_grows_by_less_than_a_block() -> None:
    memory = mmap.mmap(-1, 16 * BLOCK, flags=PRIVATE)
    everything = np.frombuffer(memory, np.uint8)
    whole = everything[-everything.ctypes.data % BLOCK :]
    used = whole[BLOCK + BLOCK // 2 : 4 * BLOCK + BLOCK // 2]
    used[:] = 1
    assert resident(whole) == 3 * BLOCK
    assert sf.use_huge_pages(used) == 4 * BLOCK
    assert resident(whole) == 4 * BLOCK


@needs_collapse
def test_what_is_not_private_is_left_alone(tmp_path: Path) -> None:
    shared = small_pages(4 * BLOCK, mmap.MAP_SHARED)
    assert sf.use_huge_pages(shared) == 0
    assert huge_bytes(shared) == 0

    (tmp_path / "data").write_bytes(bytes(4 * BLOCK))
    with (tmp_path / "data").open("r+b") as file:
        mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
        assert sf.use_huge_pages(mapped) == 0
        assert sf.use_huge_pages(np.memmap(tmp_path / "data", mode="r")) == 0


@needs_collapse
def test_memory_that_is_to_have_none_is_left_alone() -> None:
    memory = mmap.mmap(-1, 5 * BLOCK, flags=PRIVATE)
    memory.madvise(15)  # MADV_NOHUGEPAGE
    array = np.frombuffer(memory, np.uint8)
    array[:: mmap.PAGESIZE] = 1
    assert sf.use_huge_pages(array) == 0
    assert huge_bytes(array) == 0


def test_arrays_of_any_kind_are_taken() -> None:
    arrays = [
        np.ones(3),
        np.ones((2, 2), bool)[:, 1:],
        np.ones(()),
        np.ones((0, 4)),
        np.ones(9)[::-1],
    ]
    assert sf.use_huge_pages(arrays) == 0
    assert sf.use_huge_pages(iter(arrays)) == 0
    assert sf.use_huge_pages([]) == 0
    with pytest.raises(TypeError, match=r"^arrays\[1\]: expected a NumPy array or torch tensor"):
        sf.use_huge_pages([np.ones(1), 2.0])
    with pytest.raises(TypeError, match=r"^arrays: expected a NumPy array or torch tensor"):
        sf.use_huge_pages("no array")


# --- when it is done by itself ------------------------------------------------------------------

SECOND = 10**9


@needs_collapse
def test_it_begins_after_16_steps_and_goes_on_by_few_blocks() -> None:
    array = small_pages(10 * BLOCK)
    pages = _core.testing.PagesInUse()
    for _ in range(15):
        pages.after(SECOND, [array])
    assert huge_bytes(array) == 0
    for blocks in (4, 8):
        assert pages.wanted()
        pages.after(SECOND, [array])
        assert huge_bytes(array) == blocks * BLOCK
    pages.after(SECOND, [array])
    assert huge_bytes(array) == 10 * BLOCK
    assert not pages.wanted()


@needs_collapse
def test_it_takes_no_more_than_a_tenth_of_the_steps_time() -> None:
    array = small_pages(10 * BLOCK)
    pages = _core.testing.PagesInUse()
    for _ in range(100):
        pages.after(0, [array])
    assert (pages.left(), huge_bytes(array)) == (10, 0)
    pages.after(10, [array])  # a nanosecond is earned, and spent on a block, which takes more
    assert pages.left() == 9
    for _ in range(100):
        pages.after(10, [array])
    assert pages.left() == 9
    pages.after(100 * SECOND, [array])
    assert pages.left() == 5


def test_less_than_8_mib_is_left_alone() -> None:
    array = small_pages(LEAST - 1)
    pages = _core.testing.PagesInUse()
    for _ in range(20):
        pages.after(SECOND, [array])
    assert not pages.wanted()
    assert huge_bytes(array) == 0


@needs_collapse
def test_memory_that_is_unmapped_between_steps() -> None:
    array = small_pages(LEAST)
    pages = _core.testing.PagesInUse()
    for _ in range(16):
        pages.after(11, [array])
    assert pages.left() == LEAST // BLOCK - 1
    unmap(array)
    for _ in range(10):
        pages.after(1000 * SECOND, [])
    assert not pages.wanted()


def unmap(array: np.ndarray) -> None:
    """Take the memory away, with an array that still points to it."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.munmap(ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)) == 0


@needs_collapse
def test_memory_that_another_thread_unmaps_meanwhile() -> None:
    """Nothing is read or written by us, so there is nothing to crash."""
    made: list[np.ndarray] = []
    there, gone = threading.Semaphore(0), threading.Semaphore(0)

    def collapse() -> None:
        for _ in range(10):
            made.append(small_pages(4 * BLOCK))
            there.release()
            sf.use_huge_pages(made[-1])
            gone.acquire()

    def free() -> None:
        for i in range(10):
            there.acquire()
            unmap(made[i])
            gone.release()

    assert run_threads(collapse, free) == []


@needs_collapse
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_shares_its_parents_pages() -> None:
    """To collapse them would copy them, so it is not done by itself; who asks for it has it."""
    array = small_pages(LEAST)
    before = array.copy()
    pages = _core.testing.PagesInUse()
    for _ in range(16):
        pages.after(11, [array])
    pid = os.fork()
    if pid == 0:
        pages.after(1000 * SECOND, [array])
        fresh = _core.testing.PagesInUse()
        for _ in range(20):
            fresh.after(SECOND, [array])
        ok = not pages.wanted() and not fresh.wanted()
        ok = ok and sf.use_huge_pages(array) == LEAST and bool((array == before).all())
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (array == before).all()


# --- in the library -----------------------------------------------------------------------------

STEPS = """
import sys, numpy as np, subgrad_fast as sf
from subgrad_fast import _core
from tests.memory.pages import small_pages, huge_bytes, BLOCK
w = small_pages(8 * BLOCK).view(np.float32); w[:] = 0
step = sf.FusedSGD(w, lr=0.5, momentum=0.9)
loader_data = small_pages(8 * BLOCK).reshape(-1, 64)
batches = iter(sf.BatchLoader(loader_data, sf.BatchSampler(len(loader_data), 4096)))
for _ in range(3):
    step(np.ones_like(w)); next(batches)
assert (w == w[0]).all()
print(huge_bytes(w) // BLOCK, huge_bytes(loader_data) // BLOCK, w[0], sf.build_info()["huge_pages"])
"""


def said(setting: str, code: str = STEPS) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "SUBGRAD_FAST_HUGE_PAGES": setting}
    root = Path(__file__).resolve().parents[2]
    env["PYTHONPATH"] = os.pathsep.join([*sys.path, str(root)])
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )


@needs_collapse
@pytest.mark.parametrize(
    ("setting", "blocks"), [("now", "8 8"), ("off", "0 0"), ("auto", "0 0"), ("", "0 0")]
)
def test_the_setting_decides_and_the_bits_are_the_same(setting: str, blocks: str) -> None:
    huge_bytes()
    ran = said(setting)
    assert ran.stdout.split() == [*blocks.split(), "-2.805", setting or "auto"], ran.stderr


def test_an_unknown_setting_is_refused_before_anything_is_written() -> None:
    code = (
        "import numpy as np, subgrad_fast as sf\nw = np.zeros(9, np.float32)\n"
        "try: sf.sgd_step(w, np.ones_like(w), lr=1.0)\n"
        "except ValueError as error: print(error, w.any())"
    )
    expected = "SUBGRAD_FAST_HUGE_PAGES: expected auto, off or now, got 'perhaps' False"
    assert said("perhaps", code).stdout.strip() == expected


def policy() -> str:
    path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return path.read_text() if path.exists() else "[never]"


@pytest.mark.torch
@pytest.mark.skipif("[never]" in policy(), reason="the system's policy is: no huge pages")
def test_what_the_library_makes_begins_on_huge_pages() -> None:
    torch = pytest.importorskip("torch")
    from subgrad_fast.optim import SGD

    p = torch.nn.Parameter(torch.zeros(2 * BLOCK))
    p.grad = torch.ones_like(p)
    optimizer = SGD([p], lr=0.1, momentum=0.9)
    optimizer.step()
    buffer = optimizer.state[p]["momentum_buffer"]
    assert buffer.data_ptr() % BLOCK == 0
    assert huge_bytes(buffer) > 0
    assert (buffer == 1).all()
