"""A few seconds of each fuzzer, and the lives that once ended badly."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")  # what needs it is imported below

from tests.fuzz.runner import FAMILIES, run_batch

pytestmark = pytest.mark.torch

# Lives that have found a fault, and which.
REGRESSIONS = [
    ("threshold", 1795893747),  # a list that is longer than it says
    ("sparsify", 1795893742),  # masks of arrays without dimensions
    ("sampling", 1795944079),  # a message that shows a tensor without memory
    ("states", 20261173),  # a momentum buffer that is a number
    ("loading", 1795893642),  # batches counted on from the end of an epoch
    ("fork", 1795896662),  # a plan at work in the parent, not in the child
]


@pytest.mark.parametrize("family", FAMILIES)
def test_lives(family: str) -> None:
    tally = run_batch(family, 1, 1.0)
    assert not tally.faults, "\n\n".join(map(str, tally.faults))
    assert tally.counts["calls"] > 0


@pytest.mark.parametrize(("family", "seed"), REGRESSIONS)
def test_a_life_that_once_ended_badly(family: str, seed: int) -> None:
    tally = run_batch(family, seed, 0.0, most=1)
    assert not tally.faults, "\n\n".join(map(str, tally.faults))
