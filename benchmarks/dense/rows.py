"""The dense SGD step against torch's and NumPy's, inside a training loop and alone.

    python -m benchmarks.dense.rows                  # everything, some minutes
    python -m benchmarks.dense.rows --rows loop-64   # rows whose name contains the text
    python -m benchmarks.dense.rows --json update.json --markdown

`harness.py` says how the figures are taken, `peers.py` who is compared. Rows named `loop-*` time
`step()` in a real training loop, after a real forward and backward; the others repeat it on the
same arrays. `@n` is the number of threads.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import subgrad_fast as sf
from benchmarks import report
from benchmarks.dense import peers
from benchmarks.dense.peers import DEFAULT, FOREACH, FUSED, NUMPY, OURS_F32, TRIAD
from benchmarks.harness import OURS, Contender, Row, Target, machine, measure, summarize
from benchmarks.workloads import mixed_shapes, resnet50_shapes

QUICK = 0.05
"""The share of its time budget that a row gets under `--quick`."""
STEP_BYTES, TRIAD_BYTES = 20, 16
"""Per float32 element. A step reads weight, momentum and gradient, and writes two of them."""


def on_threads(
    name: str,
    title: str,
    build: Callable[[], list[Contender]],
    speedups: Mapping[int, float],
    *,
    block: int,
    budget_s: float,
) -> list[Row]:
    """One row per thread count; `speedups` says how many times torch fused's speed is asked."""
    return [
        Row(
            f"{name}@{threads}",
            title,
            threads,
            build,
            [Target(FUSED, 1 / speedup)],
            block,
            budget_s,
        )
        for threads, speedup in speedups.items()
    ]


def loop_rows() -> list[Row]:
    """Build the rows that a user feels: backward has just made fresh gradients, caches are cold."""
    loop = peers.in_the_loop
    return [
        *on_threads(
            "loop-64",
            "in the loop: 80 x Linear(64)+ReLU, batch 16, 160 tensors",
            partial(loop, depth=80, width=64),
            {1: 2.8, 2: 4},
            block=8,
            budget_s=20,
        ),
        *on_threads(
            "loop-8",
            "in the loop: 80 x Linear(8)+ReLU, batch 16, 160 tensors",
            partial(loop, depth=80, width=8),
            {1: 6, 2: 6},
            block=8,
            budget_s=15,
        ),
        *on_threads(
            "loop-500x32",
            "in the loop: 500 x Linear(32)+ReLU, batch 16, 1000 tensors",
            partial(loop, depth=500, width=32),
            {1: 2.8, 2: 2.8},
            block=4,
            budget_s=30,
        ),
    ]


def hot_rows() -> list[Row]:
    """Build the rows in which everything is in the cache and overhead is all there is."""
    ones, small, mixed = [(1,)] * 161, [(1024,)] * 1000, mixed_shapes()
    hot, speedups = partial(partial, peers.hot), {1: 4, 2: 4}
    return [
        *on_threads(
            "hot-161x1", "hot: 161 one-element tensors", hot(ones), speedups, block=20, budget_s=6
        ),
        *on_threads("hot-1000x1k", "hot: 1000 x 1K", hot(small), speedups, block=10, budget_s=15),
        *on_threads(
            "hot-504k",
            "hot: 160 tensors, 504K elements",
            hot(mixed),
            {1: 2.2, 2: 3},
            block=20,
            budget_s=8,
        ),
    ]


def large_rows(threads: int) -> list[Row]:
    """Build the rows that memory decides, on all threads."""
    resnet50, one = resnet50_shapes(), 50_000_000
    step_bytes = dict.fromkeys((DEFAULT, FOREACH, FUSED, OURS), STEP_BYTES * one)
    return [
        Row(
            f"resnet50@{threads}",
            "ResNet-50's 161 shapes, 25.6M float32",
            threads,
            partial(peers.hot, resnet50),
            [Target(FUSED, 1.0), Target(DEFAULT, 1 / 4)],
            block=5,
            budget_s=30,
        ),
        Row(
            f"one-50m@{threads}",
            "one tensor of 50M float32",
            threads,
            partial(peers.hot_and_triad, one),
            [Target(FUSED, 1.05)],
            block=3,
            budget_s=40,
            moved_bytes=step_bytes | {TRIAD: TRIAD_BYTES * one},
        ),
        Row(
            f"bf16@{threads}",
            "`sgd_step`: bfloat16 with float32 momentum, ResNet-50's shapes",
            threads,
            partial(peers.low_precision, resnet50),
            [Target(OURS_F32, 0.75)],
            block=5,
            budget_s=15,
        ),
        Row(
            f"numpy-50m@{threads}",
            "`sgd_step`: one NumPy array of 50M float32",
            threads,
            partial(peers.numpy_arrays, one),
            [Target(NUMPY, 1 / 4)],
            block=3,
            budget_s=20,
        ),
    ]


def all_rows(threads: int) -> list[Row]:
    """Build the whole table, as far as the machine has the threads for it."""
    rows = [*loop_rows(), *hot_rows(), *large_rows(threads)]
    return [row for row in rows if row.threads <= threads]


def run(row: Row, *, quick: bool) -> dict[str, Any]:
    """Measure one row. Torch's thread count governs ours too, or there is nothing to compare."""
    torch.set_num_threads(row.threads)
    if sf.get_num_threads() != row.threads:
        raise RuntimeError(f"torch runs on {row.threads} threads, ours on {sf.get_num_threads()}")
    contenders = row.build()
    budget_s = row.budget_s * (QUICK if quick else 1)
    rounds, warmup = (1, 1) if quick else (3, 3)
    samples = measure(
        contenders, block=row.block, budget_s=budget_s, min_rounds=rounds, warmup=warmup
    )
    return summarize(row, contenders, samples, reference=DEFAULT)


def circumstances() -> dict[str, Any]:
    """Return all that the figures depend on: machine, build and versions."""
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "subgrad_fast": sf.__version__,
    }
    return {"machine": machine(), "build": dict(sf.build_info()), "versions": versions}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bench", description="Time our work and our peers'.")
    parser.add_argument("--rows", nargs="+", metavar="TEXT", help="rows whose name contains a text")
    parser.add_argument("--list", action="store_true", help="print the rows' names and end")
    parser.add_argument("--quick", action="store_true", help="few rounds: figures not to be quoted")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there")
    parser.add_argument("--markdown", action="store_true", help="Markdown even on a terminal")
    return parser.parse_args(arguments)


def main(
    arguments: list[str] | None = None,
    *,
    benchmark: str = "update",
    rows_for: Callable[[int], list[Row]] = all_rows,
    run_row: Callable[..., dict[str, Any]] = run,
    device: str | None = None,
) -> int:
    """Run the chosen rows, print their table, write the JSON. Returns the exit status."""
    options = parse(arguments)
    threads = torch.get_num_threads()
    rows = rows_for(threads)
    if options.rows:
        rows = [row for row in rows if any(text in row.name for text in options.rows)]
    if not rows:
        print("bench: no row has such a name; --list prints them", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(row.name for row in rows))
        return 0
    result = {"benchmark": benchmark, "quick": options.quick, **circumstances(), "rows": []}
    result["machine"]["device"] = device
    for row in rows:
        print(f"{row.name} ...", end=" ", file=sys.stderr, flush=True)
        measured = run_row(row, quick=options.quick)
        print(report.one_line(measured), file=sys.stderr)
        result["rows"].append(measured)
    torch.set_num_threads(threads)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    report.show(result, markdown_only=options.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
