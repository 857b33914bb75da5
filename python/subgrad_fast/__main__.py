"""`python -m subgrad_fast info | bench | demo`: what is installed, how fast, and that it works."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

Facts = Iterator[tuple[str, object]]
SAID_ABOVE = {"version", "isa", "isas", "threads", "threads_decided_by", "cuda"}
"""What `info` says of `build_info()` in its own words; the rest it prints as it is."""

DECIDED_BY = {
    "OpenMP": "OpenMP's setting (OMP_NUM_THREADS, torch.set_num_threads)",
    "set_num_threads": "subgrad_fast.set_num_threads",
    "fork": "fork(): a child has no threads of its parent",
}
"""Who decides on the number of threads, in words."""


def attempt(name: str) -> ModuleType | str:
    """Import a module. Returns it, or the error in its own words."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        return f"{type(error).__name__}: {error}"


def cuda_text(cuda: dict[str, Any]) -> str:
    """Say which kernels there are, and what they run on or why not."""
    if cuda["architectures"] is None:
        return f"not available: {cuda['problem']}"
    driver = f"driver for CUDA {cuda['driver']}" if cuda["driver"] else "no driver"
    devices = ", ".join(cuda["devices"]) or f"no device: {cuda['problem']}"
    return f"built for {cuda['architectures']}; {driver}; {devices}"


def library_facts() -> Facts:
    """Say how the library was built and how it runs."""
    core = importlib.import_module("subgrad_fast._core")
    import subgrad_fast as sf

    build = sf.build_info()
    forced = " (forced by SUBGRAD_FAST_ISA)" if "SUBGRAD_FAST_ISA" in os.environ else ""
    yield "subgrad_fast", f"{sf.__version__} ({Path(core.__file__ or '').parent})"
    yield "ISA", f"{build['isa']}{forced}; available: {', '.join(sf.available_isas())}"
    yield "threads", f"{build['threads']}, decided by {DECIDED_BY[build['threads_decided_by']]}"
    yield "CUDA", cuda_text(core.cuda.info())
    yield from ((key, value) for key, value in build.items() if key not in SAID_ABOVE)


def array_facts() -> Facts:
    """Say which array libraries there are, and how a tensor's memory is reached."""
    yield "python", f"{platform.python_version()} ({sys.executable})"
    for name in ("numpy", "torch"):
        module = attempt(name)
        yield name, module if isinstance(module, str) else module.__version__
        if name == "torch" and not isinstance(module, str):
            fast = hasattr(module.Tensor, "__dlpack_c_exchange_api__")
            yield "torch tensors by", "DLPack exchange API" if fast else "data_ptr() and attributes"


def info() -> int:
    """Print what is installed. Returns 1 if the library itself does not run."""
    status = 0
    try:
        facts = [*library_facts()]
    except (ImportError, OSError, ValueError) as error:
        facts = [("subgrad_fast", f"does not run: {type(error).__name__}: {error}")]
        status = 1
    facts += array_facts()
    width = max(len(label) for label, _ in facts)
    for label, value in facts:
        print(f"{label:{width}}  {value}")
    return status


def benchmarks_root() -> Path | None:
    """Return the checkout that holds `benchmarks/`: the one we are imported from, or stand in."""
    for root in (Path(__file__).resolve().parents[2], Path.cwd()):
        if (root / "benchmarks" / "page.py").is_file():
            return root
    return None


def bench(arguments: list[str]) -> int:
    """Hand over to the benchmarks, which live in the repository and not in the wheel."""
    root = benchmarks_root()
    if root is None:
        print(
            "bench: the benchmarks are not part of the installed package. Clone the repository and "
            "run `python -m subgrad_fast bench` in its root.",
            file=sys.stderr,
        )
        return 2
    sys.path.insert(0, str(root))
    runner = attempt("subgrad_fast.bench.run")
    if isinstance(runner, str):
        print(f"bench: {runner}", file=sys.stderr)
        return 2
    return int(runner.main(arguments))


def demo(**options: int) -> int:
    """Train on MNIST with torch's SGD and with ours, and compare the bits."""
    from subgrad_fast import _demo

    return _demo.main(**options)


def positive(text: str) -> int:
    """Read a number that must be at least 1."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def parse(arguments: list[str] | None) -> tuple[str, dict[str, int], list[str]]:
    """Read the command line: the command, its options, and what is left to the benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m subgrad_fast")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="print what is installed and how it runs")
    commands.add_parser(
        "bench",
        add_help=False,
        help="time our work against its peers' (needs a checkout; `bench --help` says more)",
    )
    training = commands.add_parser(
        "demo",
        help="train on MNIST with torch's SGD and with ours",
        argument_default=argparse.SUPPRESS,
    )
    training.add_argument("--epochs", type=positive)
    training.add_argument("--seed", type=int)
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "bench":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options.command, {k: v for k, v in vars(options).items() if k != "command"}, rest


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Returns the exit status."""
    command, options, rest = parse(arguments)
    if command == "info":
        return info()
    core = attempt("subgrad_fast._core")
    if isinstance(core, str):
        print(f"subgrad_fast cannot be imported: {core}", file=sys.stderr)
        return 2
    return bench(rest) if command == "bench" else demo(**options)


if __name__ == "__main__":
    sys.exit(main())
