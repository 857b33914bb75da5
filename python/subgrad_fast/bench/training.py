"""`compare`: a model of the user's own, trained by several optimizers and loaders in turns."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch

from subgrad_fast._arguments import integer, number
from subgrad_fast.bench.agreement import agreement
from subgrad_fast.bench.circumstances import circumstances
from subgrad_fast.bench.harness import no_garbage_collection
from subgrad_fast.bench.loop import Loop, Loss
from subgrad_fast.bench.sources import Batch, Source, described
from subgrad_fast.bench.training_report import Report, summarize
from subgrad_fast.optim import SGD

Model = torch.nn.Module | Callable[[], torch.nn.Module]
MakeOptimizer = Callable[[list[torch.nn.Parameter]], Any]
Batches = Batch | Iterable[Batch] | Callable[[], Iterable[Batch]]

WARMUP = 3
"""Steps of each contender before those that count: they make state, plans and memory."""
ROUNDS = 8
REFUSED = (RuntimeError, TypeError, ValueError, NotImplementedError)


def default_optimizers(
    max_norm: float | None = None,
    *,
    lr: float = 1e-3,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
) -> dict[str, MakeOptimizer]:
    """torch's SGD, its fused form, and ours, which clips in its step."""
    terms: dict[str, Any] = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
    return {
        "torch": partial(torch.optim.SGD, **terms),
        "torch fused": partial(torch.optim.SGD, **terms, fused=True),
        "subgrad_fast": partial(SGD, **terms, max_norm=max_norm),
    }


def compare(
    model: Model,
    batch_or_loader: Batches,
    loss: Loss | None = None,
    *,
    optimizers: Mapping[str, MakeOptimizer] | None = None,
    data: Mapping[str, Batches] | None = None,
    steps: int = 100,
    max_norm: float | None = None,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> Report:
    """Train one model by several means, in turns, and say what each part of an iteration takes.

    Each contender has a copy of the model and goes through whole iterations: data, forward,
    backward, clip, step, zero_grad, each timed by itself. Contenders take turns in one process, a
    block of steps each, so that a noisy moment hits all of them; who begins goes round. Each model
    and loader has a stream of torch's random numbers of its own, begun from `seed`, so dropout and
    shuffles are the same for all. The model that is given is not changed.

    Args:
        model: a module, or a function without arguments that makes one.
        batch_or_loader: one batch, used over and over, or an iterable of batches, begun again at
            its end, or a function that makes one. A batch is a tensor, a tuple (or list) of
            tensors, or a mapping. Contenders without `data` of their own share it: a batch is
            taken once, and what it took counts for all of them.
        loss: called with what the model makes of a batch. Of a tuple the last is the target:
            ``loss(model(*batch[:-1]), batch[-1])``; of a mapping ``loss(model(**batch), batch)``;
            of a tensor ``loss(model(batch))``. None: the model takes all of the batch and returns
            the loss, or an object or mapping that has it as `loss`.
        optimizers: name -> a function from the list of parameters to an optimizer. None: torch's
            SGD, its fused form and ``subgrad_fast.optim.SGD``, with momentum 0.9. The first is the
            reference that the others are held against.
        data: name -> batches of that contender's own, as `batch_or_loader`. A name that
            `optimizers` has not is one more contender, with the reference's optimizer.
        steps: iterations of each contender that count, at least 1.
        max_norm: gradients are clipped to this norm before the step, by
            ``torch.nn.utils.clip_grad_norm_``; an optimizer with a `max_norm` or `clip_value` of
            its own is left to clip in its step, as ours does where `optimizers` is None.
        seed: of the streams of random numbers.
        progress: called with the steps done and the steps in all.

    Returns:
        Report: medians, minima, spreads, whether the weights agree; as text, JSON, HTML, a plot.
        A contender other than the reference that raises at its first steps is in its `failed`.

    Raises:
        TypeError, ValueError: an argument is of a wrong kind; the message begins with its name.
    """
    steps, seed = integer("steps", steps, 1), integer("seed", seed)
    if max_norm is not None:
        max_norm = number("max_norm", max_norm)
        if not max_norm > 0:
            raise ValueError(f"max_norm: expected a number > 0 or None, got {max_norm!r}")
    for name, value in (("loss", loss), ("progress", progress)):
        if value is not None and not callable(value):
            raise TypeError(f"{name}: expected a function or None, got {type(value).__name__}")
    makers = _functions(default_optimizers(max_norm) if optimizers is None else optimizers)
    own_data = _mapping("data", {} if data is None else data)
    sources = {"": Source("batch_or_loader", batch_or_loader, seed)}
    sources |= {name: Source(f"data[{name!r}]", own, seed) for name, own in own_data.items()}
    reference, *_ = makers
    loops = [
        _loop(
            name,
            _copy_of(model, seed),
            makers.get(name, makers[reference]),
            sources.get(name, sources[""]),
            loss=loss,
            max_norm=max_norm,
            seed=seed,
        )
        for name in dict.fromkeys((*makers, *own_data))
    ]
    failed = _train(loops, steps, progress)
    return _report(loops, failed, seed)


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name}: expected a mapping with names, got {type(value).__name__}")
    return dict(value)


def _functions(optimizers: Any) -> dict[str, MakeOptimizer]:
    makers = _mapping("optimizers", optimizers)
    if not makers:
        raise ValueError("optimizers: expected at least one, got none")
    for name, make in makers.items():
        if not callable(make):
            raise TypeError(
                f"optimizers[{name!r}]: expected a function of the parameters, "
                f"got {type(make).__name__}"
            )
    return makers


def _copy_of(model: Any, seed: int) -> torch.nn.Module:
    """A module that nobody else has, with the same weights at each call."""
    made: Any = model
    if not isinstance(model, torch.nn.Module):
        if not callable(model):
            raise TypeError(
                f"model: expected a module or a function that makes one, got {type(model).__name__}"
            )
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            made = model()
        if not isinstance(made, torch.nn.Module):
            raise TypeError(f"model: expected it to make a module, got {type(made).__name__}")
    copied: torch.nn.Module = copy.deepcopy(made)
    if not any(p.requires_grad for p in copied.parameters()):
        raise ValueError("model: has no parameters that want a gradient")
    return copied


def _loop(
    name: str, model: torch.nn.Module, make: MakeOptimizer, source: Source, **kwargs: Any
) -> Loop:
    optimizer = make([p for p in model.parameters() if p.requires_grad])
    missing = [m for m in ("step", "zero_grad", "param_groups") if not hasattr(optimizer, m)]
    if missing:
        raise TypeError(
            f"optimizers[{name!r}]: expected an optimizer, got {type(optimizer).__name__}, "
            f"which has no {missing[0]}"
        )
    return Loop(name, model, optimizer, source, **kwargs)


def _train(
    loops: list[Loop], steps: int, progress: Callable[[int, int], object] | None
) -> dict[str, str]:
    """Warm up, then let all take turns. Returns why contenders are no longer among `loops`."""
    block = max(1, min(10, steps // ROUNDS))
    rounds, failed = math.ceil(steps / block), {}
    sources = {id(loop.source): loop.source for loop in loops}.values()
    with no_garbage_collection():
        for loop in [*loops]:
            try:
                loop.run(WARMUP)
            except REFUSED as error:
                if loop is loops[0]:
                    raise
                failed[loop.name] = f"{type(error).__name__}: {error}"
                loops.remove(loop)
        for done in range(rounds):
            for source in sources:
                source.begin_block()
            first = done % len(loops)
            for loop in [*loops[first:], *loops[:first]]:
                loop.rounds.append(loop.run(block))
            if progress is not None:
                progress(min((done + 1) * block, steps), steps)
    return failed


def _report(loops: list[Loop], failed: dict[str, str], seed: int) -> Report:
    reference = loops[0]
    device = next((str(p.device) for p in reference.parameters if p.is_cuda), None)
    weights = sum(p.numel() for p in reference.parameters)
    model = type(reference.model).__name__
    return summarize(
        {
            "model": f"{model}: {len(reference.parameters)} parameters, {weights:,} weights",
            "batch": described(reference.source.take(0, lambda: None)[0]),
            "seed": seed,
            "threads": torch.get_num_threads(),
            **circumstances(device),
        },
        {loop.name: loop.rounds for loop in loops},
        losses={loop.name: loop.last_loss for loop in loops},
        optimizers={loop.name: _class_of(loop.optimizer) for loop in loops},
        agreements={loop.name: agreement(reference, loop) for loop in loops[1:]},
        failed=failed,
    )


def _class_of(optimizer: Any) -> str:
    module, name = type(optimizer).__module__, type(optimizer).__qualname__
    # Classes are named by where one imports them from, not by the file that they stand in.
    for package in ("torch.optim", "subgrad_fast.optim"):
        if module.startswith(package):
            module = package
    group = optimizer.param_groups[0]
    ways = [f"{way}={group[way]}" for way in ("fused", "foreach") if group.get(way) is not None]
    return f"{module}.{name}({', '.join(ways)})" if ways else f"{module}.{name}"
