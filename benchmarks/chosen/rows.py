"""The step on a fixed support of half a per cent and of 1%, against steps on all weights.

A step is `optimizer.step()` with momentum 0.9 for ResNet-50's 161 tensors, 25.6M float32 weights
whose gradients are there. The support is chosen by their magnitudes.
"""

from __future__ import annotations

from functools import partial

from benchmarks.chosen import peers
from subgrad_fast.bench.harness import OURS, Row, Subject, Target

WEIGHTS = 25_557_032
LINE = 64
"""Bytes that memory hands out at once: what a chosen weight costs of each array that it is in."""


def moved_bytes(density: float) -> dict[str, int]:
    """What must move: lines of gradient and parameter, momentum and indices; or whole arrays."""
    chosen = round(density * WEIGHTS)
    dense = 20 * WEIGHTS
    return {OURS: (3 * LINE + 12) * chosen, peers.FUSED: dense, peers.OURS_DENSE: dense}


def subject(threads: int) -> Subject:
    """Build the whole table."""
    kinds = [
        ("0.5%", "a step on 0.5% of ResNet-50's weights", 0.005, None, 1 / 5),
        ("1.0%", "a step on 1% of ResNet-50's weights", 0.01, None, 1 / 3),
        ("clip-0.5%", "clipped and stepped, 0.5% of ResNet-50's weights", 0.005, 1.0, 1 / 5),
    ]
    rows = [
        Row(
            name=f"chosen-{name}",
            title=title,
            threads=n,
            build=partial(peers.contenders, density, max_norm),
            targets=[Target(peers.FUSED, limit), Target(peers.OURS_DENSE)],
            block=2,
            moved_bytes=moved_bytes(density) if max_norm is None else {},
        )
        for name, title, density, max_norm, limit in kinds
        for n in sorted({1, threads})
    ]
    return Subject(rows=rows)
