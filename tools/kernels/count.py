"""Counts the memory traffic of every kernel in the PTX interpreter.

`count` starts this file as a program of its own, under the interpreter: it prints a line of JSON
for each piece of work.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = re.compile(
    r"ptxemu-stats kernel=(\S+) grid=\S+ block=(\d+),(\d+),(\d+) "
    r".*global_bytes=(\d+) global_sectors=(\d+)"
)
SECTOR = 32  # bytes


@dataclass(frozen=True)
class Counted:
    """What one kernel fetched and stored for some work."""

    name: str  # as the linker knows it
    arch: str
    elements: int
    minimum_bytes: int
    requested_bytes: int
    """What the threads asked for."""
    sectors: int
    """Of 32 bytes, counted once for each instruction of a warp, as if there were no cache."""
    threads: int
    """Of a block; the most of all launches."""

    @property
    def efficiency(self) -> float:
        """The share of the fetched bytes that somebody asked for."""
        return self.requested_bytes / (SECTOR * self.sectors) if self.sectors else 1.0


def launches_in(statistics: str) -> dict[str, tuple[int, int, int]]:
    """Kernel -> (bytes, sectors, threads of a block) of all its launches."""
    found: dict[str, tuple[int, int, int]] = {}
    for name, *numbers in LAUNCH.findall(statistics):
        x, y, z, requested, sectors = map(int, numbers)
        before = found.get(name, (0, 0, 0))
        found[name] = before[0] + requested, before[1] + sectors, max(before[2], x * y * z)
    return found


def count(module: Path, arch: str) -> list[Counted]:
    """All kernels of the table in launches.py, for one architecture."""
    from tests.cuda.sessions import environment

    with tempfile.TemporaryDirectory() as directory:
        statistics = str(Path(directory, "statistics"))
        more = {"PTXEMU_STATS": "1", "PTXEMU_STATS_FILE": statistics}
        ran = subprocess.run(
            [sys.executable, __file__],
            env=environment(module, arch, "forward", **more),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return [
        Counted(name, arch, work["elements"], work["minimum_bytes"], *figures)
        for work in map(json.loads, ran.stdout.splitlines())
        for name, figures in launches_in(work["statistics"]).items()
        # Mangled: the length goes before the name. Other kernels may take part in the same work.
        if f"{len(work['kernel'])}{work['kernel']}" in name
    ]


def main() -> None:
    from kernels.launches import KERNELS
    from tests.cuda.machines import find_machine

    machine = find_machine()
    assert machine is not None
    statistics = Path(os.environ["PTXEMU_STATS_FILE"])
    for name, kernel in KERNELS.items():
        for work in kernel.works(machine()):
            statistics.write_text("")
            work.run()
            line = {
                "kernel": name,
                "elements": work.elements,
                "minimum_bytes": work.minimum_bytes,
                "statistics": statistics.read_text(),
            }
            print(json.dumps(line))


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
    main()
