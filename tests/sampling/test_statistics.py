"""The tests of randomness.py: the library passes them, what is broken on purpose does not."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest

from tests.sampling import randomness
from tests.sampling.randomness import Result

LIBRARY = list(randomness.library_results())
CONTROLS = list(randomness.control_results())


def label(run: Callable[[], Result]) -> str:
    arguments = [str(d) for d in run.__defaults__ or () if isinstance(d, int)]
    names = run.__code__.co_names
    test = next(name for name in names if inspect.isfunction(run.__globals__[name]))
    return "-".join([test, *arguments])


@pytest.mark.parametrize("run", LIBRARY, ids=label)
def test_the_library_passes(run: Callable[[], Result]) -> None:
    result = run()
    assert not result.rejected, result


@pytest.mark.parametrize(
    ("name", "run"), CONTROLS, ids=[f"{name}: {label(run)}" for name, run in CONTROLS]
)
def test_what_is_broken_is_rejected(name: str, run: Callable[[], Result]) -> None:
    result = run()
    assert result.rejected, (name, result)
