"""distributed_training.py under torchrun: 2 and 4 ranks, and 4 that go on after 2 were killed."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
pytest.importorskip("mlxtend")
if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("torch is built without gloo", allow_module_level=True)

SECONDS = 300


@contextlib.contextmanager
def started(ranks: int, *arguments: Any) -> Iterator[subprocess.Popen[str]]:
    """The example under torchrun, which ends its ranks when it is told to end."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, *torchrun, str(ROOT / "examples/distributed_training.py")]
        + [str(argument) for argument in arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=SECONDS)


def run(ranks: int, *arguments: Any) -> list[str]:
    """The lines that the example prints."""
    with started(ranks, *arguments) as process:
        out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, err
    return out.splitlines()


def accuracy(line: str) -> float:
    found = re.match(r"epoch \d+: ([\d.]+)%", line)
    assert found, line
    return float(found[1])


def kill_after_the_first_save(folder: Path, ranks: int) -> None:
    with started(ranks, "--epochs", 1000, "--folder", folder) as process:
        deadline = time.monotonic() + SECONDS
        while not (folder / "latest").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)


def saved_epoch(folder: Path) -> int:
    return int((folder / "latest").read_text().removeprefix("epoch-"))


def test_ranks_that_were_killed_are_followed_by_more(tmp_path: Path) -> None:
    kill_after_the_first_save(tmp_path, 2)
    first = saved_epoch(tmp_path)
    held = [
        torch.load(tmp_path / f"epoch-{first}" / f"rank-{rank}.pt", weights_only=True)
        for rank in range(2)
    ]
    assert [state["step"] for state in held] == [first * 46] * 2  # 3000 // 64
    assert not torch.equal(*(state["residuals"]["1.weight"] for state in held))

    lines = run(4, "--epochs", first + 3, "--folder", tmp_path)
    assert lines[0] == f"4 ranks, 1.0% of each gradient, after epoch {first} of 2 ranks"
    assert len(lines) == 4 and saved_epoch(tmp_path) == first + 3
    assert accuracy(lines[-1]) > 80
    # What a rank sends is a fiftieth of the gradient: entries of 8 bytes, and some padding.
    sent, dense = (int(n.replace(",", "")) for n in re.findall(r"([\d,]+\d)", lines[-1])[-2:])
    assert dense / 60 < sent < dense / 40
    states = [
        torch.load(tmp_path / f"epoch-{first + 3}" / f"rank-{rank}.pt", weights_only=True)
        for rank in range(4)
    ]
    assert {state["world_size"] for state in states} == {4}
