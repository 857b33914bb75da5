"""From the groups and the state of `optim.ThresholdSGD` to one call of the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from subgrad_fast import _core
from subgrad_fast._device import on_device
from subgrad_fast._sparse_device import DeviceStep, JoinedSparseResult
from subgrad_fast._sparse_result import INDEX_BYTES, Scopes, SparseResult, result_of
from subgrad_fast.functional import _check_hyperparameters
from subgrad_fast.selection import is_together
from subgrad_fast.selectors import (
    Absolute,
    Reused,
    Selector,
    check_density,
    make_selector,
    next_threshold,
    request,
)

Group = dict[str, Any]

# Where Deep Gradient Compression begins its warm-up.
_FIRST_DENSITY = 0.25

# What a group's choice of elements is stored as: numbers and names, so that a state_dict loads
# without classes of ours.
SELECTION = ("selector", "threshold", "density", "k")

BUFFERS = ("momentum_buffer", "residual")


def state_dtype(param: Tensor) -> torch.dtype:
    """The dtype that a parameter's residual and momentum have: that of its arithmetic."""
    return torch.float64 if param.dtype == torch.float64 else torch.float32


def settings(selector: Selector) -> Group:
    """What a group stores of a selector."""
    numbers = {name: getattr(selector, name, None) for name in ("threshold", "density", "k")}
    return {"selector": selector.name, **numbers}


def _selector(group: Group) -> Selector:
    return make_selector(*(group[name] for name in SELECTION))


def _warm(selector: Selector, group: Group) -> Selector:
    """The selector with the density of this step of the warm-up."""
    warmup, steps = group["warmup"], group["steps"]
    if isinstance(selector, Absolute) or selector.density is None:
        return selector
    if isinstance(warmup, int):
        if steps >= warmup or selector.density >= _FIRST_DENSITY or selector.density == 0.0:
            return selector
        done = steps / warmup
        density = _FIRST_DENSITY ** (1.0 - done) * selector.density**done
    else:
        phase = steps // group["warmup_steps"]
        if phase >= len(warmup):
            return selector
        density = warmup[phase]
    return type(selector)(density)


def _rate(group: Group) -> tuple[float, Tensor | None]:
    """The learning rate: a number, or a tensor that is read on the device when a step runs."""
    lr = group["lr"]
    if isinstance(lr, Tensor) and lr.dtype == torch.float32 and lr.numel() == 1 and on_device([lr]):
        return 0.0, lr
    return float(lr), None


def check_group(group: Group) -> None:
    """Raises ValueError for a hyper-parameter that is out of range."""
    _check_hyperparameters(
        _rate(group)[0],
        group["momentum"],
        group["dampening"],
        group["weight_decay"],
        group["nesterov"],
    )
    is_together(group["scope"])
    warmup = group["warmup"]
    if isinstance(warmup, int):
        if warmup < 0:
            raise ValueError(f"warmup: expected a number of steps >= 0, got {warmup}")
    else:
        for i, density in enumerate(warmup):
            check_density(density, f"warmup[{i}]")
    if group["warmup_steps"] < 1:
        raise ValueError(f"warmup_steps: expected a number >= 1, got {group['warmup_steps']}")
    if warmup and group["density"] is None:
        raise ValueError("warmup: needs a density to end at")


def with_gradients(group: Group) -> list[Tensor]:
    return [p for p in group["params"] if p.grad is not None]


def place_of(param: Tensor) -> Any:
    """Parameters in one place are stepped together."""
    return param.device


class Work:
    """One step of what is in one place: what the kernels are given, and what becomes state then.

    Every array is looked at afresh. Nothing is made part of the optimizer's state before the step
    is done, so that one that raises leaves it as it was.
    """

    def __init__(self, optimizer: Optimizer, place: Any) -> None:
        self.optimizer = optimizer
        self.place = place
        self.params: list[Tensor] = []
        self.grads: list[Tensor] = []
        self.residuals: list[Tensor | None] = []
        self.momenta: list[Tensor | None] = []
        self.scopes = Scopes()
        self.rows: list[_core.SparseParams] = []
        self.rates: list[Tensor | None] = []  # by row: a learning rate on the device
        self.selectors: list[tuple[Selector, float | None]] = []  # by scope, and the last threshold
        self.owners: list[Tensor | Group] = []  # by scope: whose threshold it is
        self.placements: list[_core.Placement] = []
        self.new: list[tuple[Tensor, str, Tensor]] = []
        for group in optimizer.param_groups:
            self._add(group)

    def _add(self, group: Group) -> None:
        params = [p for p in with_gradients(group) if place_of(p) == self.place]
        if not params:
            return
        check_group(group)
        selector = _warm(_selector(group), group)
        lr, lr_on_device = _rate(group)
        if lr_on_device is not None and not on_device(params):
            lr, lr_on_device = float(lr_on_device), None
        self.rates.append(lr_on_device)
        self.rows.append(
            _core.SparseParams(
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
        for i, param in enumerate(params):
            if i == 0 or group["scope"] == "tensor":
                owner = param if group["scope"] == "tensor" else group
                memory = owner if isinstance(owner, dict) else self.optimizer.state.get(owner, {})
                self.owners.append(owner)
                self.selectors.append((selector, memory.get("next_threshold")))
                self.scopes.open()
            self.scopes.add(len(self.scopes.sizes) - 1, param.numel())
            self._add_param(param, group)

    def _add_param(self, param: Tensor, group: Group) -> None:
        self.params.append(param)
        assert param.grad is not None
        self.grads.append(param.grad)
        momentum, first = self._buffer(param, "momentum_buffer", group["momentum"] != 0.0)
        residual, fresh = self._buffer(param, "residual", group["error_feedback"])
        self.momenta.append(momentum)
        self.residuals.append(residual)
        row, scope = len(self.rows) - 1, len(self.scopes.sizes) - 1
        self.placements.append(_core.Placement(row, scope, first, fresh))

    def _buffer(self, param: Tensor, name: str, wanted: bool) -> tuple[Tensor | None, bool]:
        """The buffer of that name, and whether it is new and holds nothing."""
        if not wanted:
            return None, False
        found = self.optimizer.state.get(param, {}).get(name)
        if found is not None:
            return found, False
        made = torch.empty_like(param.detach(), dtype=state_dtype(param))
        self.new.append((param, name, made))
        return made, True

    def prepare(self, emit: str | None, measure: bool) -> Callable[[], SparseResult]:
        """What takes the step. On a device everything has been checked then."""
        if not on_device(self.params):
            return lambda: self._run_on_host(emit, measure)
        # A threshold to be reused would have to be read; the selection is exact instead.
        requests = [
            request(selector, n)
            for (selector, _), n in zip(self.selectors, self.scopes.sizes, strict=True)
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

        def run() -> SparseResult:
            result = step.run(self.params)
            self._become_state()
            return result

        return run

    def _become_state(self) -> None:
        for param, name, made in self.new:
            self.optimizer.state[param][name] = made

    def _run_on_host(self, emit: str | None, measure: bool) -> SparseResult:
        requests = [
            request(selector, n, last)
            for (selector, last), n in zip(self.selectors, self.scopes.sizes, strict=True)
        ]
        report = _core.sparse_step(
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
        kept = self.scopes.kept(report[0])
        for i, (selector, _) in enumerate(self.selectors):
            if isinstance(selector, Reused):
                owner = self.owners[i]
                memory = owner if isinstance(owner, dict) else self.optimizer.state[owner]
                memory["next_threshold"] = next_threshold(
                    selector, self.scopes.sizes[i], report[1][i], kept[i]
                )
        return result_of(self.params, self.scopes, report, emit)


def take_step(optimizer: Optimizer, emit: str | None, measure: bool) -> SparseResult | None:
    """One step of all groups, wherever their parameters are; None where none has a gradient.

    Raises:
        ValueError: parameters of a global scope are in several places; and as `sparse_step` does.
    """
    groups = [group for group in optimizer.param_groups if with_gradients(group)]
    order: list[tuple[int, int]] = []
    counts: dict[Any, int] = {}
    for group in groups:
        for i, param in enumerate(params := with_gradients(group)):
            place = place_of(param)
            if group["scope"] == "global" and place != (first := place_of(params[0])):
                raise ValueError(
                    f"scope: one threshold needs one device, and of its parameters the first is on "
                    f"{first} and number {i} on {place}"
                )
            counts.setdefault(place, 0)
            order.append((list(counts).index(place), counts[place]))
            counts[place] += 1
    works = [Work(optimizer, place) for place in counts]
    runs = [work.prepare(emit, measure) for work in works]
    # The host's first: it checks when it runs, and the others have been checked.
    turns = sorted(range(len(runs)), key=lambda i: on_device(works[i].params))
    done = {i: runs[i]() for i in turns}
    for group in groups:
        group["steps"] += 1
    if len(done) < 2:
        return done.get(0)
    return JoinedSparseResult([done[i] for i in range(len(works))], order)
