"""The command line of `subgrad-fast bench`."""

from __future__ import annotations

import argparse
from pathlib import Path

from subgrad_fast.bench.subjects import STANDARD, names

EPILOG = """\
examples:
  subgrad-fast bench                            everything there is: half an hour in a checkout
  subgrad-fast bench standard --quick           a few seconds' look
  subgrad-fast bench --model my.package:make_model --batch 32x784
  subgrad-fast bench standard --json now.json --against then.json
  subgrad-fast bench --show now.json --against then.json

`--model` names a function that returns a module, or (module, batch or loader), or (module, batch
or loader, loss). `--batch` is a shape, 32x784, of random float32, or names a function that returns
a batch or a loader. Without a loss the module returns it; of a shape it is the mean square.

exit status: 0 measured; 1 bits differ that must be the same; 2 it could not be run; 130 interrupted
"""


def positive(text: str) -> int:
    """Read a number that must be at least 1."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def parse(arguments: list[str] | None, prog: str) -> argparse.Namespace:
    """Read the command line."""
    subjects = names()
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Time this library's work and the same work by other means, in turns.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "subjects",
        nargs="*",
        metavar="subject",
        help=f"{', '.join(subjects)}; if none is given, "
        + ("all but standard" if len(subjects) > 1 else "standard"),
    )
    parser.add_argument(
        "--rows", nargs="+", metavar="TEXT", help="the rows whose name has one of these texts"
    )
    parser.add_argument("--list", action="store_true", help="print the rows' names and end")
    parser.add_argument("--quick", action="store_true", help="few rounds: figures not to be quoted")
    parser.add_argument("--threads", type=positive, metavar="N", help="the most that rows run on")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="PATH",
        help="keep the figures: of one subject in a file PATH.json, else in a folder PATH",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page of them")
    parser.add_argument("--markdown", action="store_true", help="Markdown even on a terminal")
    parser.add_argument(
        "--against", type=Path, metavar="FILE", help="print them beside those of a file or folder"
    )
    parser.add_argument(
        "--show", type=Path, metavar="FILE", help="measure nothing: take the figures of a file"
    )
    own = parser.add_argument_group("a model of your own")
    own.add_argument("--model", metavar="MODULE:NAME", help="the function that makes it")
    own.add_argument("--batch", metavar="SHAPE|MODULE:NAME", help="a shape, or what makes a batch")
    own.add_argument("--loss", metavar="MODULE:NAME", help="the loss of the model's output")
    own.add_argument("--steps", type=positive, default=100, help="of each contender (100)")
    own.add_argument("--lr", type=float, default=1e-3, help="learning rate (0.001)")
    own.add_argument("--momentum", type=float, default=0.9, help="(0.9)")
    own.add_argument("--weight-decay", type=float, default=0.0, help="(0)")
    own.add_argument("--max-norm", type=float, help="clip gradients to this norm")
    options = parser.parse_args(arguments)
    check(parser, options, subjects)
    return options


def check(
    parser: argparse.ArgumentParser, options: argparse.Namespace, subjects: tuple[str, ...]
) -> None:
    """Refuse what cannot be meant together."""
    for name in options.subjects:
        if name not in subjects:
            more = "" if len(subjects) > 1 else "; the others need a checkout of the repository"
            parser.error(f"there is no subject {name!r}; there are {', '.join(subjects)}{more}")
    alone = [each for each in ("model", "show") if getattr(options, each)]
    if len(alone) + bool(options.subjects) > 1:
        parser.error("subjects, --model and --show are three different things: give one of them")
    if not options.model and (options.batch or options.loss):
        parser.error("--batch and --loss belong to a --model")
    if not alone:
        options.subjects = [*dict.fromkeys(options.subjects or subjects[1:] or [STANDARD])]
        if options.json and options.json.suffix == ".json" and len(options.subjects) != 1:
            parser.error(
                f"--json {options.json}: a file keeps one subject; give a folder for several"
            )
