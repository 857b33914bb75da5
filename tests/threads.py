"""Functions that run at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable


def run_threads(*targets: Callable[[], object]) -> list[BaseException]:
    """Runs each in a thread of its own. What they raised, which a test compares with []."""
    errors: list[BaseException] = []

    def guarded(target: Callable[[], object]) -> None:
        try:
            target()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors
