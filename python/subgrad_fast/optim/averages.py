"""Averages of weights that an optimizer keeps: swapped in, saved, and crossed with torch's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from subgrad_fast._arguments import check_names
from subgrad_fast.optim.counts import Counting
from subgrad_fast.optim.dtensor import distributed_like, made_for, whole_as
from subgrad_fast.optim.tensors import average_dtype, new_buffer

Schedule = Callable[[int], float]


def new_average(param: Tensor) -> Tensor:
    """An average for a parameter, laid out like it, that holds nothing yet."""

    def make(plain: Tensor) -> Tensor:
        return new_buffer(torch.empty_like(plain.detach(), dtype=average_dtype(plain)))

    return made_for(param, make)


def average_with_torch(average: Tensor | None, param: Tensor, decay: float) -> Tensor:
    """A step of an average of a parameter that torch has stepped; the first one is a copy."""
    weights = param.detach().to(average_dtype(param))
    if average is None:
        return weights.clone()
    return average.lerp_(weights, 1 - decay)


class Averaging(Counting):
    """What an optimizer that keeps averages offers: a base of `SGD`."""

    _swapped: bool = False
    _schedules: dict[int, Schedule]  # by number of the group
    _averaged_buffers: dict[str, Tensor]

    def _averages(self) -> dict[Tensor, Tensor]:
        """By parameter, those that there are."""
        self._settle()
        return {p: slots["ema"] for p, slots in self.state.items() if "ema" in slots}

    def _schedule_decays(self) -> None:
        """Gives groups with a schedule the decay of their next step."""
        for index, schedule in self._schedules.items():
            group = self.param_groups[index]
            group["ema_decay"] = schedule(group["ema_steps"])

    def _count_averaged(self) -> None:
        for index in self._schedules:
            self.param_groups[index]["ema_steps"] += 1

    def _take_schedule(self, index: int) -> None:
        """Keeps a group's decay that is a function apart: a ``state_dict`` holds numbers."""
        decay = self.param_groups[index].get("ema_decay")
        if callable(decay):
            self._schedules[index] = decay
            self.param_groups[index]["ema_steps"] = 0
            self.param_groups[index]["ema_decay"] = decay(0)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the parameters hold their averages, in place; then what they held.

        Parameters without an average (frozen ones, or before the first step) stay as they are. The
        optimizer must not step meanwhile.

        Raises:
            RuntimeError: within another such block, or for a step in it.
        """
        if self._swapped:
            raise RuntimeError("averaged: the parameters hold their averages already")
        pairs = self._averages()
        self._plan = None  # so that a step looks at `_swapped`
        kept = {param: param.detach().clone() for param in pairs}
        self._swapped = True
        try:
            with torch.no_grad():
                for param, average in pairs.items():
                    param.copy_(average)
            yield
        finally:
            with torch.no_grad():
                for param, weights in kept.items():
                    param.copy_(weights)
            self._swapped = False

    def ema_buffers(self, model: Module, *, average: bool = True) -> None:
        """Takes the model's buffers into the averages; call it after each step.

        Args:
            model: whose parameters this optimizer steps.
            average: floating-point buffers (the statistics of BatchNorm) are averaged with the
                decay of the first group, as ``AveragedModel(use_buffers=True)`` does. False copies
                them. Integer buffers are copied.
        """
        decay = self.param_groups[0].get("ema_decay")
        if decay is None:
            raise ValueError("ema_buffers: the first group has no ema_decay")
        for name, buffer in model.named_buffers():
            kept = self._averaged_buffers.get(name)
            moves = average and kept is not None and buffer.is_floating_point()
            self._averaged_buffers[name] = average_with_torch(
                kept if moves else None, buffer, decay
            )

    def ema_state_dict(self, model: Module) -> dict[str, Tensor]:
        """The model's ``state_dict`` with averages in place of parameters that have one.

        It loads into the model, into a copy of it, or into the ``module`` of
        ``torch.optim.swa_utils.AveragedModel``. Buffers are those of `ema_buffers` where it was
        called, else the model's own.

        Args:
            model: whose parameters this optimizer steps.
        """
        averages = self._averages()
        state: dict[str, Tensor] = dict(model.state_dict())
        for name, param in model.named_parameters(remove_duplicate=False):
            if param in averages:
                state[name] = averages[param].detach()
        for name, buffer in self._averaged_buffers.items():
            if name in state:
                state[name] = buffer
        return state

    def load_ema_state_dict(self, model: Module, state: dict[str, Tensor]) -> None:
        """Makes saved averages the optimizer's: of `ema_state_dict`, or of an ``AveragedModel``.

        Args:
            model: whose parameters this optimizer steps.
            state: by name, as ``averaged_model.module.state_dict()`` gives it.

        Raises:
            TypeError, ValueError: a parameter is missing or has another shape. Nothing has changed
                then.
        """
        ours = {p for group in self.param_groups for p in group["params"]}
        stepped = [(name, param) for name, param in model.named_parameters() if param in ours]
        check_names(state, [name for name, _ in stepped])
        averages: dict[Tensor, Tensor] = {}
        for name, param in stepped:
            if state[name].shape != param.shape:
                raise ValueError(
                    f"state[{name!r}]: expected shape {tuple(param.shape)}, "
                    f"got {tuple(state[name].shape)}"
                )
            averages[param] = new_average(param).copy_(whole_as(state[name], param))
        buffers = {n: state[n].clone() for n, _ in model.named_buffers() if n in state}
        self._settle()
        self._plan = None
        for weights, average in averages.items():
            self.state.setdefault(weights, {})["ema"] = average
        if self._averaged_buffers:
            self._averaged_buffers = buffers


def restore_averages(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Averages as they were saved: torch's ``load_state_dict`` casts them to the weights' dtype."""
    for group, old in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        for param, number in zip(group["params"], old["params"], strict=True):
            average = saved["state"].get(number, {}).get("ema")
            if isinstance(average, Tensor):
                average = distributed_like(average, param)
                optimizer.state[param]["ema"] = new_average(param).copy_(average)
