"""Optimizers of DTensors, in groups of one to four gloo processes, against whole tensors."""

# ruff: noqa: E402
from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.exchange.ranks import JobError, Run, running

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("torch is built without gloo", allow_module_level=True)

from tests.optim.dtensor_jobs import CHOICES, TERMS, layouts

ONE_DIMENSION = ("rows", "columns", "replicas")
LAYOUTS = [(world, name) for world in (1, 2, 3) for name in ONE_DIMENSION]
LAYOUTS += [(4, name) for name in layouts(4) if name not in ONE_DIMENSION]
LAYOUTS += [(3, "replicas of rows"), (2, "rows of rows")]

layout = pytest.mark.parametrize(("world", "layout"), LAYOUTS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    yield from running(tmp_path_factory.mktemp("gloo"), "tests.optim.dtensor_jobs")


@layout
def test_steps_are_those_on_whole_tensors(run: Run, world: int, layout: str) -> None:
    run("steps", world, layout=layout, terms="rule", dtype="float32")


@pytest.mark.parametrize("terms", TERMS)
def test_all_terms(run: Run, terms: str) -> None:
    run("steps", 2, layout="columns", terms=terms, dtype="float32")
    run("steps", 3, layout="rows", terms=terms, dtype="float32")


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_other_dtypes(run: Run, dtype: str) -> None:
    run("steps", 2, layout="rows", terms="rule", dtype=dtype)
    run("steps", 2, layout="columns", terms="ema", dtype=dtype)


def test_a_job_that_is_wrong_is_seen(run: Run) -> None:
    with pytest.raises(JobError, match="KeyError"):
        run("steps", 2, layout="rows", terms="none such", dtype="float32")


@layout
def test_bits_and_states_of_torchs(run: Run, world: int, layout: str) -> None:
    run("like_torch", world, layout=layout)


def test_no_collective_where_nothing_asks(run: Run) -> None:
    run("no_collective", 2)


@layout
@pytest.mark.parametrize("bound", ["global", "tensor"])
def test_bounds(run: Run, world: int, layout: str, bound: str) -> None:
    norms = run("bounds", world, layout=layout, bound=bound, foreach=None)
    assert len({*norms}) == 1
    assert norms[0] > 3.0


def test_other_bounds(run: Run) -> None:
    run("bounds", 3, layout="rows", bound="group", foreach=None)
    run("bounds", 2, layout="rows", bound="measured", foreach=None)


def test_bounds_of_torchs_own_code(run: Run) -> None:
    run("bounds", 2, layout="rows", bound="global", foreach=False)
    run("bounds", 4, layout="rows of replicas", bound="tensor", foreach=False)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_norm_of_shards_replicas_and_plain_parameters(run: Run, world: int) -> None:
    run("mixed", world)


def test_norm_where_one_process_leaves_its_shard_to_torch(run: Run) -> None:
    run("covered_in_one", 2)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_not_finite_in_one_process(run: Run, world: int) -> None:
    run("not_finite", world)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("max_norm", [None, 3.0])
def test_gradients_that_wait_to_be_summed(
    run: Run, momentum: float, max_norm: float | None
) -> None:
    run("pending_gradients", 2, momentum=momentum, max_norm=max_norm)


def test_parameters_that_wait_to_be_summed_are_refused(run: Run) -> None:
    run("pending_parameters", 2)


@pytest.mark.parametrize("world", [1, 2])
def test_shards_that_are_replaced(run: Run, world: int) -> None:
    run("moved", world)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_averages(run: Run, dtype: str) -> None:
    run("averages", 2, dtype=dtype)


# --- a thresholded step ---------------------------------------------------------------------------


@layout
def test_a_threshold_for_each_shard(run: Run, world: int, layout: str) -> None:
    run("threshold_of_shards", world, layout=layout)


@pytest.mark.parametrize("choice", CHOICES)
def test_choices_of_one_threshold(run: Run, choice: str) -> None:
    kept = run(
        "threshold_together",
        3,
        layout="columns",
        choice=choice,
        integers="max_norm" in CHOICES[choice],
        dtype="float32",
    )
    assert (kept[0] == 0) == (choice == "none")


@layout
def test_one_threshold_over_processes(run: Run, world: int, layout: str) -> None:
    """Integers tie, so that it is told which of equals are chosen."""
    for choice, integers in (("few", True), ("many", True), ("corrected", False)):
        arguments = {"choice": choice, "integers": integers, "dtype": "float32"}
        run("threshold_together", world, layout=layout, **arguments)


def test_one_threshold_of_float64(run: Run) -> None:
    run("threshold_together", 2, layout="columns", choice="many", integers=True, dtype="float64")


@pytest.mark.parametrize("world", [2, 3])
def test_one_threshold_for_plain_parameters_too(run: Run, world: int) -> None:
    run("threshold_mixed", world)


def test_one_threshold_needs_one_mesh(run: Run) -> None:
    run("threshold_meshes", 4)


@pytest.mark.parametrize("world", [1, 2])
def test_state_of_a_thresholded_step(run: Run, world: int) -> None:
    run("threshold_state", world)
