"""The tests in this directory need something that runs CUDA kernels.

That is a GPU, in an ordinary session, or the PTX interpreter of extern/ptxemu, in the sessions that
tests/cuda/test_sessions.py starts: these set SUBGRAD_CUDA_MODULE to a _cuda module that was built
for it. Where there is neither, nothing is collected here.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator

import pytest

from tests.cuda.fake_cuda import Api, api_of
from tests.cuda.machines import Gpu, find_machine

machine = find_machine()
collect_ignore_glob = [] if machine else ["*.py"]
if "SUBGRAD_CUDA_MODULE" in os.environ and "SUBGRAD_CUDA_TORCH" not in os.environ:
    # These need a session of their own: they change torch.
    collect_ignore_glob = ["test_loader*", "test_optim*", "test_threshold_sgd*"]


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    """Where arrays are put. Afterwards, nothing around them may have been written."""
    assert machine is not None
    gpu = machine()
    yield gpu
    gpu.check_guards()


@pytest.fixture
def api() -> Api:
    """The launchers, to be called without the bindings."""
    return api_of(importlib.import_module("subgrad_fast._cuda"))
