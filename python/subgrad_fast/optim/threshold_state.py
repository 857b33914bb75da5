"""From the groups and the state of `optim.ThresholdSGD` to one call of the kernels, and back."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from subgrad_fast._arrays import advised
from subgrad_fast._core.threshold import Call
from subgrad_fast.optim.dtensor import (
    align_gradients,
    any_sharded,
    made_for,
    shards_of,
)
from subgrad_fast.optim.peers import PeersOfGroups
from subgrad_fast.optim.squares import squares_of_step
from subgrad_fast.optim.stages import Judging, measures
from subgrad_fast.optim.tensors import slots_for
from subgrad_fast.optim.threshold_group import Group, check_choice, hyper_of, selector_of, warm
from subgrad_fast.select.magnitudes import is_together
from subgrad_fast.select.selectors import Reused
from subgrad_fast.threshold.result import ThresholdResult
from subgrad_fast.threshold.step import index_bytes_of

BUFFERS = ("momentum_buffer", "residual")

_NO_STATE: Group = {}


def state_dtype(param: Tensor) -> torch.dtype:
    """The dtype that a parameter's residual and momentum have: that of its arithmetic."""
    return torch.float64 if param.dtype == torch.float64 else torch.float32


def _new_state(param: Tensor) -> Tensor:
    made: Tensor = advised(torch.empty_like(param.detach(), dtype=state_dtype(param)))
    return made


class GroupStep:
    """A group's part in one step.

    Every tensor is looked at afresh. Nothing is made part of the optimizer's state before the step
    is done, so that one that raises leaves it as it was.
    """

    def __init__(self, optimizer: Optimizer, number: int) -> None:
        self.optimizer = optimizer
        self.number = number
        self.group = group = optimizer.param_groups[number]
        self.params: list[Tensor] = []
        self.grads: list[Tensor] = []
        for param in group["params"]:
            grad = param.grad
            if grad is not None:
                self.params.append(param)
                self.grads.append(grad)
        self.states: list[Group] = [optimizer.state.get(p, _NO_STATE) for p in self.params]
        self.new: list[tuple[Tensor, str, Tensor]] = []
        self.selector = warm(selector_of(group), group)
        self.together = is_together(group["scope"])

    def add_to(self, call: Call, peers: PeersOfGroups) -> None:
        """Hands the group to a call, of DTensors what lies here."""
        group = self.group
        check_choice(group)
        hyper, lr = hyper_of(group)
        momenta, first = self._buffers("momentum_buffer", wanted=group["momentum"] != 0)
        residuals, fresh = self._buffers("residual", wanted=group["error_feedback"])
        call.add(
            shards_of(self.params),
            shards_of(self.grads),
            residuals if residuals is None else shards_of(residuals),
            momenta if momenta is None else shards_of(momenta),
            hyper,
            lr=lr,
            momentum_correction=group["momentum_correction"],
            momentum_masking=group["momentum_masking"],
            choice=self.selector.choice,
            together=self.together,
            first=first,
            fresh=fresh,
            last=[memory.get("next_threshold") for memory in self._memories()],
            peers=peers.of(self.number, self.params) if self.together else None,
        )

    def _memories(self) -> list[Group]:
        """Where the last threshold of each scope is kept."""
        return [self.group] if self.together else self.states

    def _buffers(self, name: str, *, wanted: bool) -> tuple[list[Tensor] | None, list[bool]]:
        """The buffers of that name, and which of them are new and hold nothing."""
        if not wanted:
            return None, [False] * len(self.params)
        buffers: list[Any] = [state.get(name) for state in self.states]
        new = [buffer is None for buffer in buffers]
        for i, (buffer, param) in enumerate(zip(buffers, self.params, strict=True)):
            wanted_dtype = state_dtype(param)
            other = isinstance(buffer, Tensor) and buffer.dtype != wanted_dtype
            if other and buffer.dtype in (torch.float32, torch.float64):
                # The parameter's dtype has changed, as by model.double().
                buffers[i] = buffer.to(wanted_dtype)
                self.new.append((param, name, buffers[i]))
        for i in itertools.compress(range(len(new)), new):
            param = self.params[i]
            buffers[i] = made_for(param, _new_state)
            self.new.append((param, name, buffers[i]))
        return buffers, new

    def assignments(self) -> list[tuple[Group, str, Any]]:
        """What becomes of the group and the state once the step is taken, but for thresholds."""
        state = self.optimizer.state
        buffers = [(state[param], name, made) for param, name, made in self.new]
        return [*buffers, (self.group, "steps", self.group["steps"] + 1)]

    def memories(self) -> list[Group]:
        """Where the threshold that a scope goes on with is to be kept; nothing if nowhere."""
        if not isinstance(self.selector, Reused):
            return []
        state = self.optimizer.state
        return [self.group] if self.together else [state[param] for param in self.params]


def take_step(
    optimizer: Optimizer,
    emit: str | None,
    measure: bool,
    judging: Judging,
    peers: PeersOfGroups,
) -> ThresholdResult | None:
    """One step of all groups, wherever their parameters are; None where none has a gradient.

    A step that its gradients stop leaves the optimizer's state as it was.

    Raises:
        ValueError: parameters of a global scope are in several places; or as `threshold_step`.
    """
    align_gradients(p for group in optimizer.param_groups for p in group["params"])
    groups = range(len(optimizer.param_groups))
    steps = [step for number in groups if (step := GroupStep(optimizer, number)).params]
    if not steps:
        return None
    call = Call(index_bytes_of(emit), measure, judging.options())
    for step in steps:
        step.add_to(call, peers)
    params = list(itertools.chain.from_iterable(step.params for step in steps))
    squares = None
    if measures(judging, optimizer.param_groups) and any_sharded(optimizer):
        squares = squares_of_step(optimizer, params, call.squares())
    with slots_for(optimizer, params):
        report = call.run(
            announced=params,
            then=list(itertools.chain.from_iterable(step.assignments() for step in steps)),
            memories=[step.memories() for step in steps],
            squares=squares,
        )
    return ThresholdResult(report)
