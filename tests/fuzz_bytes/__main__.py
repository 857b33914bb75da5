"""`python -m tests.fuzz_bytes [--minutes M] [TARGET ...]`: searches; or runs TARGET --bytes HEX.

Every target runs in a process of its own, which may crash or hang: what it was doing then is known.
`make fuzz-bytes` runs this on a build with sanitizers, whose bindings tell which code has run.
"""

from __future__ import annotations

import argparse
import faulthandler
import subprocess
import sys
import time
import traceback

import numpy as np

import subgrad_fast as sf
from tests import ROOT
from tests.fuzz_bytes.corpus import read_corpus, write_corpus
from tests.fuzz_bytes.guided import Search, counters, shortest
from tests.fuzz_bytes.targets import TARGETS

# What takes longer hangs.
SECONDS_A_RUN = 20

# How a search ends that has found something. Crashes end otherwise, and what hangs is ended with 1.
FOUND = 3

LAST = ROOT / "build" / "fuzz_bytes"


def fails(name: str, data: bytes) -> bool:
    try:
        TARGETS[name](data)
    except Exception:
        return True
    return False


def search(name: str, minutes: float, seed: int, keep: bool) -> int:
    """Searches for so long. Returns how many different faults were found."""
    faulthandler.enable()
    sf.set_num_threads(1)
    counts = counters()
    found: dict[str, bytes] = {}
    looking = Search(TARGETS[name], seed, counts)
    seeds = read_corpus(name)
    runs, end = 0, time.monotonic() + 60 * minutes
    with (LAST / name).open("wb", buffering=0) as last:
        while seeds or time.monotonic() < end:
            data = seeds.pop() if seeds else looking.next()
            last.seek(0)
            last.write(data.hex().encode() + b"\n")
            faulthandler.dump_traceback_later(SECONDS_A_RUN, exit=True)
            runs += 1
            try:
                looking.run(data)
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                found.setdefault(f"{type(error).__name__} {place.filename}:{place.lineno}", data)
            faulthandler.cancel_dump_traceback_later()
    print(f"{name}: {runs} runs, {len(looking.kept)} kept, {looking.features} features", flush=True)
    for what, data in found.items():
        small = shortest(data, lambda some: fails(name, some)).hex()
        print(f"  {what}\n  python -m tests.fuzz_bytes {name} --bytes {small}", flush=True)
    if keep:
        write_corpus(name, looking.kept)
    return len(found)


def search_apart(name: str, arguments: list[str]) -> bool:
    """`search` in a process of its own. Whether all was well."""
    command = [sys.executable, "-m", "tests.fuzz_bytes", "--here", name, *arguments]
    ran = subprocess.run(command, check=False)
    if ran.returncode not in (0, FOUND):
        data = (LAST / name).read_text().split("\n")[0]
        print(f"  crashed or hung\n  python -m tests.fuzz_bytes {name} --bytes {data}", flush=True)
    return ran.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz_bytes", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument(
        "--bytes", type=bytes.fromhex, metavar="HEX", help="run these and no others"
    )
    parser.add_argument("--keep", action="store_true", help="replace the corpus by what was found")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    names = args.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"unknown: {', '.join(unknown)}")
    np.seterr(all="ignore")  # the oracles meet numbers of every kind
    if args.bytes is not None:
        TARGETS[names[0]](args.bytes)
        return 0
    LAST.mkdir(parents=True, exist_ok=True)
    if args.here:
        return FOUND if search(names[0], args.minutes, args.seed, args.keep) else 0
    if counters() is None:
        print("the bindings are not instrumented: bytes are tried at random")
    print(f"--seed {args.seed}", flush=True)
    arguments = ["--minutes", str(args.minutes), "--seed", str(args.seed)]
    arguments += ["--keep"] if args.keep else []
    well = [search_apart(name, arguments) for name in names]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
