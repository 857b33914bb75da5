"""Time training on several processes, and keep the figures.

python -m benchmarks.exchange                    # 2 and 4 ranks: a quarter of an hour
python -m benchmarks.exchange --json benchmarks/results/exchange.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.exchange import table
from benchmarks.exchange.methods import ONE_PERCENT, PLAIN
from benchmarks.exchange.network import NO_LIMIT, Network, missing, namespaces
from subgrad_fast.bench.run import circumstances

HIDDEN = [2048, 1792]
TARGET = {"limit": "100 Mbit/s", "method": ONE_PERCENT, "peer": PLAIN, "times": 8.0, "points": 0.5}
"""Set before anything was measured: so many times the iterations, at most so many points less."""


@contextlib.contextmanager
def network(world: int, why_not: str | None) -> Iterator[Network]:
    """Namespaces, or loopback where something is in their way."""
    if why_not:
        yield Network()
        return
    with namespaces(world) as joined:
        yield joined


def measure(world: int, joined: Network, plan: dict[str, Any]) -> dict[str, Any]:
    """Run the ranks of one world, and set the network as rank 0 asks for it.

    Raises:
        RuntimeError: a rank has failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        plan = {
            **plan,
            "world": world,
            "threads": max(1, (os.cpu_count() or 1) // world),
            "store": f"{folder}/store",
            "result": f"{folder}/result.json",
            "interface": joined.interface,
            "unlimited": NO_LIMIT,
            "limits": joined.limits,
        }
        ranks = []
        for rank in range(world):
            command = [sys.executable, "-m", "benchmarks.exchange.rank"]
            order = json.dumps({**plan, "rank": rank})
            ranks.append(
                subprocess.Popen(
                    [*joined.command(rank), *command, order],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        try:
            first = ranks[0]
            assert first.stdin is not None
            assert first.stdout is not None
            for line in first.stdout:
                said = line.strip()
                print(f"{world} ranks: {said}", file=sys.stderr)
                if said in joined.limits:
                    joined.limit(said)
                first.stdin.write("\n")
                first.stdin.flush()
            if any(rank.wait(60) for rank in ranks):
                raise RuntimeError("a rank has failed")
        finally:
            for rank in ranks:
                rank.kill()
                rank.wait()
        result: dict[str, Any] = json.loads(Path(plan["result"]).read_text(encoding="utf-8"))
    return {"world": world, **result}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.exchange", description="Time training on several processes."
    )
    parser.add_argument("--worlds", nargs="+", type=int, default=[2, 4], metavar="RANKS")
    parser.add_argument(
        "--iterations", nargs="+", type=int, default=[300, 940], help="before accuracy is measured"
    )
    parser.add_argument(
        "--judged", nargs="*", type=int, default=[2, 4], metavar="RANKS", help="the worlds of which"
    )
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each method")
    parser.add_argument("--rounds", type=int, default=7, help="of all methods by turns")
    parser.add_argument("--hidden", nargs="+", type=int, default=HIDDEN, help="hidden layers")
    parser.add_argument("--quick", action="store_true", help="figures not to be quoted")
    parser.add_argument("--loopback", action="store_true", help="no namespaces, though root")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the tables, keep the figures. Returns the exit status."""
    options = parse(arguments)
    why_not = "it was asked for" if options.loopback else missing()
    if why_not:
        print(f"Ranks talk by loopback, without a limit: {why_not}.", file=sys.stderr)
    plan = {
        "hidden": options.hidden,
        "iterations": [5] if options.quick else options.iterations,
        "seeds": 1 if options.quick else options.seeds,
        "rounds": 1 if options.quick else options.rounds,
    }
    worlds: list[dict[str, Any]] = []
    result = {
        "subject": "exchange",
        "quick": options.quick,
        "loopback": why_not,
        **circumstances(None),
        **plan,
        "target": TARGET,
        "worlds": worlds,
    }
    for world in options.worlds:
        with network(world, why_not) as joined:
            # Where nobody asks for an accuracy a few iterations are enough to warm up.
            judged = world in options.judged
            own = {**plan, "judged": judged}
            own |= {} if judged else {"seeds": 1, "iterations": [3]}
            worlds.append(measure(world, joined, own))
        if options.json:  # after each, as the next takes minutes
            options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table.figures(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
