"""A collection may begin at any allocation, also inside the making of the very first object."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

from subgrad_fast import _core

SEEN = {("dense", "Plan"), ("optimizer", "Plan"), ("sampling", "Cursor")}

# With a threshold of one, whatever is allocated for an object of a type never met before starts a
# collection, which looks at that object: half made, it must be passed over.
PROGRAM = """
import gc, sys
from subgrad_fast import _core
kind = getattr(getattr(_core, sys.argv[1]), sys.argv[2])
gc.set_threshold(1)
made = [kind.__new__(kind)]
made += [derived.__new__(derived) for derived in [type("Derived", (kind,), {}) for _ in range(20)]]
assert all(gc.is_tracked(one) for one in made)
gc.collect()
"""


@pytest.mark.parametrize(("part", "name"), sorted(SEEN))
def test_a_collection_while_an_object_is_being_made(part: str, name: str) -> None:
    command = [sys.executable, "-c", PROGRAM, part, name]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_every_type_that_the_collector_sees_is_tried() -> None:
    parts = [part for part in vars(_core).values() if isinstance(part, ModuleType)]
    seen = {
        (part.__name__.rpartition(".")[2], name)
        for part in parts
        for name, kind in vars(part).items()
        if isinstance(kind, type) and not issubclass(kind, BaseException)
        if kind.__flags__ & 1 << 14  # Py_TPFLAGS_HAVE_GC
    }
    assert seen == SEEN
