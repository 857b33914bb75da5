"""Selection by magnitude against torch's.

Rows named `top-*` have heavy-tailed values, as gradients do; those named `adversary-*` what a
sample of the array says little about.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.select import peers
from benchmarks.select.workloads import ADVERSARIES
from subgrad_fast.bench.harness import OURS, Row, Subject, Target
from subgrad_fast.bench.workloads import Values, heavy_tailed

ELEMENTS = 25_600_000


def row(
    *,
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
    return Row(
        name=name,
        title=f"top {share:.1%} of 25.6M {what} ({moved / ELEMENTS:.2f} bytes an element)",
        threads=threads,
        build=partial(peers.top, values, ELEMENTS, k),
        targets=[Target(peers.TOPK, limit)],
        block=1,
        budget_s=12,
        moved_bytes={OURS: moved},
        read_bytes=4 * ELEMENTS,
    )


def rows(threads: int) -> list[Row]:
    """The usual arrays, then the adversaries."""
    usual = [
        row(
            name=f"top-{share:.1%}",
            what="heavy-tailed float32",
            values=heavy_tailed,
            share=share,
            limit=1 / 20,
            threads=threads,
        )
        for share in (0.001, 0.01)
    ]
    adversaries = [
        row(
            name=f"adversary-{name.replace(' ', '-')}",
            what=f"float32, {name}",
            values=values,
            share=0.01,
            limit=1 / 5,
            threads=threads,
        )
        for name, values in ADVERSARIES.items()
    ]
    return usual + adversaries


def subject(threads: int) -> Subject:
    """Build the whole table, on one thread and on all."""
    return Subject(rows=[row for n in sorted({1, threads}) for row in rows(n)])
