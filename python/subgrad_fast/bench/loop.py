"""One contender: a model, an optimizer and batches, and a training loop whose parts are timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from subgrad_fast.bench.sources import Batch, Source, Stream
from subgrad_fast.bench.training_report import PARTS

Loss = Callable[..., Tensor]


def nothing() -> None:
    """What is waited for where nothing is queued."""


def loss_of(model: torch.nn.Module, batch: Batch, loss: Loss | None) -> Tensor:
    """The loss of a batch; `compare` says what a batch is to model and loss.

    Raises:
        TypeError: what came out is no tensor of one element.
    """
    if isinstance(batch, Mapping):
        found: Any = model(**batch)
        found = found if loss is None else loss(found, batch)
    elif loss is None:
        found = model(*batch) if isinstance(batch, tuple | list) else model(batch)
    elif isinstance(batch, tuple | list) and len(batch) > 1:
        found = loss(model(*batch[:-1]), batch[-1])
    else:
        found = loss(model(*batch) if isinstance(batch, tuple | list) else model(batch))
    if loss is None and not isinstance(found, Tensor):
        found = found["loss"] if isinstance(found, Mapping) else getattr(found, "loss", found)
    if not isinstance(found, Tensor) or found.numel() != 1:
        of = f"shape {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        whose = "model: its output" if loss is None else "loss: its result"
        raise TypeError(f"{whose} must be a tensor of one element, got {of}")
    return found


def clips_itself(optimizer: Any) -> bool:
    """Whether the optimizer's own step clips, so that nothing is to be clipped before it."""
    return any(
        group.get(term) is not None
        for group in optimizer.param_groups
        for term in ("max_norm", "clip_value")
    )


class Loop:
    """A contender's training loop. `run` goes some steps on and returns what each part took.

    A part that is not there takes no time, and is left out: the data of one batch over and over,
    clipping where there is none or the optimizer does it in its step.
    """

    def __init__(
        self,
        name: str,
        model: torch.nn.Module,
        optimizer: Any,
        source: Source,
        *,
        loss: Loss | None,
        max_norm: float | None,
        seed: int,
    ) -> None:
        self.name, self.model, self.optimizer, self.source = name, model, optimizer, source
        self.clips = max_norm is not None and not clips_itself(optimizer)
        self.left_out = [
            *(["data"] if source.fixed else []),
            *([] if self.clips else ["clip"]),
        ]
        self.parameters = [*model.parameters()]
        self.rounds: list[list[dict[str, int]]] = []
        self.last_loss = float("nan")
        self.expanded_gradient = False
        self._loss, self._max_norm, self._stream = loss, max_norm, Stream(seed)
        on_device = any(p.is_cuda for p in self.parameters)
        self._synchronize = torch.cuda.synchronize if on_device else nothing

    def run(self, steps: int) -> list[dict[str, int]]:
        """Go `steps` steps on. Returns the nanoseconds of each part of each."""
        self._synchronize()
        return [self._step(index) for index in range(steps)]

    def _step(self, index: int) -> dict[str, int]:
        clock, wait = time.perf_counter_ns, self._synchronize
        batch, data_ns = self.source.take(index, wait)
        with self._stream:
            begin = clock()
            loss = loss_of(self.model, batch, self._loss)
            wait()
            forward = clock()
            loss.backward()  # type: ignore[no-untyped-call]
            wait()
            backward = clock()
            if self.clips:
                assert self._max_norm is not None
                torch.nn.utils.clip_grad_norm_(self.parameters, self._max_norm)
                wait()
            clip = clock()
            self.optimizer.step()
            wait()
            step = clock()
            if not self.rounds:  # a step before those that count
                self._look_at_gradients()
            self.optimizer.zero_grad()
            wait()
            end = clock()
        self.last_loss = float(loss.detach())
        marks = (begin, forward, backward, clip, step, end)
        spans = (after - before for before, after in pairwise(marks))
        parts = dict(zip(PARTS, (data_ns, *spans), strict=True))
        for part in self.left_out:
            del parts[part]
        return parts

    def _look_at_gradients(self) -> None:
        """Notes gradients whose elements share memory: torch's own code steps those otherwise."""
        for p in self.parameters:
            if p.grad is not None and p.grad.layout == torch.strided and p.numel() > 1:
                self.expanded_gradient |= 0 in p.grad.stride()
