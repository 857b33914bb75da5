"""The blocks of docs/with: each runs as it stands and prints what it says.

One that names torchrun in its first line is run by it, in two processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.pages import (
    DOCS,
    difference,
    missing_library,
    python_blocks,
    what_is_wrong,
)

pytestmark = [
    pytest.mark.torch,
    pytest.mark.clients,
    pytest.mark.filterwarnings("ignore"),  # of the libraries, about options of torch and workers
]

LIBRARIES = ("accelerate", "datasets", "h5py", "lightning", "pandas", "torchdata", "transformers")
PAGES = sorted((DOCS / "with").glob("*.md"))


def test_there_is_a_page_of_each() -> None:
    text = "".join(code for _, code in python_blocks(*PAGES))
    for name in (*LIBRARIES, "DistributedDataParallel(", "fully_shard("):
        assert name in text, name


@pytest.mark.parametrize(
    "code", [pytest.param(code, id=name) for name, code in python_blocks(*PAGES)]
)
def test_a_block_runs_as_it_stands(code: str, tmp_path: Path) -> None:
    missing = missing_library(code, *LIBRARIES)
    if missing:
        pytest.skip(f"{missing} is not installed; `make test-clients` installs it")
    if code.startswith("# torchrun"):
        file = tmp_path / "train.py"
        file.write_text(code, encoding="utf-8")
        assert what_is_wrong_on_two_ranks(file) is None
    else:
        assert what_is_wrong(code) is None


def what_is_wrong_on_two_ranks(program: Path) -> str | None:
    """Run a program by torchrun: the error, or what it prints and should not."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if sys.platform == "linux":
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    ran = subprocess.run(
        [*launcher, "--nproc-per-node", "2", str(program)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=240,
    )
    return ran.stderr if ran.returncode else difference(ran.stdout, program.read_text())
