"""Models as torch's own wrappers make them: the bits of torch's optimizer, in gloo processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.exchange.ranks import Run, running

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("torch is built without gloo", allow_module_level=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    yield from running(tmp_path_factory.mktemp("gloo"), "tests.optim.wrapper_jobs")


@pytest.mark.parametrize("job", ["ddp", "zero", "fsdp2"])
@pytest.mark.parametrize("world", [2, 3])
def test_wrapper(run: Run, world: int, job: str) -> None:
    run(job, world)


@pytest.mark.parametrize("use_orig_params", [False, True])
def test_fsdp1(run: Run, use_orig_params: bool) -> None:
    run("fsdp1", 2, use_orig_params=use_orig_params)


def test_fsdp2_in_one_process(run: Run) -> None:
    run("fsdp2_alone", 1)


@pytest.mark.parametrize("world", [2, 3])
def test_fsdp2_within_a_bound(run: Run, world: int) -> None:
    run("fsdp2_clipped", world)


@pytest.mark.parametrize(("world", "with_fsdp"), [(2, False), (4, True)])
def test_tensor_parallel(run: Run, world: int, with_fsdp: bool) -> None:
    run("tensor_parallel", world, with_fsdp=with_fsdp)


def test_sequence_parallel(run: Run) -> None:
    run("sequence_parallel", 2)


@pytest.mark.parametrize(
    ("saved", "loaded"),
    [("ours", "ours"), ("torch", "ours"), ("ours", "torch"), ("average", "average")],
)
def test_checkpoint_of_two_processes_in_three(
    run: Run, saved: str, loaded: str, tmp_path: Path
) -> None:
    run("save", 2, optimizer=saved, folder=str(tmp_path))
    plain = run("load", 2, optimizer="torch" if saved != "average" else saved, folder=str(tmp_path))
    for found in run("load", 3, optimizer=loaded, folder=str(tmp_path)):
        for got, want in zip(found, plain[0], strict=True):
            for a, b in zip(got, want, strict=True):
                assert np.array_equal(a, b)
        assert any(np.any(x != 0.0) for x in found[1])


def test_checkpoint_of_a_thresholded_step(run: Run, tmp_path: Path) -> None:
    run("save", 2, optimizer="threshold", folder=str(tmp_path))
    two = run("load", 2, optimizer="threshold", folder=str(tmp_path))
    for found in run("load", 3, optimizer="threshold", folder=str(tmp_path)):
        for got, want in zip(found, two[0], strict=True):
            for a, b in zip(got, want, strict=True):
                assert np.array_equal(a, b)
