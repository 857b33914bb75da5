"""Gradients that are not finite, and held-back ones beyond what 16 bits can say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.exchange.agree import (
    assert_as_in_numpy,
    assert_ranks_agree,
    assert_same_arrays,
)
from tests.exchange.ranks import Ranks

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from subgrad_fast.distributed import SparseState  # noqa: E402

# Gradients get ready from the last layer to the first: when that of `conv.weight` turns out not to
# be finite, other buckets have been sent.
BAD = [
    {"step": 2, "rank": 1, "name": "conv.weight", "value": math.inf},
    {"step": 2, "rank": 0, "name": "last.bias", "value": math.nan},
    {"step": 1, "rank": 1, "name": "first.weight", "value": -math.inf},
]
SETTINGS = [
    {"density": 0.1},
    {"k": 20, "scope": "bucket"},
    {"threshold": 0.0},
    {"density": 0.1, "error_feedback": False},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_bad_step_is_as_if_it_had_not_been(
    ranks: Ranks, bad: dict[str, Any], settings: dict[str, Any]
) -> None:
    common: dict[str, Any] = {"settings": settings, "steps": 4}
    got = ranks.run("train", 3, bad=bad, **common)
    want = ranks.run("train", 3, omit=bad["step"], **common)
    assert_ranks_agree(got)
    for mine, other in zip(got, want, strict=True):
        assert mine["skipped"] == [step == bad["step"] for step in range(4)]
        for average in mine["averaged"].pop(bad["step"]).values():
            assert np.isnan(average.astype(np.float64)).all()
        assert len(mine["averaged"]) == len(other["averaged"]) == 3
        for average, same in zip(mine["averaged"], other["averaged"], strict=True):
            assert_same_arrays(average, same, "average of")
        assert_same_arrays(mine["residuals"], other["residuals"], "residual of")
        assert_same_arrays(mine["parameters"], other["parameters"], "parameter")
        assert mine["sent"] == other["sent"] and mine["sent"][2] == 3


def test_a_first_step_that_is_bad_leaves_nothing_behind(ranks: Ranks) -> None:
    bad = {"step": 0, "rank": 1, "name": "conv.weight", "value": math.inf}
    for result in ranks.run("train", 2, settings={"density": 0.1}, steps=1, bad=bad):
        assert result["residuals"] == {} and result["sent"][2] == 0


def test_a_good_step_is_not_skipped(ranks: Ranks) -> None:
    """The control: a gradient of 3e38 is as finite as any."""
    bad = {"step": 2, "rank": 1, "name": "conv.weight", "value": 3e38}
    results = ranks.run("train", 2, settings={"density": 0.1}, steps=3, bad=bad)
    assert not any(any(result["skipped"]) for result in results)
    assert_as_in_numpy(results, {"density": 0.1})


def test_a_sum_that_overflows_is_skipped(ranks: Ranks) -> None:
    """3e38 that is held back, and 3e38 more."""
    bad = {"step": 1, "rank": 1, "name": "conv.weight", "value": 3e38}
    common: dict[str, Any] = {"settings": {"threshold": 3.3e38}, "steps": 2}
    first = ranks.run("train", 2, bad=bad, **common)
    saves = [{"step": 1, **{n: r[n] for n in ("net", "optimizer", "state")}} for r in first]
    again = ranks.run("resume", 2, each_saves=saves, bad=bad, **common)
    for mine, before in zip(again, first, strict=True):
        assert mine["skipped"] == [True]
        assert_same_arrays(mine["residuals"], before["residuals"], "residual of")


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("bad", [(3, 1), (20, 0)], ids=str)
def test_one_bad_batch_costs_a_scaler_one_step(
    ranks: Ranks, world: int, bad: tuple[int, int]
) -> None:
    plain = ranks.run("scaled", world, settings=None, bad=bad)
    ours = ranks.run("scaled", world, settings={"density": 0.05}, bad=bad)
    for mine, theirs in zip(ours, plain, strict=True):
        assert mine[:2] == theirs[:2] == (39, 32768.0)
        assert len(mine[2]) == 2 and all(np.isfinite(held).all() for held in mine[2])


def test_residuals_that_are_not_finite_are_not_loaded() -> None:
    state = SparseState(torch.nn.Linear(2, 1), density=0.5)
    residuals = {"weight": torch.tensor([[1.0, math.inf]])}
    saved = {"version": 1, "rank": None, "world_size": 2, "step": 4, "residuals": residuals}
    with pytest.raises(ValueError, match=r"^residuals\['weight'\]: expected finite numbers"):
        state.load_state_dict(saved)
    assert (state.step, state.residuals) == (0, {})


def test_what_float16_cannot_send_is_held(ranks: Ranks) -> None:
    results = ranks.run("beyond_float16", 2, steps=40)
    for result in results:
        assert np.abs(result["rest"]).max() > 65504
        assert np.abs(result["moved"]).max() > 65504  # more than once at its largest
        given = sum(r["given"] for r in results)
        rest = sum(r["rest"] for r in results)
        assert (given == 2 * result["moved"] + rest).all()
