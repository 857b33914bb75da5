"""Threads: the same bits for any number, torch's setting respected, forks and races safe."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import COMBINATIONS, DTYPES, special_values
from tests.threads import run_threads


def tensors(types: tuple[str, str, str], seed: int) -> list[list[np.ndarray]]:
    """Lists large enough to share among threads, with splits inside tensors and between."""
    rng = np.random.default_rng(seed)
    sizes = [1, 70_001, 0, 17, 300_007, *([5] * 200), 33_333]
    return [[special_values(DTYPES[t], n, rng) for n in sizes] for t in types]


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_bits_do_not_depend_on_threads(
    combination: tuple[str, str, str], threads: Callable[[int], None]
) -> None:
    results = []
    for n in (1, 2, 3, 4):
        threads(n)
        w, g, m = tensors(combination, 11)
        w[4], g[4] = w[4][::-1], g[4][::2].repeat(2)[: g[4].size]  # a strided one among them
        sf.sgd_step(w, g, m, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
        results.append((w, m))
    for w, m in results[1:]:
        for a, b in zip([*w, *m], [*results[0][0], *results[0][1]], strict=True):
            assert_same_bits(a, b)


def test_many_random_splits_cover_every_element_once(threads: Callable[[int], None]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        threads(int(rng.integers(2, 7)))
        sizes = rng.integers(0, 90_000, int(rng.integers(1, 12)))
        w = [np.zeros(int(n), np.float32) for n in sizes]
        sf.sgd_step(w, [np.ones(int(n), np.float32) for n in sizes], lr=1.0)
        for x in w:
            assert (x == -1).all()


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("follow", [None, 0])
def test_set_num_threads(follow: int | None) -> None:
    default = sf.get_num_threads()
    sf.set_num_threads(3)
    assert sf.get_num_threads() == 3
    assert sf.build_info()["threads_decided_by"] == "set_num_threads"
    sf.set_num_threads(follow)
    assert sf.get_num_threads() == default
    assert sf.build_info()["threads_decided_by"] == "OpenMP"


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    ("n", "error"),
    [
        (-1, ValueError),
        (10**6, ValueError),
        (1025, ValueError),
        (10**30, ValueError),
        (2.0, TypeError),
        ("2", TypeError),
        (True, TypeError),
        ([2], TypeError),
        (np.ones(1), TypeError),
    ],
)
def test_what_is_no_number_of_threads(n: Any, error: type[Exception]) -> None:
    sf.set_num_threads(2)
    with pytest.raises(error, match=r"^n: expected an integer from 0 to 1024, got "):
        sf.set_num_threads(n)
    assert sf.get_num_threads() == 2


@pytest.mark.usefixtures("threads")
def test_none_follows_torch_again() -> None:
    torch = pytest.importorskip("torch")
    old = torch.get_num_threads()
    try:
        sf.set_num_threads(2)
        torch.set_num_threads(3)
        assert sf.get_num_threads() == 2
        sf.set_num_threads(None)
        assert sf.get_num_threads() == 3
        torch.set_num_threads(1)
        assert sf.get_num_threads() == 1
    finally:
        torch.set_num_threads(old)


def test_torch_set_num_threads_is_respected() -> None:
    torch = pytest.importorskip("torch")
    old = torch.get_num_threads()
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            assert sf.get_num_threads() == n
    finally:
        torch.set_num_threads(old)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
@pytest.mark.parametrize("first", ["torch", "subgrad_fast"])
def test_one_openmp_pool_per_process(first: str) -> None:
    pytest.importorskip("torch")
    second = "subgrad_fast" if first == "torch" else "torch"
    code = (
        f"import {first}, {second}, subgrad_fast\n"
        "maps = {l.split()[-1] for l in open('/proc/self/maps') if 'libgomp' in l}\n"
        "print(len(maps), maps)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("1 "), done.stdout


def big_step() -> np.ndarray:
    w = np.zeros(1_000_000, np.float32)
    sf.sgd_step(w, np.ones_like(w), lr=1.0)
    return w


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_steps_alone(threads: Callable[[int], None]) -> None:
    threads(2)
    big_step()  # the pool is running
    pid = os.fork()
    if pid == 0:
        ok = sf.get_num_threads() == 1 and (big_step() == -1).all()
        os._exit(0 if ok else 1)
    # A hang would be the failure: wait no longer than a step could ever take.
    timer = threading.Timer(60, os.kill, (pid, 9))
    timer.start()
    _, status = os.waitpid(pid, 0)
    timer.cancel()
    assert os.waitstatus_to_exitcode(status) == 0
    assert sf.get_num_threads() == 2  # the parent goes on as before


def test_concurrent_steps_on_different_tensors(threads: Callable[[int], None]) -> None:
    threads(2)

    def work(seed: int) -> None:
        w = np.zeros(200_000, np.float32)
        step = sf.FusedSGD(w, lr=1.0)
        g = np.full(w.size, float(seed), np.float32)
        for _ in range(20):
            step(g)
        assert (w == -20.0 * seed).all()

    assert run_threads(*(partial(work, seed) for seed in range(4))) == []
