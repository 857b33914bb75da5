"""From the groups and the state of `optim.ThresholdSGD` to one call of the kernels."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from subgrad_fast import _core
from subgrad_fast._device import on_device
from subgrad_fast.optim.threshold_group import Group, check_group, rate, selector_of, warm
from subgrad_fast.select.magnitudes import is_together
from subgrad_fast.select.selectors import Reused, Selector, next_threshold, request
from subgrad_fast.threshold.device import DeviceStep, JoinedThresholdResult
from subgrad_fast.threshold.result import (
    INDEX_BYTES,
    Scopes,
    ThresholdResult,
    core_placement,
    result_of,
)

BUFFERS = ("momentum_buffer", "residual")

_NO_STATE: Group = {}


def state_dtype(param: Tensor) -> torch.dtype:
    """The dtype that a parameter's residual and momentum have: that of its arithmetic."""
    return torch.float64 if param.dtype == torch.float64 else torch.float32


@dataclass
class Part:
    """Those parameters of a group that have a gradient, all of them or what is in one place."""

    group: Group
    params: list[Tensor]
    grads: list[Tensor]


def with_gradients(group: Group) -> Part:
    part = Part(group, [], [])
    for param in group["params"]:
        grad = param.grad
        if grad is not None:
            part.params.append(param)
            part.grads.append(grad)
    return part


def place_of(param: Tensor) -> Any:
    """Parameters in one place are stepped together."""
    return param.device


class Work:
    """One step of what is in one place: what the kernels are given, and what becomes state then.

    Every array is looked at afresh. Nothing is made part of the optimizer's state before the step
    is done, so that one that raises leaves it as it was.
    """

    def __init__(self, optimizer: Optimizer, parts: list[Part]) -> None:
        self.optimizer = optimizer
        self.params: list[Tensor] = []
        self.grads: list[Tensor] = []
        self.residuals: list[Tensor | None] = []
        self.momenta: list[Tensor | None] = []
        self.scopes = Scopes()
        self.rows: list[_core.ThresholdParams] = []
        self.rates: list[Tensor | None] = []  # by row: a learning rate on the device
        self.selectors: list[Selector] = []  # by scope
        self.last: list[float | None] = []  # by scope: the last threshold
        self.owners: list[Tensor | Group] = []  # by scope: whose threshold it is
        self.placements: list[_core.Placement] = []
        self.new: list[tuple[Tensor, str, Tensor]] = []
        for part in parts:
            self._add(part)
        self.on_device = on_device(self.params)

    def _add(self, part: Part) -> None:
        group = part.group
        check_group(group)
        selector = warm(selector_of(group), group)
        lr, lr_on_device = rate(group)
        if lr_on_device is not None and not on_device(part.params):
            lr, lr_on_device = float(lr_on_device), None
        row = len(self.rows)
        self.rates.append(lr_on_device)
        self.rows.append(
            _core.ThresholdParams(
                lr,
                group["momentum"],
                group["dampening"],
                group["weight_decay"],
                group["nesterov"],
                group["maximize"],
                group["decoupled_weight_decay"],
                group["momentum_correction"],
                group["momentum_masking"],
            )
        )
        states: list[Group] = [self.optimizer.state.get(p, _NO_STATE) for p in part.params]
        together = is_together(group["scope"])
        owners: list[Any] = [group] if together else part.params
        self.owners += owners
        self.selectors += [selector] * len(owners)
        memories = [group] if together else states
        self.last += [memory.get("next_threshold") for memory in memories]
        self.scopes.add([param.numel() for param in part.params], together=together)

        first = self._buffers(part, states, "momentum_buffer", self.momenta, group["momentum"] != 0)
        fresh = self._buffers(part, states, "residual", self.residuals, group["error_feedback"])
        own_scopes = self.scopes.of_tensor[len(self.params) :]
        self.placements += [
            core_placement(row, *each) for each in zip(own_scopes, first, fresh, strict=True)
        ]
        self.params += part.params
        self.grads += part.grads

    def _buffers(
        self, part: Part, states: list[Group], name: str, to: list[Tensor | None], wanted: bool
    ) -> list[bool]:
        """Adds the buffers of that name; returns which are new and hold nothing."""
        if not wanted:
            to += [None] * len(states)
            return [False] * len(states)
        buffers = [state.get(name) for state in states]
        new = [buffer is None for buffer in buffers]
        for i in itertools.compress(range(len(new)), new):
            param = part.params[i]
            made = torch.empty_like(param.detach(), dtype=state_dtype(param))
            buffers[i] = made
            self.new.append((param, name, made))
        to += buffers
        return new

    def prepare(self, emit: str | None, measure: bool) -> Callable[[], ThresholdResult]:
        """What takes the step. On a device everything has been checked then."""
        if not self.on_device:
            return lambda: self._run_on_host(emit, measure)
        # A threshold to be reused would have to be read; the selection is exact instead.
        requests = [
            request(selector, n)
            for selector, n in zip(self.selectors, self.scopes.sizes, strict=True)
        ]
        step = DeviceStep(
            self.params,
            self.params,
            self.grads,
            self.residuals,
            self.momenta,
            self.rows,
            requests,
            self.placements,
            self.scopes,
            emit,
            measure,
            rates=self.rates,
        )

        def run() -> ThresholdResult:
            result = step.run(self.params)
            self._become_state()
            return result

        return run

    def _become_state(self) -> None:
        for param, name, made in self.new:
            self.optimizer.state[param][name] = made

    def _run_on_host(self, emit: str | None, measure: bool) -> ThresholdResult:
        requests = [
            request(*each)
            for each in zip(self.selectors, self.scopes.sizes, self.last, strict=True)
        ]
        report = _core.threshold_step(
            self.params,
            self.grads,
            self.residuals,
            self.momenta,
            self.rows,
            requests,
            self.placements,
            INDEX_BYTES[emit],
            measure,
            self.params,
        )
        self._become_state()
        if any(isinstance(selector, Reused) for selector in self.selectors):
            self._remember(report[1], self.scopes.kept(report[0]))
        return result_of(self.params, self.scopes, report, emit)

    def _remember(self, thresholds: list[float], kept: list[int]) -> None:
        """The thresholds that the next step goes on with."""
        for i, selector in enumerate(self.selectors):
            if isinstance(selector, Reused):
                owner = self.owners[i]
                memory = owner if isinstance(owner, dict) else self.optimizer.state[owner]
                memory["next_threshold"] = next_threshold(
                    selector, self.scopes.sizes[i], thresholds[i], kept[i]
                )


def take_step(optimizer: Optimizer, emit: str | None, measure: bool) -> ThresholdResult | None:
    """One step of all groups, wherever their parameters are; None where none has a gradient.

    Raises:
        ValueError: parameters of a global scope are in several places; or as `threshold_step`.
    """
    parts = [part for g in optimizer.param_groups if (part := with_gradients(g)).params]
    where = [[place_of(param) for param in part.params] for part in parts]
    places = list(dict.fromkeys(itertools.chain.from_iterable(where)))
    if len(places) > 1:
        _check_global(parts, where)
    works = [Work(optimizer, _in_place(place, parts, where)) for place in places]
    runs = [work.prepare(emit, measure) for work in works]
    # The host's first: it checks when it runs, and the others have been checked.
    turns = sorted(range(len(runs)), key=lambda i: works[i].on_device)
    done = {i: runs[i]() for i in turns}
    for part in parts:
        part.group["steps"] += 1
    if len(done) < 2:
        return done.get(0)
    return JoinedThresholdResult([done[i] for i in range(len(works))], _order(places, where))


def _check_global(parts: list[Part], where: list[list[Any]]) -> None:
    for part, own in zip(parts, where, strict=True):
        for i, place in enumerate(own):
            if part.group["scope"] == "global" and place != own[0]:
                raise ValueError(
                    f"scope: one threshold needs one device, and of its parameters the first is on "
                    f"{own[0]} and number {i} on {place}"
                )


def _in_place(place: Any, parts: list[Part], where: list[list[Any]]) -> list[Part]:
    """What is in one place."""
    own = []
    for part, at in zip(parts, where, strict=True):
        here = [each == place for each in at]
        if any(here):
            params = list(itertools.compress(part.params, here))
            own.append(Part(part.group, params, list(itertools.compress(part.grads, here))))
    return own


def _order(places: list[Any], where: list[list[Any]]) -> list[tuple[int, int]]:
    """Of every parameter, in the groups' order: its place, and its number there."""
    counts = {place: itertools.count() for place in places}
    return [(places.index(at), next(counts[at])) for at in itertools.chain.from_iterable(where)]
