"""The tests in this directory need something that runs CUDA kernels.

That is a GPU, in an ordinary session, or the PTX interpreter of extern/ptxemu, in the sessions that
tests/cuda/test_sessions.py starts: these set SUBGRAD_CUDA_MODULE to a _cuda module that was built
for it. Where there is neither, nothing is collected here.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator

import pytest

from subgrad_fast import _core
from tests.cuda import machines

if path := os.environ.get("SUBGRAD_CUDA_MODULE"):
    spec = importlib.util.spec_from_file_location("subgrad_fast._cuda", path)
    assert spec is not None and spec.loader is not None
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
    assert _core.cuda_problem(0) is None, _core.cuda_problem(0)
    machine: type[machines.Gpu] | None = machines.EmulatedGpu
else:
    machine = machines.find_gpu()
collect_ignore_glob = [] if machine else ["*.py"]
if path and "SUBGRAD_CUDA_TORCH" not in os.environ:
    # These need a session of their own: they change torch.
    collect_ignore_glob = ["test_loader*", "test_optim*", "test_threshold_sgd*"]


@pytest.fixture
def gpu() -> Iterator[machines.Gpu]:
    """Where arrays are put. Afterwards, nothing around them may have been written."""
    assert machine is not None
    gpu = machine()
    yield gpu
    gpu.check_guards()
