"""KeyboardInterrupt wherever it can come: between any two bytecodes of the library's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import subgrad_fast

_OURS = str(Path(subgrad_fast.__file__).parent)


class _Interrupter:
    """A trace function that raises when the library has gone through `after` bytecodes."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_OURS):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            self.left -= 1
            if self.left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self


def interrupted(call: Callable[[], object], after: int) -> bool:
    """Makes a call and interrupts it; whether it was not over by then."""
    old = sys.gettrace()
    sys.settrace(_Interrupter(after))
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(old)
    return False


def at_each_bytecode(make: Callable[[], Any], call: Callable[[Any], object]) -> Iterator[Any]:
    """Fresh objects, on each of which a call has been interrupted, each time one bytecode later."""
    after = 0
    while True:
        made = make()
        if not interrupted(lambda made=made: call(made), after):
            return
        yield made
        after += 1
