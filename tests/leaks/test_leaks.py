"""Nothing is left behind by any call, whether it returns or raises."""

from __future__ import annotations

import ctypes
import gc
import mmap
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import subgrad_fast as sf
from tests import ROOT
from tests.leaks import batches, border, steps, torch_calls
from tests.leaks.families import Call
from tests.leaks.measure import Held, allowed, growth

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PLAIN = batches.family | border.family | steps.family
# With how often each is called in a round. torch's errors take a millisecond, and so do optimizers
# when they are made.
FAMILIES = [
    *(pytest.param(make, 500, id=name) for name, make in PLAIN.items()),
    *(
        pytest.param(make, 100, id=f"torch_{name}", marks=pytest.mark.torch)
        for name, make in torch_calls.family.items()
    ),
]
TIMES_LONGER = 15  # a million calls in all


@pytest.fixture(autouse=True)
def only_what_is_new() -> Iterator[None]:
    """Has the collector pass over what other tests have made: there may be a million objects.

    One thread, as what threads have for themselves is nobody's leak.
    """
    sf.set_num_threads(1)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    sf.set_num_threads(0)


def leaks(call: Call, calls: int) -> dict[str, int]:
    """What grows by more than is allowed.

    Then, and with four times as many calls: what leaks leaves four times as much, and memory that
    has only been divided otherwise is divided by then.
    """
    found = grows(call, calls)
    return found and grows(call, 4 * calls)


def grows(call: Call, calls: int) -> dict[str, int]:
    pairs = zip(Held._fields, growth(call, calls), allowed(calls), strict=True)
    return {name: by for name, by, most in pairs if by > most}


@pytest.mark.parametrize(("make", "calls"), FAMILIES)
def test_nothing_is_left_behind(make: Any, calls: int) -> None:
    assert leaks(make(), calls) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("make", "calls"), FAMILIES)
def test_nothing_is_left_behind_by_many_calls(make: Any, calls: int) -> None:
    assert leaks(make(), calls * TIMES_LONGER) == {}


def test_every_public_name_is_called() -> None:
    texts = [file.read_text(encoding="utf-8") for file in (ROOT / "tests/leaks").glob("*.py")]
    called = {name for name in sf.__all__ if any(f"sf.{name}" in text for text in texts)}
    assert set(sf.__all__) - called == {"__version__"}


def _keep_objects() -> Call:
    kept: list[object] = []
    return lambda: kept.append([])


def _keep_numbers() -> Call:
    kept: list[float] = []
    return lambda: kept.append(float(len(kept)))  # of which the collector knows nothing


def _keep_memory() -> Call:
    malloc = ctypes.CDLL(None).malloc
    malloc.restype = ctypes.c_void_p
    malloc.argtypes = [ctypes.c_size_t]
    return lambda: malloc(16)


def _keep_pages() -> Call:
    kept: list[mmap.mmap] = []

    def call() -> None:
        kept.append(mmap.mmap(-1, 1 << 16))
        kept[-1].write(bytes(1 << 16))

    return call


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (_keep_objects(), {"objects", "blocks"}),
        (_keep_numbers(), {"blocks"}),
        (_keep_memory(), {"malloc_bytes"}),
        (_keep_pages(), {"resident_bytes"}),
    ],
    ids=["objects", "numbers", "16 bytes", "pages"],
)
def test_a_leak_is_found(call: Call, found: set[str]) -> None:
    assert found <= set(leaks(call, 50))
