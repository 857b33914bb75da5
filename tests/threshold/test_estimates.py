"""An estimated density keeps its word, whatever the elements are: half to twice what was asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast import _core
from tests.bits import assert_same_bits
from tests.cases import heavy_tailed

Draw = Callable[[np.random.Generator, int], np.ndarray]


def rows(rng: np.random.Generator, n: int) -> np.ndarray:
    """Rows of 64 that are zero but for one in thirty: the gradient of a table."""
    named = rng.random(n // 64 + 1) < 1 / 30
    return (rng.standard_normal(n // 64 + 1) * named).repeat(64)[:n]


ELEMENTS: dict[str, Draw] = {
    "equal": lambda _, n: np.ones(n),
    "two values": lambda rng, n: 1.0 + (rng.random(n) < 1 / 3000),
    "half of it zero": lambda _, n: np.where(np.arange(n) < n // 2, 0.0, 1.0),
    "heavy tails": lambda rng, n: heavy_tailed(n, int(rng.integers(1 << 30))),
    "ascending": lambda rng, n: np.sort(rng.standard_normal(n)),
    "periodic": lambda _, n: 1.0 + 8.0 * (np.arange(n) % 1024 == 0),
    "runs of a line": lambda rng, n: rng.standard_t(2, n // 16 + 1).repeat(16)[:n],
    "rows of a table": rows,
}


@pytest.mark.parametrize("selector", ["sampled", "reused"])
@pytest.mark.parametrize(
    ("n", "density", "steps"),
    [(3_000, 0.001, 40), (100_000, 0.001, 300), (2_000_000, 0.01, 8), (2_000_000, 0.001, 8)],
)
@pytest.mark.parametrize("name", ELEMENTS)
def test_what_is_kept_is_near_what_was_asked(
    name: str, n: int, density: float, steps: int, selector: str
) -> None:
    rng = np.random.default_rng(0)
    chosen: Any = sf.Reused(density) if selector == "reused" else sf.Sampled(density)
    w, v = np.zeros(n, np.float32), np.zeros(n, np.float32)
    wanted, kept = round(density * n), []
    for step in range(steps):
        if step % 50 == 0:
            g = ELEMENTS[name](rng, n).astype(np.float32)
        kept += sf.threshold_step(w, g, v, lr=1e-3, selector=chosen).kept
    assert wanted / 2 <= min(kept) <= max(kept) <= 2 * wanted, kept


def test_of_elements_that_tie_the_first_are_kept() -> None:
    n = 400_000
    w, g, v = np.zeros(n, np.float32), np.ones(n, np.float32), np.zeros(n, np.float32)
    result = sf.threshold_step(w, g, v, lr=1.0, selector=sf.Sampled(0.01), emit="int64")
    (indices, _, threshold) = result.selections[0]
    np.testing.assert_array_equal(indices, np.arange(len(indices)))
    assert threshold == 1.0
    assert abs(len(indices) / 4000 - 1) < 0.05
    # The control: by its threshold alone it would have kept all.
    assert sf.threshold_step(w, g, np.zeros_like(v), lr=1.0, threshold=threshold).kept == [n]


def test_ties_of_a_later_array_are_parted_where_they_are() -> None:
    n = 300_000
    grads = [np.full(n, 0.5, np.float32), np.ones(n, np.float32)]
    w, v = ([np.zeros_like(g) for g in grads] for _ in range(2))
    result = sf.threshold_step(w, grads, v, lr=1.0, selector=sf.Sampled(0.25), scope="global")
    assert result.kept[0] == 0
    assert abs(result.kept[1] / (n / 2) - 1) < 0.01
    assert not w[1][result.kept[1] :].any()


def test_a_last_threshold_that_has_aged_is_found_out_before_it_is_used() -> None:
    n = 200_000
    g = heavy_tailed(n, 1).astype(np.float32)
    exact = np.sort(np.abs(g))[-2000]
    for last, stays in ((exact, True), (exact * np.float32(1.05), True), (exact / 20, False)):
        chosen = sf.Reused(0.01, [float(last)])
        result = sf.threshold_step(np.zeros_like(g), g, np.zeros_like(g), lr=1.0, selector=chosen)
        assert (result.thresholds == [last]) == stays
        assert abs(result.kept[0] / 2000 - 1) < 0.5


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_the_same_elements_everywhere(isa: str, threads: Any, scope: str, count: int) -> None:
    rng = np.random.default_rng(3)
    grads = [np.round(rng.standard_t(2, n), 1).astype(np.float32) for n in (250_001, 3, 0, 90_000)]

    def stepped() -> list[np.ndarray]:
        w = [np.zeros_like(g) for g in grads]
        v = [np.zeros_like(g) for g in grads]
        sf.threshold_step(w, grads, v, lr=1.0, selector=sf.Sampled(0.02), scope=scope)
        return w

    threads(count)
    here = stepped()
    _core.testing.select_isa("portable")
    threads(1)
    for a, b in zip(here, stepped(), strict=True):
        assert_same_bits(a, b)
