"""Whether an installed wheel works; with names as arguments, imports these first, in their order.

Where torch is among them, its setting of threads must count here: the process has one OpenMP.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.resources
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "3")
ORDER = sys.argv[1:] or ["subgrad_fast"]
for name in ORDER:
    importlib.import_module(name)

import numpy as np  # noqa: E402

import subgrad_fast as sf  # noqa: E402

assert sf.__version__ == importlib.metadata.version("subgrad_fast"), sf.__version__
for name in ("py.typed", "_core/__init__.pyi"):
    assert (importlib.resources.files(sf) / name).is_file(), name

w, g, m = (np.full(37, x, np.float32) for x in (1.0, 0.5, 2.0))
sf.sgd_step([w], [g], [m], lr=0.25, momentum=0.5)
assert (m == 1.5).all(), m
assert (w == 0.625).all(), w
rows = np.concatenate(list(sf.BatchSampler(1000, 64, seed=0)))
assert sorted(rows.tolist()) == list(range(1000))
assert sf.select(np.array([1.0, -3.0, 2.0]), k=1).indices.tolist() == [1]

if "torch" in ORDER:
    import torch

    for threads in (1, 2, 1):
        torch.set_num_threads(threads)
        assert sf.get_num_threads() == threads, (sf.get_num_threads(), threads)
    assert sf.build_info()["threads_decided_by"] == "OpenMP"
    if sys.platform == "linux":
        maps = Path("/proc/self/maps").read_text().splitlines()
        loaded = {line.split()[-1] for line in maps if "libgomp" in line or "libomp" in line}
        assert len(loaded) == 1, loaded

python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
where = f"{sf.build_info()['isa']}, {sf.get_num_threads()} threads"
print(f"smoke: subgrad_fast {sf.__version__} works: {python}, {where}; {', then '.join(ORDER)}")
