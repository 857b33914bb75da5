"""The dense step where cores are not always there, and where memory lies on pages of other sizes.

Rows named `busy-*` time the step of a 235K MLP in a real training loop, on a process that is pinned
to one processor and beside a process that spins on the second; `quiet` is the same with neither.
`pages` is one large step, `kept` backward, step and `zero_grad` of two large layers.
"""

from __future__ import annotations

import contextlib
import sys
import time
from functools import partial

from benchmarks.memory import busy, pages
from subgrad_fast.bench.harness import Row, Subject, Target
from subgrad_fast.bench.sgd import FUSED


def busy_rows() -> list[Row]:
    """Build the rows of which all contenders are disturbed alike."""

    def row(name: str, title: str, circumstances: busy.Circumstances, *targets: Target) -> Row:
        return Row(
            name=name,
            title=f"in the loop: a 235K MLP, {title}",
            threads=2,
            build=partial(busy.training, circumstances),
            targets=targets,
            block=20,
            budget_s=20,
        )

    asked = Target(FUSED, 1 / 4), Target(busy.SERIAL, 1.3), Target(busy.ALONE, 1.3)
    quiet = FUSED, busy.SERIAL, busy.ALONE
    return [
        row("busy-pinned", "pinned to one processor", busy.pinned, *asked),
        row("busy-competitor", "a process spins on the second processor", busy.beside, *asked),
        row("quiet", "nobody else", contextlib.nullcontext, *(Target(n) for n in quiet)),
    ]


def page_rows(threads: int) -> list[Row]:
    """Build the rows of which ours has its memory where this library puts it."""
    return [
        Row(
            name="pages-50m",
            title="a step on 1 x 50M float32, huge pages",
            threads=threads,
            build=partial(pages.steps, 50_000_000),
            targets=[Target(FUSED, 0.75), Target(pages.SMALL)],
            block=3,
            budget_s=20,
        ),
        Row(
            name="kept-4096",
            title="2 x Linear(4096), batch 8: backward, step, `zero_grad`, `keep_memory()`",
            threads=threads,
            build=partial(pages.loops, threads),
            targets=[Target(FUSED, 0.6), Target(pages.AS_IT_IS)],
            block=3,
            budget_s=30,
        ),
    ]


def subject(threads: int) -> Subject:
    """Return the rows that this machine can run; `threads` are torch's."""
    return Subject(
        rows=[*(busy_rows() if threads > 1 else []), *page_rows(threads)],
        run_block=partial(busy.run, clock=time.perf_counter_ns),
        missing=None if sys.platform == "linux" else "The rows need Linux",
    )
