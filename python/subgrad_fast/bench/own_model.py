"""`bench --model`: a model of the user's own, found by its name."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from typing import Any

from subgrad_fast.bench import progress
from subgrad_fast.bench.training_report import Report


def found(option: str, name: str) -> Any:
    """What stands under `module:name`; modules of the current folder count.

    Raises:
        ValueError: there is no such thing.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"{option} {name}: expected module:name, as my.package:make_model")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        thing = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{option} {name}: {error}") from error
    for part in attribute.split("."):
        if not hasattr(thing, part):
            raise ValueError(f"{option} {name}: {module} has no {attribute}")
        thing = getattr(thing, part)
    return thing


def batch_of(text: str) -> Any:
    """A batch of `--batch`: of a shape random numbers, or what a function returns."""
    import torch

    if re.fullmatch(r"\d+(x\d+)*", text):
        shape = [int(length) for length in text.split("x")]
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))
    make = found("--batch", text)
    return make() if callable(make) else make


def mean_square(output: Any) -> Any:
    """A loss that every output has."""
    return output.square().mean()


def measure(options: argparse.Namespace) -> Report:
    """Train the model by torch's means and by ours.

    Raises:
        ValueError, TypeError: what is named cannot be found, or is no such thing.
    """
    import torch

    from subgrad_fast.bench.training import compare, default_optimizers

    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    made = found("--model", options.model)
    if callable(made) and not isinstance(made, torch.nn.Module):
        made = made()
    model, batch, loss = (*made, None, None)[:3] if isinstance(made, tuple) else (made, None, None)
    if options.batch:
        batch = batch_of(options.batch)
        if loss is None and isinstance(batch, torch.Tensor) and not options.loss:
            loss = mean_square
    if options.loss:
        loss = found("--loss", options.loss)
    if batch is None:
        raise ValueError(f"--model {options.model}: returns no batch; give one by --batch")
    terms = {"lr": options.lr, "momentum": options.momentum, "weight_decay": options.weight_decay}
    with progress.shown(options.steps, seconds=False) as shown:
        shown.begin(f"{options.model}, {options.steps} steps of each")
        report = compare(
            model,
            batch,
            loss,
            optimizers=default_optimizers(options.max_norm, **terms),
            steps=options.steps,
            max_norm=options.max_norm,
            progress=lambda done, _: shown.at(done),
        )
        shown.end("measured")
    return report
