"""Random calls, whole lives of them: `python -m tests.fuzz FAMILY SEED` or `--minutes 30`."""

from __future__ import annotations

import argparse
import sys
import time

from tests.fuzz.life import LEFT_OUT
from tests.fuzz.runner import FAMILIES, Found, Tally, run_batch, table

_TURN_SECONDS = 20.0  # of a family


def replay(family: str, seed: int) -> int:
    """Lives one life and prints its log."""
    tally = run_batch(family, seed, 0.0, most=1, echo=True, log_lines=0)
    for fault in tally.faults:
        print(fault)
    print(table([tally]))
    return int(bool(tally.faults))


def fuzz(families: list[str], minutes: float, seed: int) -> int:
    """Lives of all families in turn until the time is up, but of each at least some."""
    tallies = [Tally(family, seed) for family in families]
    end = time.monotonic() + 60 * minutes
    turn = min(_TURN_SECONDS, 60 * minutes / len(families))
    while True:
        for tally in tallies:
            found = run_batch(tally.family, tally.next_seed, turn)
            tally.add(found)
            report(found.faults)
        if time.monotonic() >= end:
            break
    print(table(tallies))
    return int(any(tally.faults for tally in tallies))


def report(faults: list[Found]) -> None:
    for fault in faults:
        print(fault, end="\n\n", flush=True)


def main() -> int:
    usual = [family for family in FAMILIES if family not in LEFT_OUT]
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("family", nargs="?", help="replay a life of this family ...")
    parser.add_argument("life", nargs="?", type=int, help="... with this seed")
    parser.add_argument("--minutes", type=float, help="how long all families take together")
    parser.add_argument("--families", default=",".join(usual), help="which, with commas")
    parser.add_argument("--seed", type=int, help="the first seed of each; by default the time")
    given = parser.parse_args()
    if (given.minutes is None) == (given.life is None):
        parser.error("expected FAMILY SEED or --minutes")
    if given.life is not None:
        return replay(given.family, given.life)
    families = given.families.split(",")
    unknown = set(families) - set(FAMILIES)
    if unknown:
        parser.error(f"unknown families: {', '.join(sorted(unknown))}")
    seed = int(time.time()) if given.seed is None else given.seed
    return fuzz(families, given.minutes, seed)


if __name__ == "__main__":
    sys.exit(main())
