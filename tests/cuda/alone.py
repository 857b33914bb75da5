"""Programs beside a session: for what the interpreter must be told before it starts."""

from __future__ import annotations

import os
import subprocess
import sys

from tests import ROOT


def run_alone(module: str, **environment: str) -> str:
    """What `module.main()` prints in a process of its own, with the kernels of this session."""
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.cuda.machines import find_machine\n"
        f"find_machine()\nimport {module}; {module}.main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return ran.stdout
