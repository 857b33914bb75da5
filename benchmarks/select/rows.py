"""Selection by magnitude, and the thresholded step, against torch's.

    python -m benchmarks.select.rows                # everything, some minutes
    python -m benchmarks.select.rows --rows top-    # rows whose name contains the text
    python -m benchmarks.select.rows --json sparse.json --markdown

`harness.py` says how the figures are taken. Rows named `top-*` have heavy-tailed values, as
gradients do; those named `adversary-*` what a sample of the array says little about.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.dense import rows as bench_update
from benchmarks.harness import OURS, Row, Target
from benchmarks.select.rows import peers
from benchmarks.threshold import peers as threshold_peers

ELEMENTS = 25_600_000
Values = npt.NDArray[np.float32]


def heavy(n: int) -> Values:
    """Student's t with 3 degrees of freedom."""
    return np.random.default_rng(0).standard_t(3, n).astype(np.float32)


def two_values(n: int) -> Values:
    """1 and -3 at random."""
    return np.where(np.random.default_rng(0).random(n) < 0.5, 1, -3).astype(np.float32)


def one_huge(n: int) -> Values:
    """Zeros but one."""
    x = np.zeros(n, np.float32)
    x[n // 3] = 1e30
    return x


def period(n: int) -> Values:
    """Every 16th element, one a cache line, is large; half of them are alike."""
    x = heavy(n)
    x[::16] *= 1000
    x[::32] = 1000
    return x


def a_run(n: int) -> Values:
    """All that is large lies together."""
    x = heavy(n)
    x[n // 2 : n // 2 + n // 200] *= 1e6
    return x


ADVERSARIES: dict[str, Callable[[int], Values]] = {
    "equal": lambda n: np.full(n, 0.1, np.float32),
    "zero": lambda n: np.zeros(n, np.float32),
    "two values": two_values,
    "ascending": lambda n: np.sort(np.abs(heavy(n))),
    "one huge": one_huge,
    "period": period,
    "a run": a_run,
}


def row(
    name: str,
    what: str,
    values: Callable[[int], Values],
    share: float,
    limit: float,
    threads: int,
) -> Row:
    """Exact top k: `limit` is what ours may take of torch's time."""
    k = round(share * ELEMENTS)
    moved = 4 * ELEMENTS + 12 * k  # the array is read once, int64 indices and values are written
    title = f"top {share:.1%} of 25.6M {what} ({moved / ELEMENTS:.2f} bytes an element)"
    build = partial(peers.top, values, ELEMENTS, k)
    targets = [Target(peers.TOPK, limit)]
    moved_bytes = {OURS: moved}
    return Row(f"{name}@{threads}", title, threads, build, targets, 1, 12, moved_bytes)


def step_rows(density: float, threads: int) -> list[Row]:
    """The thresholded step, alone and with a report of what it applied."""
    # Gradient 4, residual 8, and the parameter's 8 where anything in a cache line is kept.
    moved = round(ELEMENTS * (4 + 8 + 8 * (1 - (1 - density) ** 16)))
    report = round(ELEMENTS * density * 8)

    def row(name: str, what: str, contenders: Any, targets: list[Target], moved: int) -> Row:
        title = f"{what} of 25.6M heavy-tailed float32 ({moved / ELEMENTS:.2f} bytes an element)"
        build = partial(contenders, heavy, ELEMENTS, density)
        return Row(f"{name}-{density:.1%}@{threads}", title, threads, build, targets, 1, 12,
                   {OURS: moved})  # fmt: skip

    return [
        row(
            "threshold",
            f"threshold, error feedback and update, {density:.1%}",
            threshold_peers.threshold,
            [Target(threshold_peers.OPERATIONS, 1 / 12), Target(threshold_peers.DENSE, 1.5)],
            moved,
        ),
        row(
            "threshold-reported",
            f"the same, (index, value) reported, {density:.1%}",
            threshold_peers.reported,
            [Target(threshold_peers.UNREPORTED, 1.25)],
            moved + report,
        ),
    ]


def all_rows(threads: int) -> list[Row]:
    """Build the whole table."""
    rows = []
    for n in sorted({1, threads}):
        rows += [row for density in (0.001, 0.01) for row in step_rows(density, n)]
        rows += [
            row(f"top-{share:.1%}", "heavy-tailed float32", heavy, share, 1 / 20, n)
            for share in (0.001, 0.01)
        ]
        rows += [
            row(f"adversary-{name.replace(' ', '-')}", f"float32, {name}", values, 0.01, 1 / 5, n)
            for name, values in ADVERSARIES.items()
        ]
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen rows, print their table, write the JSON. Returns the exit status."""
    return bench_update.main(arguments, benchmark="sparse", rows_for=all_rows)


if __name__ == "__main__":
    sys.exit(main())
