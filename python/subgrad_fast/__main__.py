"""`subgrad-fast info | bench | demo`, which is `python -m subgrad_fast` too: what is installed, how
fast it is, and that it works."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import sys
from pathlib import Path

from subgrad_fast import _info

CANNOT = 2
"""The exit status of what could not be run."""


def program() -> str:
    """What the user has typed to get here."""
    name = Path(sys.argv[0]).name
    return "python -m subgrad_fast" if name in {"__main__.py", "-m", "-c"} else "subgrad-fast"


def version() -> str:
    """The installed version, known also where the library does not run."""
    return importlib.metadata.version("subgrad_fast")


def info(*, as_json: bool, memory: bool) -> int:
    """Print what is installed. Returns 1 if the library itself does not run.

    `memory`: steps some weights as well, and says where they lie.
    """
    facts, status = _info.facts()
    measured: dict[str, str] = {}
    if memory and status == 0:
        measured = importlib.import_module("subgrad_fast._pages").facts()
        facts["memory"] = measured
    if as_json:
        print(json.dumps(facts, indent=1, default=str))
        return status
    lines = [*_info.lines(facts), *measured.items()]
    width = max(len(label) for label, _ in lines)
    for label, value in lines:
        print(f"{label:{width}}  {value}")
    return status


def demo(**options: int) -> int:
    """Train on MNIST with torch's SGD, its fused form and ours, and compare the bits."""
    from subgrad_fast import _demo

    return _demo.main(**options)


def positive(text: str) -> int:
    """Read a number that must be at least 1."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def parser_of(prog: str) -> argparse.ArgumentParser:
    """The command line, save for what `bench` takes."""
    parser = argparse.ArgumentParser(prog=prog, description="Fast code for SGD loops.")
    parser.add_argument("--version", action="version", version=f"subgrad-fast {version()}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    facts = commands.add_parser("info", help="print what is installed and how it runs")
    facts.add_argument("--json", action="store_true", help="for programs")
    facts.add_argument(
        "--memory", action="store_true", help="step 64 MiB of weights: their pages and faults"
    )
    commands.add_parser(
        "bench",
        add_help=False,
        help="time our work, or a model of your own, against other means (`bench --help`)",
    )
    training = commands.add_parser(
        "demo",
        help="train on MNIST with torch's SGD and with ours",
        argument_default=argparse.SUPPRESS,
    )
    training.add_argument("--epochs", type=positive)
    training.add_argument("--seed", type=int)
    return parser


def run(arguments: list[str] | None) -> int:
    """Read the command line and run what it says."""
    prog = program()
    parser = parser_of(prog)
    options, rest = parser.parse_known_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    if rest and options.command != "bench":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if options.command == "info":
        return info(as_json=options.json, memory=options.memory)
    core = _info.attempt("subgrad_fast._core")
    if isinstance(core, str):
        print(f"subgrad_fast cannot be imported: {core}", file=sys.stderr)
        return CANNOT
    if options.command == "bench":
        bench = importlib.import_module("subgrad_fast.bench.run")
        return int(bench.main(rest, prog=f"{prog} bench"))
    return demo(**{k: v for k, v in vars(options).items() if k != "command"})


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Returns the exit status."""
    try:
        status = run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has read enough; Python would complain at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
