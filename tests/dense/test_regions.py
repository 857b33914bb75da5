"""Loops that lose by their threads go alone, by what was measured: the times are the tests' own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import subgrad_fast as sf
from subgrad_fast import _core

WORK = 1 << 20
ALONE_NS, QUICK_NS, SLOW_NS = 50_000, 27_000, 300_000


class Loop:
    """A loop on two threads, whose passages take the times that it is told."""

    def __init__(self, *, several: bool = True, work: int = WORK) -> None:
        self.history = _core.testing.RegionHistory()
        self.several, self.work = several, work
        self.passage = 0
        self.timed: list[int] = []

    def run(
        self,
        passages: int,
        parallel: Callable[[int], int],
        alone: int | Callable[[int], int] = ALONE_NS,
    ) -> list[int]:
        """The threads of each passage. `parallel`, `alone`: what one takes, by its number."""
        takes_alone = alone if callable(alone) else lambda _: alone
        threads = []
        for _ in range(passages):
            used, timed = self.history.begin(2, self.work, self.several)
            if timed:
                self.timed.append(self.passage)
                ns = takes_alone(self.passage) if used == 1 else parallel(self.passage)
                self.history.end(used, self.work, ns)
            threads.append(used)
            self.passage += 1
        return threads


def quick(_: int) -> int:
    return QUICK_NS


def slow(_: int) -> int:
    return SLOW_NS


def stretches(threads: list[int]) -> list[int]:
    """The lengths of the runs of passages alone that are longer than a probe."""
    lengths = [len(run) for run in "".join(map(str, threads)).split("2")]
    return [n for n in lengths if n > 1]


def test_a_loop_that_would_be_kept_waiting_alone_as_well_keeps_its_threads() -> None:
    # A neighbour has the core that holds the data: three passages alone out of five wait for it.
    def alone(passage: int) -> int:
        return 10 * ALONE_NS if passage % 5 < 3 else ALONE_NS

    loop = Loop()
    loop.run(2_000, slow, alone)
    threads = loop.run(4_000, lambda _: 4 * ALONE_NS, alone)
    assert threads[-2_000:].count(1) < 100


def test_a_loop_that_wins_keeps_its_threads() -> None:
    loop = Loop()
    threads = loop.run(20_000, quick)
    assert stretches(threads) == []
    assert 3 <= threads.count(1) <= 3 + 2 * 20_000 / 512  # the first samples, and seldom a probe
    assert sum(t > 10_000 for t in loop.timed) == pytest.approx(10_000 / 4, rel=0.1)


def test_a_loop_that_loses_goes_alone_ever_longer() -> None:
    loop = Loop()
    threads = loop.run(40_000, slow)
    assert stretches(threads)[:9] == [64, 128, 256, 512, 1024, 2048, 4096, 4096, 4096]
    assert threads.count(2) < 60


def test_a_loop_whose_cores_come_back_has_its_threads_again() -> None:
    loop = Loop()
    loop.run(1000, slow)
    assert loop.history.alone(WORK) > 0
    assert stretches(loop.run(20_000, quick)[4096:]) == []
    # A long quiet time is not held against a new loss: it is short again.
    assert stretches(loop.run(300, slow))[0] == 64


def test_one_slow_passage_changes_nothing() -> None:
    loop = Loop()
    hiccup = 5_000_000
    threads = loop.run(20_000, lambda i: hiccup if i % 97 == 0 else QUICK_NS)
    assert stretches(threads) == []


def test_slow_passages_among_quick_ones_are_weighed() -> None:
    """Two passages in five lose more than the others win."""
    threads = Loop().run(4000, lambda i: SLOW_NS if i * 7919 % 5 < 2 else QUICK_NS)
    assert threads.count(1) > 3500


@pytest.mark.parametrize("period", [2, 3, 4, 5, 7, 8])
def test_what_is_timed_falls_in_step_with_no_period(period: int) -> None:
    """One passage of each period loses much, wherever it stands."""
    for place in range(period):
        loop = Loop()
        threads = loop.run(4000, lambda i, at=place: SLOW_NS if i % period == at else QUICK_NS)
        expected = 4 / period > (1 - 1 / period) * (1 - QUICK_NS / ALONE_NS)
        assert expected and threads.count(1) > 2000, (period, place)


def test_an_even_loop_is_not_sent_away_by_much() -> None:
    """A region that takes a tenth longer than alone loses little; it goes alone after long."""
    threads = Loop().run(60, lambda _: ALONE_NS * 11 // 10)
    assert stretches(threads) == []


def test_sizes_of_work_learn_apart() -> None:
    loop = Loop()
    loop.run(200, slow)
    assert loop.history.alone(WORK) > 0
    assert loop.history.alone(8 * WORK) == 0
    assert loop.history.begin(2, 8 * WORK, True)[0] == 2


def test_without_a_second_processor_a_loop_begins_alone() -> None:
    loop = Loop(several=False)
    threads = loop.run(2000, quick)
    assert threads[:64] == [1] * 64
    assert stretches(threads) == [64]  # and is tried: what counts is what is measured


def test_a_first_passage_of_cold_pages_is_no_measure() -> None:
    """The first passage takes a hundred times as long, on threads: nothing is concluded from it."""
    loop = Loop()
    threads = loop.run(2000, lambda i: 100 * ALONE_NS if i == 0 else QUICK_NS)
    assert stretches(threads) == []
    assert threads[:6] == [2, 1, 2, 1, 2, 1]


# --- in the library -----------------------------------------------------------------------------

PROGRAM = """
import numpy as np, subgrad_fast as sf
from subgrad_fast import _core

def steps(n):  # enough for two threads, and no more
    results = []
    for _ in range(n):
        w = np.zeros(25_000, np.float32)
        sf.sgd_step(w, np.ones_like(w), lr=1.0)
        results.append(w.tobytes())
    return set(results)

def alone():
    return sf.build_info()["loops_alone"]

def told(parallel, alone):  # ns a byte
    _core.testing.set_region_times(parallel, alone)

sf.set_num_threads(2)
"""


def in_a_fresh_process(code: str) -> list[str]:
    """What a program prints whose loops have met nothing yet, in words."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM + code], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def test_the_step_goes_alone_and_gives_the_same_bits() -> None:
    code = (
        "told(1.0, 0.1); before = alone(); bits = steps(60); print(before, alone())\n"
        "told(0.05, 0.1); bits |= steps(64); print(alone(), len(bits))"
    )
    assert in_a_fresh_process(code) == ["0", "1", "0", "1"]


def test_adaptive_off_measures_nothing() -> None:
    code = (
        "sf.set_num_threads(2, adaptive=False); told(1.0, 0.1); steps(60)\n"
        "print(alone(), sf.build_info()['adaptive'])\n"
        "sf.set_num_threads(2); print(sf.build_info()['adaptive'])"
    )
    assert in_a_fresh_process(code) == ["0", "False", "True"]


@pytest.mark.usefixtures("threads")
def test_what_is_no_flag_changes_nothing() -> None:
    sf.set_num_threads(3)
    with pytest.raises(TypeError, match=r"^adaptive: "):
        sf.set_num_threads(2, adaptive="no")  # type: ignore[arg-type]
    assert sf.get_num_threads() == 3
    assert sf.build_info()["adaptive"] is True


# --- the processors -----------------------------------------------------------------------------


def group(tmp_path: Path, own: str, **files: str) -> float:
    """The quota of a made-up control group; in file names `__` stands for a folder's end."""
    for name, text in files.items():
        path = tmp_path / "cgroup" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "own").write_text(own)
    return _core.testing.cpu_quota(str(tmp_path / "own"), str(tmp_path / "cgroup"))


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/\n", {"cpu_dot_max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu_dot_max": "max 100000\n"}, 0.0),
        ("0::/\n", {}, 0.0),
        ("0::/a/b\n", {"a__b__cpu_dot_max": "max 100000", "a__cpu_dot_max": "50000 100000"}, 0.5),
        ("0::/a/b\n", {"a__b__cpu_dot_max": "20000 10000", "a__cpu_dot_max": "4 1"}, 2.0),
        ("0::/not/here\n", {"cpu_dot_max": "200000 100000\n"}, 2.0),
        ("0::/\n", {"cpu_dot_max": "words and words"}, 0.0),
        ("0::/\n", {"cpu_dot_max": "100000 0"}, 0.0),
        (
            "3:memory:/d\n2:cpu,cpuacct:/d\n",
            {
                "cpu,cpuacct__d__cpu_dot_cfs_quota_us": "300000",
                "cpu,cpuacct__d__cpu_dot_cfs_period_us": "100000",
            },
            3.0,
        ),
        (
            "2:cpuset:/d\n4:cpu:/d\n",
            {"cpu__d__cpu_dot_cfs_quota_us": "-1", "cpu__d__cpu_dot_cfs_period_us": "100000"},
            0.0,
        ),
        ("no lines of groups\n::\n", {"cpu_dot_max": "1 1"}, 0.0),
    ],
)
def test_the_quota_of_a_control_group(
    tmp_path: Path, own: str, files: dict[str, str], quota: float
) -> None:
    assert group(tmp_path, own, **files) == quota


def test_without_files_there_is_no_quota(tmp_path: Path) -> None:
    assert _core.testing.cpu_quota(str(tmp_path / "a"), str(tmp_path / "b")) == 0.0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs affinity masks")
def test_the_affinity_mask_is_told() -> None:
    mask = os.sched_getaffinity(0)
    try:
        assert sf.build_info()["cpu_affinity"] == len(mask)
        os.sched_setaffinity(0, {min(mask)})
        assert sf.build_info()["cpu_affinity"] == 1
    finally:
        os.sched_setaffinity(0, mask)
