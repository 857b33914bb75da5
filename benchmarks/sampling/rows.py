"""Orders and draws against NumPy's and torch's, on one thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.sampling import peers
from subgrad_fast.bench.harness import Contender, Row, Subject, Target

FEW, MANY = 10**6, 10**8


def row(
    *,
    name: str,
    title: str,
    build: Callable[[], list[Contender]],
    peer: str,
    limit: float,
    block: int = 1,
) -> Row:
    """One draw or order."""
    return Row(
        name=name,
        title=title,
        threads=1,
        build=build,
        targets=[Target(peer, limit)],
        block=block,
    )


def subject(_threads: int) -> Subject:
    """Build the whole table."""
    weighted = partial(peers.weighted, FEW, FEW)
    rows = [
        row(
            name="permutation",
            title="an order of 1e8",
            build=partial(peers.permutation, MANY),
            peer=peers.RANDPERM,
            limit=1 / 5,
        ),
        row(
            name="weighted-build",
            title="1e6 draws of 1e6 weights, with the table",
            build=partial(weighted, build=True),
            peer=peers.MULTINOMIAL,
            limit=1 / 6,
        ),
        row(
            name="weighted",
            title="1e6 draws of 1e6 weights, table at hand",
            build=partial(weighted, build=False),
            peer=peers.MULTINOMIAL,
            limit=1 / 20,
        ),
        row(
            name="weighted-distinct",
            title="128 different of 1e6 weights, table at hand",
            build=partial(peers.weighted_distinct, FEW, 128),
            peer=peers.CHOICE,
            limit=1 / 1000,
            block=20,
        ),
        row(
            name="distinct",
            title="128 different of 1e8",
            build=partial(peers.uniform_distinct, MANY, 128),
            peer=peers.CHOICE,
            limit=1 / 1.5,
            block=200,
        ),
        row(
            name="first-batch",
            title="the first 128 of 1e8 rows",
            build=partial(peers.first_batch, MANY, 128),
            peer=peers.MILLISECOND,
            limit=1,
            block=20,
        ),
    ]
    return Subject(rows=rows)
