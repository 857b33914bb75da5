"""What the dense step moves, counted by the interpreter. Values cannot tell: a store too many of
what was there already leaves no trace in them.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

import subgrad_fast as sf
from tests.cases import COMBINATIONS, DTYPES
from tests.cuda.alone import run_alone
from tests.cuda.machines import EmulatedGpu, Gpu

TILE = 2048
LENGTHS = [4, 520, 1024, 1032, TILE, TILE + 1024, 3 * TILE + 5]
LINE = re.compile(
    r'ptxemu-stats-line .* global_bytes=(\d+) global_sectors=(\d+) instruction="(.*)"'
)


def main() -> None:
    """Runs alone: the interpreter counts only if it is told to at the start."""
    statistics = Path(os.environ["PTXEMU_STATS_FILE"])
    for combination in COMBINATIONS:
        for n in LENGTHS:
            gpu = EmulatedGpu()
            w, g, m = (gpu.array(np.ones(n, DTYPES[name])) for name in combination)
            statistics.write_text("")
            sf.sgd_step(w, g, m, lr=0.1, momentum=0.9)
            print(json.dumps([combination, n, statistics.read_text()]))


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[list[str], int, str]]:
    statistics = str(tmp_path_factory.mktemp("statistics") / "lines")
    printed = run_alone(__name__, PTXEMU_STATS="2", PTXEMU_STATS_FILE=statistics)
    return [json.loads(line) for line in printed.splitlines()]


def moved(statistics: str, instruction: str) -> tuple[int, int]:
    """(bytes, sectors) of the instructions with that name."""
    found = [
        (int(requested), int(sectors))
        for requested, sectors, text in LINE.findall(statistics)
        if instruction in text
    ]
    assert found, statistics
    return sum(requested for requested, _ in found), sum(sectors for _, sectors in found)


def test_traffic(gpu: Gpu, counted: list[tuple[list[str], int, str]]) -> None:
    if not gpu.emulated:
        pytest.skip("a GPU does not count")
    assert len(counted) == len(COMBINATIONS) * len(LENGTHS)
    for combination, n, statistics in counted:
        p, g, m = (DTYPES[name].itemsize for name in combination)
        stored, stored_sectors = moved(statistics, "st.global")
        loaded, loaded_sectors = moved(statistics, "ld.global")
        what = f"{combination} n={n}"
        assert stored == n * (p + m), what  # every element once
        assert loaded >= n * (p + g + m), what
        if n % TILE == 0:
            assert loaded == n * (p + g + m), what
            # Whole sectors and nothing else.
            assert 32 * (loaded_sectors + stored_sectors) == loaded + stored, what
