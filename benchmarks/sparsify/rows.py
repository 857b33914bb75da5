"""Making weights zero: what L1 costs within the step, and thresholds, patterns and masks alone.

All rows are ResNet-50's 25.6M float32 on all threads.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.sparsify import peers
from subgrad_fast.bench.harness import OURS, Contender, Row, Subject, Target

ELEMENTS = 25_557_032


def row(
    *,
    name: str,
    title: str,
    build: Callable[[], list[Contender]],
    peer: str,
    limit: float,
    element_bytes: int,
    element_reads: int,
    threads: int,
) -> Row:
    """One function; both sides must move at least `element_bytes` an element, and read so many
    of them."""
    return Row(
        name=name,
        title=title,
        threads=threads,
        build=build,
        targets=[Target(peer, limit)],
        block=3,
        moved_bytes=dict.fromkeys((OURS, peer), element_bytes * ELEMENTS),
        read_bytes=element_reads * ELEMENTS,
    )


def subject(threads: int) -> Subject:
    """Build the whole table."""
    rows = [
        row(
            name="l1",
            title="the step with `l1`, momentum 0.9, weight decay",
            build=peers.l1,
            peer=peers.PLAIN,
            limit=1.05,
            element_bytes=20,
            element_reads=12,
            threads=threads,
        ),
        row(
            name="soft",
            title="`soft_threshold_`",
            build=peers.soft,
            peer=peers.SOFT,
            limit=1.0,
            element_bytes=8,
            element_reads=4,
            threads=threads,
        ),
        row(
            name="group",
            title="`group_soft_threshold_`, rows",
            build=peers.group,
            peer=peers.GROUP,
            limit=1.0,
            element_bytes=8,
            element_reads=4,
            threads=threads,
        ),
        row(
            name="hard",
            title="`hard_threshold_`, a tenth of each tensor",
            build=peers.hard,
            peer=peers.HARD,
            limit=1 / 5,
            element_bytes=12,
            element_reads=8,
            threads=threads,
        ),
        row(
            name="2:4",
            title="`n_m_`, 2:4",
            build=peers.n_m,
            peer=peers.N_M,
            limit=1 / 5,
            element_bytes=8,
            element_reads=4,
            threads=threads,
        ),
        row(
            name="mask",
            title="`apply_mask_`, half of the entries",
            build=peers.mask,
            peer=peers.MASK,
            limit=1.0,
            element_bytes=9,
            element_reads=5,
            threads=threads,
        ),
    ]
    return Subject(rows=rows)
