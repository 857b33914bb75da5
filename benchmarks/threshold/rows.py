"""The thresholded step against torch's operations, and against a dense step.

The gradient's values are heavy-tailed, as gradients are, and every step begins with an empty
residual.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.threshold import peers
from subgrad_fast.bench.harness import OURS, Contender, Row, Subject, Target

ELEMENTS = 25_600_000


def row(
    *,
    name: str,
    what: str,
    density: float,
    threads: int,
    contenders: Callable[[int, float], list[Contender]],
    targets: list[Target],
    reported_bytes: int = 0,
) -> Row:
    """One step that applies the share `density`."""
    # Gradient 4, residual 8, and the parameter's 8 where anything in a cache line is kept.
    touched = 1 - (1 - density) ** 16
    moved = ELEMENTS * (4 + 8 + 8 * touched + density * reported_bytes)
    return Row(
        name=f"{name}-{density:.1%}",
        title=f"{what}, {density:.1%} of 25.6M float32 ({moved / ELEMENTS:.2f} bytes an element)",
        threads=threads,
        build=partial(contenders, ELEMENTS, density),
        targets=targets,
        block=1,
        budget_s=12,
        moved_bytes={OURS: round(moved)},
        read_bytes=round(ELEMENTS * (4 + 4 + 4 * touched)),
    )


def rows(density: float, threads: int) -> list[Row]:
    """The step alone, and with a report of what it applied."""
    return [
        row(
            name="threshold",
            what="threshold, error feedback and update",
            density=density,
            threads=threads,
            contenders=peers.threshold,
            targets=[Target(peers.OPERATIONS, 1 / 12), Target(peers.DENSE, 1.5)],
        ),
        row(
            name="threshold-reported",
            what="the same, (index, value) reported",
            density=density,
            threads=threads,
            contenders=peers.reported,
            targets=[Target(peers.UNREPORTED, 1.25)],
            reported_bytes=8,
        ),
    ]


def subject(threads: int) -> Subject:
    """Build the whole table, on one thread and on all."""
    return Subject(
        rows=[
            row
            for n in sorted({1, threads})
            for density in (0.001, 0.01)
            for row in rows(density, n)
        ]
    )
