"""The samplers' rows for fixed seeds: on every instruction set, for any number of threads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import subgrad_fast as sf


def _updated() -> sf.WeightedSampler:
    sampler = sf.WeightedSampler(np.arange(1000), seed=1)
    sampler.update(3, 1e4)
    return sampler


GOLDEN: dict[str, tuple[Callable[[], np.ndarray], list[int]]] = {
    "Fisher-Yates": (
        lambda: sf.Permutation(10, seed=1, epoch=2)[:],
        [2, 3, 0, 6, 4, 1, 8, 9, 7, 5],
    ),
    "network": (
        lambda: sf.Permutation(1000, seed=1, epoch=2)[:6],
        [918, 398, 926, 595, 180, 224],
    ),
    "large": (
        lambda: sf.Permutation(2**62 + 1, seed=1, epoch=2)[-4:],
        [1703708123687668090, 1080694609416347426, 1468860665808206600, 549829464728719894],
    ),
    "blocks": (
        lambda: sf.Permutation(
            1000, seed=1, epoch=3, reverse_pairs=True, block_size=64, blocks_together=3
        )[:6],
        [977, 999, 961, 960, 989, 997],
    ),
    "choose": (
        lambda: sf.choose(10**8, 6, seed=1, draw=2),
        [19782934, 8862225, 18960446, 810811, 91849856, 69474718],
    ),
    "replacement": (
        lambda: sf.BatchSampler(10**6, 8, seed=1, replacement=True).batch(2),
        [859573, 808664, 888814, 277601, 681458, 472506, 584531, 846933],
    ),
    "weighted": (
        lambda: sf.WeightedSampler(np.arange(1000), 8, seed=1).batch(2),
        [818, 977, 594, 865, 610, 442, 807, 777],
    ),
    "weighted draws": (
        lambda: sf.WeightedSampler(np.arange(1000), seed=1).draw(6),
        [686, 284, 579, 454, 508, 680],
    ),
    "race": (
        lambda: sf.WeightedSampler(np.arange(100), 8, seed=1, replacement=False).batch(2),
        [5, 22, 99, 81, 88, 94, 35, 57],
    ),
    "rejection": (
        lambda: sf.WeightedSampler(np.arange(1000), seed=1, replacement=False).draw(6),
        [778, 758, 792, 671, 707, 771],
    ),
    "tree": (
        lambda: _updated().draw(6),
        [133, 520, 755, 666, 705, 820],
    ),
    "balanced": (
        lambda: sf.ClassBalancedSampler(np.arange(100) % 7, 8, seed=1).batch(2),
        [47, 69, 46, 13, 39, 3, 63, 21],
    ),
    "stratified": (
        lambda: sf.StratifiedSampler(np.arange(100) % 7, 8, seed=1).batch(2),
        [95, 72, 17, 89, 10, 63, 36, 20],
    ),
    "quotas": (
        lambda: sf.StratifiedSampler(
            np.arange(100) % 7, 8, quotas=[2, 1, 0, 1, 1, 2, 1], seed=1
        ).batch(2),
        [95, 71, 20, 12, 17, 84, 28, 75],
    ),
    "groups": (
        lambda: sf.GroupSampler(np.arange(100) % 7, 2, 3, seed=1).batch(2),
        [88, 46, 11, 50, 64, 36],
    ),
    "rounds": (
        lambda: sf.GroupSampler(np.arange(100) % 7, 2, 3, go_round=True, seed=1).batch(3),
        [20, 27, 69, 64, 1, 71],
    ),
}


@pytest.mark.parametrize("threads_used", [1, 3])
@pytest.mark.parametrize("name", GOLDEN)
def test_golden(isa: str, threads: Callable[[int], None], name: str, threads_used: int) -> None:
    """Orders are a promise: a saved run must continue after an update of the library."""
    threads(threads_used)
    make, rows = GOLDEN[name]
    assert make().tolist() == rows
