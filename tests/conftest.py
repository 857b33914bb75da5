"""Fixtures: every test that takes `isa` runs on every instruction set this machine has."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial

import pytest

from subgrad_fast import _core
from subgrad_fast.loading import gathering


@pytest.fixture(params=_core.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the instruction set in force during the test."""
    _core.testing.select_isa(request.param)
    assert _core.testing.isa() == request.param
    yield request.param
    _core.testing.select_isa(None)


@pytest.fixture
def threads() -> Iterator[object]:
    """`set_num_threads` that means what it says, whatever it costs; put back afterwards."""
    yield partial(_core.set_num_threads, adaptive=False)
    _core.set_num_threads(0, adaptive=True)


@pytest.fixture(params=["in turn", "ahead"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to gather a batch, whatever its size."""
    limit = 0 if request.param == "ahead" else sys.maxsize
    monkeypatch.setattr(gathering, "_BACKGROUND_BYTES", limit)
    return str(request.param)
