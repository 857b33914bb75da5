"""The process in which lives are lived: a line of JSON for each, on the standard output."""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.ring_log import RingLog

_MEMORY_BYTES = 12 << 30  # wrong sizes are to be refused, not to be tried


def family_of(name: str) -> Callable[[Any], None]:
    """The function that lives a life of a family."""
    control = name.startswith("control-")
    module = importlib.import_module(f"tests.fuzz.{'controls' if control else f'families.{name}'}")
    function: Callable[[Any], None] = getattr(module, name.replace("-", "_") if control else "live")
    return function


def main(family: str, first: int, seconds: float, most: int, log_path: str, echo: bool) -> None:
    """Lives from seed `first` on, until the time is up, `most` are lived, or one finds a fault."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that what a life prints does not get between them
    faulthandler.enable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if "ASAN_OPTIONS" not in os.environ:  # AddressSanitizer reserves terabytes of addresses
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    from tests.fuzz.life import Life

    live = family_of(family)
    print(json.dumps({"begin": True}), file=answers, flush=True)
    log = RingLog(Path(log_path), echo=echo)
    end = time.monotonic() + seconds
    for seed in range(first, first + most):
        life = Life(family, seed, log)
        fault = None
        try:
            live(life)
        except BaseException:
            fault = traceback.format_exc()
        print(json.dumps({"seed": seed, "counts": life.counts, "fault": fault}), file=answers)
        answers.flush()
        if fault is not None or time.monotonic() > end:
            break
    print(json.dumps({"end": True}), file=answers, flush=True)


if __name__ == "__main__":
    name, seed, limit, count, path, loud = sys.argv[1:]
    main(name, int(seed), float(limit), int(count), path, loud == "echo")
