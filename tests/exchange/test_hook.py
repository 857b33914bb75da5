"""The communication hook in groups of 1, 2 and 3 gloo processes, against NumPy and plain DDP."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.bits import assert_same_bits
from tests.cases import DTYPES
from tests.exchange.agree import (
    Step,
    assert_as_in_numpy,
    assert_ranks_agree,
    assert_same_arrays,
    assert_same_training,
)
from tests.exchange.ranks import JobError, Ranks

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from subgrad_fast.distributed import SparseState, mean_state  # noqa: E402
from subgrad_fast.distributed.exchange import check_gradients  # noqa: E402

PLAIN = None
EVERYTHING = {"threshold": 0.0}


# --- Against NumPy ------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {"density": 0.1},
        {"density": 0.03, "scope": "bucket"},
        {"k": 30},
        {"k": 200, "scope": "bucket"},
        {"threshold": 2.0},
        {"threshold": 1e9},
        {"density": 0.1, "error_feedback": False},
    ],
    ids=str,
)
def test_against_numpy(ranks: Ranks, world: int, settings: Step) -> None:
    results = ranks.run("train", world, settings=settings)
    assert_ranks_agree(results)
    assert_as_in_numpy(results, settings)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
@pytest.mark.parametrize("settings", [{"density": 0.1}, {"threshold": 1.0}], ids=str)
def test_dtypes_against_numpy(ranks: Ranks, dtype: str, settings: Step) -> None:
    results = ranks.run("train", 3, settings=settings, dtype=dtype)
    assert_ranks_agree(results)
    assert_as_in_numpy(results, settings)
    wide = np.float64 if dtype == "float64" else np.float32
    assert all(r.dtype == wide for r in results[0]["residuals"].values())


OPTIONS = [
    {},
    {"gradient_as_bucket_view": True},
    {"static_graph": True},
    {"find_unused_parameters": True},
    {"find_unused_parameters": True, "branch": "sometimes"},
    {"accumulate": 3},
    {"bucket_cap_mb": 25},
    {"nap": 0.03},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_against_numpy(ranks: Ranks, options: Step) -> None:
    settings = {"density": 0.1}
    results = ranks.run("train", 3, settings=settings, steps=5, **options)
    assert_ranks_agree(results)
    assert_as_in_numpy(results, settings)


def test_the_reference_would_see_an_error(ranks: Ranks) -> None:
    results = ranks.run("train", 2, settings={"density": 0.1})
    with pytest.raises(AssertionError, match="average of"):
        assert_as_in_numpy(results, {"density": 0.11})
    results[1]["residuals"]["last.bias"][2] += 1
    with pytest.raises(AssertionError, match=r"rank 1, residual of last\.bias"):
        assert_as_in_numpy(results, {"density": 0.1})


def test_buckets_are_rebuilt_under_way(ranks: Ranks) -> None:
    # What makes residuals by parameter necessary is covered by the tests above.
    seen = ranks.run("train", 2, settings={"density": 0.1}, steps=3)[0]["seen"]
    assert seen[0]["buckets"] != seen[1]["buckets"] == seen[2]["buckets"]
    assert len(seen[1]["buckets"]) > 1


# --- Against DistributedDataParallel -------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_threshold_0_is_plain_ddp(ranks: Ranks, dtype: str) -> None:
    for world in (1, 2):
        plain = ranks.run("train", world, settings=PLAIN, dtype=dtype)
        hook = ranks.run("train", world, settings=EVERYTHING, dtype=dtype)
        assert_same_training(hook, plain)
        assert all((r == 0).all() for r in hook[-1]["residuals"].values())


@pytest.mark.parametrize("options", OPTIONS[1:], ids=str)
def test_threshold_0_is_plain_ddp_with(ranks: Ranks, options: Step) -> None:
    plain = ranks.run("train", 2, settings=PLAIN, **options)
    assert_same_training(ranks.run("train", 2, settings=EVERYTHING, **options), plain)


def test_a_higher_threshold_is_not_plain_ddp(ranks: Ranks) -> None:
    plain = ranks.run("train", 2, settings=PLAIN)
    with pytest.raises(AssertionError, match="gradient"):
        assert_same_training(ranks.run("train", 2, settings={"threshold": 0.01}), plain)


def test_three_ranks_differ_from_plain_ddp_in_rounding_only(ranks: Ranks) -> None:
    # gloo adds up in an order that depends on where an element lies.
    def averages(settings: Step | None, **options: Any) -> list[Step]:
        return ranks.run("train", 3, settings=settings, steps=2, **options)[0]["averaged"]

    plain, hook = averages(PLAIN), averages(EVERYTHING)
    for name, gradient in plain[0].items():
        np.testing.assert_allclose(hook[0][name], gradient, rtol=1e-5, atol=1e-4)
    # With other buckets (from the second step on) plain DDP differs from itself, the hook does not.
    again = averages(PLAIN, bucket_cap_mb=25)
    assert_same_arrays(again[0], plain[0], "step 0")
    assert any((again[1][name] != plain[1][name]).any() for name in plain[1])
    for mine, before in zip(averages(EVERYTHING, bucket_cap_mb=25), hook, strict=True):
        assert_same_arrays(mine, before, "other buckets")


def test_three_ranks_have_the_bits_of_plain_ddp_where_sums_are_exact(ranks: Ranks) -> None:
    plain = ranks.run("train", 3, settings=PLAIN, exact=True, steps=1)
    hook = ranks.run("train", 3, settings=EVERYTHING, exact=True, steps=1)
    assert_same_training(hook, plain)


def test_start_step_averages_densely(ranks: Ranks) -> None:
    settings = {"density": 0.1, "start_step": 3}
    plain = ranks.run("train", 3, settings=PLAIN, steps=3)
    dense = ranks.run("train", 3, settings=settings, steps=3)
    assert_same_training(dense, plain)
    assert dense[0]["sent"] == (0, 0, 3) and not dense[0]["residuals"]
    sparse = ranks.run("train", 3, settings=settings, steps=4)[0]
    assert sparse["sent"][0] > 0 and sparse["sent"][2] == 4 and sparse["residuals"]


# --- What users rely on -------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"density": 0.02}, {"threshold": 1.5}], ids=str)
def test_nothing_is_lost(ranks: Ranks, settings: Step) -> None:
    options = {"exact": True, "find_unused_parameters": True, "steps": 6}
    results = ranks.run("train", 2, settings=settings, **options)

    def lost(results: list[Step]) -> dict[str, float]:
        """What was given to the hook but is neither in the averages nor held back."""
        lost = {}
        for name, residual in results[0]["residuals"].items():
            given = sum(s["gradients"][name] for r in results for s in r["seen"])
            moved = [a[name] for a in results[0]["averaged"] if a[name] is not None]
            rest = sum(r["residuals"][name] for r in results)
            assert (residual != 0).any() or name.startswith("idle") or residual.size < 50
            lost[name] = float(np.abs(given - 2 * sum(moved) - rest).max())
        return lost

    assert set(lost(results).values()) == {0.0}
    results[0]["residuals"]["first.weight"][3, 3] += 0.25
    assert lost(results)["first.weight"] == 0.25


def test_a_rank_that_does_not_use_a_parameter_loses_nothing(ranks: Ranks) -> None:
    # In step 2 no rank uses the branch, and DistributedDataParallel leaves its gradient alone.
    options = {"find_unused_parameters": True, "branch": "sometimes", "steps": 3}
    results = ranks.run("train", 2, settings={"density": 0.1}, **options)
    assert results[0]["averaged"][2]["branch.weight"] is None
    before = ranks.run("train", 2, settings={"density": 0.1}, **{**options, "steps": 2})
    for now, then in zip(results, before, strict=True):
        held = then["residuals"]["branch.weight"]
        assert held.any()
        assert_same_bits(now["residuals"]["branch.weight"] + 0, held + 0)


def test_one_percent_trains(ranks: Ranks) -> None:
    def losses(settings: Step | None) -> tuple[float, float]:
        return ranks.run("classify", 3, settings=settings, steps=100)[0]

    before, dense = losses(PLAIN)
    _, by_tensor = losses({"density": 0.01})
    _, by_bucket = losses({"density": 0.01, "scope": "bucket"})
    _, dropped = losses({"density": 0.01, "error_feedback": False})
    print(f"loss {before:.3f}, then {dense=:.4f} {by_tensor=:.4f} {by_bucket=:.4f} {dropped=:.4f}")
    assert before > 2 and dense < 0.05 * before
    assert by_tensor < 0.1 * before and by_bucket < 0.1 * before
    # The control: the same traffic gets nowhere near without error feedback.
    assert dropped > 2 * max(by_tensor, by_bucket)


def test_traffic(ranks: Ranks) -> None:
    result = ranks.run("train", 2, settings={"density": 0.1}, steps=3)[0]
    entries, sent_bytes, steps = result["sent"]
    sizes = [p.size for p in result["parameters"].values()]
    assert entries == sum(max(1, int(0.1 * n + 0.5)) for n in sizes) and steps == 3
    buckets = len(result["seen"][-1]["buckets"])
    assert 8 * entries <= sent_bytes < 8 * (entries + 16 * buckets)


def test_buckets_of_more_than_2_to_31_elements_are_numbered_in_64_bits(ranks: Ranks) -> None:
    settings = {"density": 0.1}
    narrow = ranks.run("train", 2, settings=settings)
    wide = ranks.run("train_wide", 2, settings=settings)
    assert_same_training(wide, narrow)
    assert wide[0]["sent"][0] == narrow[0]["sent"][0]
    assert wide[0]["sent"][1] == narrow[0]["sent"][1] // 8 * 12


def test_ranks_with_uneven_batches(ranks: Ranks) -> None:
    results = ranks.run("uneven", 3, settings={"density": 0.1})
    for rank, result in enumerate(results):
        assert_same_arrays(result, results[0], f"rank {rank}")


# --- Saving and resuming ------------------------------------------------------------------------


def saves_of(results: list[Step], step: int, *names: str) -> list[Step]:
    return [{"step": step, **{name: r[name] for name in names}} for r in results]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_resuming_gives_the_same_bits(ranks: Ranks, dtype: str) -> None:
    common = {"settings": {"density": 0.05}, "dtype": dtype}
    whole = ranks.run("train", 3, steps=5, **common)
    half = ranks.run("train", 3, steps=2, **common)
    saves = saves_of(half, 2, "net", "optimizer", "state")
    resumed = ranks.run("resume", 3, steps=5, each_saves=saves, **common)
    for got, want in zip(resumed, whole, strict=True):
        assert_same_arrays(got["parameters"], want["parameters"], "parameter")
        assert_same_arrays(got["residuals"], want["residuals"], "residual")
        assert got["sent"] == want["sent"]
    # The control: the residuals do matter.
    saves = saves_of(half, 2, "net", "optimizer")
    forgetful = ranks.run("resume", 3, steps=5, each_saves=saves, **common)
    with pytest.raises(AssertionError, match="differ"):
        assert_same_arrays(forgetful[0]["parameters"], whole[0]["parameters"], "parameter")


def test_a_pickled_state_wants_a_model(ranks: Ranks) -> None:
    results = ranks.run("train", 2, settings={"density": 0.05}, steps=2)
    pickles = [result["pickled"] for result in results]
    again = ranks.run("unpickled", 2, each_pickled=pickles)
    assert "call its bind(model) after unpickling it" in again[0]["complaint"]
    assert again[0]["step"] == 3
    assert_same_arrays(again[1]["averaged"], again[0]["averaged"], "rank 1")
    # Its residuals went into the gradients.
    fresh = ranks.run("train", 2, settings={"density": 0.05}, steps=0)
    others = ranks.run("unpickled", 2, each_pickled=[r["pickled"] for r in fresh])
    with pytest.raises(AssertionError, match="differ"):
        assert_same_arrays(again[0]["averaged"], others[0]["averaged"], "average")


def test_states_that_do_not_fit(ranks: Ranks) -> None:
    _, messages = ranks.run("states", 2)
    advice = "save one per rank, and combine them with mean_state if the world size changes"
    assert messages == [
        f"state_dict: saved by rank 2 of 2, loaded by rank 1 of 2; {advice}",
        f"state_dict: saved by rank 1 of 9, loaded by rank 1 of 2; {advice}",
        "state_dict: unknown version 2",
        "residuals: the model has no parameter 'gone'",
        "residuals['weight']: expected shape (2, 3), got (3, 2)",
    ]


def test_mean_state() -> None:
    def state(rank: int, world: int, step: int, **residuals: list[float]) -> Step:
        held = {name: torch.tensor(r) for name, r in residuals.items()}
        return {
            "version": 1, "rank": rank, "world_size": world, "step": step, "residuals": held
        }  # fmt: skip

    mean = mean_state([state(1, 2, 4, a=[4.0, 6.0], b=[3.0]), state(0, 2, 4, a=[2.0, -6.0])])
    assert mean["rank"] is None and mean["step"] == 4
    assert mean["residuals"]["a"].tolist() == [3.0, 0.0]
    assert mean["residuals"]["b"].tolist() == [1.5]
    for states in ([], [state(1, 2, 4)], [state(0, 2, 4), state(0, 2, 4)]):
        with pytest.raises(ValueError, match="expected one of each rank"):
            mean_state(states)
    with pytest.raises(ValueError, match="after the same step"):
        mean_state([state(0, 2, 4), state(1, 2, 5)])


# --- Errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [None, "3", -1, 2**70])
def test_a_state_is_loaded_whole_or_not_at_all(step: Any) -> None:
    """One of all ranks' mean, which asks no process group who this is."""
    model = torch.nn.Linear(2, 1)
    state = SparseState(model, density=0.5)
    residuals = {"weight": torch.ones(1, 2)}
    saved = {"version": 1, "rank": None, "world_size": 2, "step": 4, "residuals": residuals}
    with pytest.raises((TypeError, ValueError), match=r"^state_dict\['step'\]"):
        state.load_state_dict({**saved, "step": step})
    assert (state.step, state.residuals) == (0, {})
    state.load_state_dict(saved)
    assert state.step == 4
    assert torch.equal(state.residuals["weight"], residuals["weight"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "threshold, density, k: expected exactly one of them, got none"),
        ({"density": 0.1, "k": 3}, "expected exactly one of them, got density and k"),
        ({"threshold": -1.0}, "threshold: expected a number >= 0, got -1.0"),
        ({"threshold": float("nan")}, "threshold: expected a number >= 0, got nan"),
        ({"density": 1.5}, "density: expected a number from 0 to 1, got 1.5"),
        ({"density": float("nan")}, "density: expected a number from 0 to 1, got nan"),
        ({"k": -1}, "k: expected an integer from 0 to"),
        ({"k": 1, "scope": "layer"}, "scope: expected 'tensor' or 'bucket', got 'layer'"),
        (
            {"k": 1, "wire_dtype": torch.float32},
            "wire_dtype: expected torch.bfloat16, torch.float16",
        ),
        ({"k": 1, "wire_dtype": "bfloat16"}, "or None, got 'bfloat16'"),
        ({"k": 1, "start_step": -1}, "start_step: expected an integer from 0 to"),
    ],
    ids=str,
)
def test_wrong_settings(settings: Step, message: str) -> None:
    with pytest.raises(ValueError, match="expected") as error:
        SparseState(torch.nn.Linear(2, 2), **settings)
    assert message in str(error.value)


def test_a_state_wants_a_module() -> None:
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got list"):
        SparseState([], density=0.1)  # type: ignore[arg-type]


def test_gradients_on_a_device() -> None:
    with pytest.raises(ValueError, match="bucket 3: expected gradients on the CPU, got meta"):
        check_gradients(torch.empty(2, device="meta"), [], 3)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("sparse", "TypeError: bucket 0: expected dense gradients, got torch.sparse_coo"),
        ("complex", "TypeError: bucket 0: expected gradients of dtype float32, float64, bfloat16"),
        ("other model", "ValueError: state: bucket 0 has a parameter of shape (4, 4) that"),
        ("settings", "ValueError: threshold, density, k: expected exactly one of them, got"),
        (
            "merge",
            "RuntimeError: Got the following error when running the callback: ValueError: broken",
        ),
    ],
)
def test_backward_says_what_is_wrong(ranks: Ranks, case: str, message: str) -> None:
    for answer in ranks.run("complaint", 2, case=case):
        assert answer.startswith(message), answer


def test_a_failing_rank_is_reported_and_replaced(ranks: Ranks) -> None:
    with pytest.raises(JobError, match=r"rank 1(.|\n)*on purpose"):
        ranks.run("fail_on_rank_1", 3)
    assert len(ranks.run("states", 1)) == 1
