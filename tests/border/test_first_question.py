"""The first question about CUDA may come from any thread, or from several at once."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

PROCESSES = 20

# The switch interval is short, so that threads meet inside the first question.
PROGRAM = """
import sys, threading
import subgrad_fast as sf
from subgrad_fast import _core
sys.setswitchinterval(1e-6)
meet = threading.Barrier(4)
answers = []
def ask():
    meet.wait()
    answers.append((_core.cuda.problem(0), sf.build_info()["cuda"]))
threads = [threading.Thread(target=ask) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(answers) == 4 and len(set(answers)) == 1, answers
"""


def asked_by_four_threads(_: int) -> int:
    """The exit status of a fresh process; 99 if it hangs."""
    try:
        ran = subprocess.run([sys.executable, "-c", PROGRAM], timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return 99
    return ran.returncode


def test_four_threads_may_ask_first() -> None:
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(asked_by_four_threads, range(PROCESSES))) == [0] * PROCESSES
