"""`optim.ThresholdSGD`: the thresholded step as a torch optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from subgrad_fast import _core
from subgrad_fast.functional import _check_hyperparameters
from subgrad_fast.selectors import (
    Absolute,
    Reused,
    Selector,
    check_density,
    make_selector,
    next_threshold,
    request,
)
from subgrad_fast.sparse import INDEX_BYTES, Scopes, SparseResult, check_scope, result_of

Group = dict[str, Any]

# Where Deep Gradient Compression begins its warm-up.
_FIRST_DENSITY = 0.25

# What a group's choice of elements is stored as: numbers and names, so that a state_dict loads
# without classes of ours.
_SELECTION = ("selector", "threshold", "density", "k")

_BUFFERS = ("momentum_buffer", "residual")


def _state_dtype(param: Tensor) -> torch.dtype:
    return torch.float64 if param.dtype == torch.float64 else torch.float32


def _settings(selector: Selector) -> Group:
    numbers = {name: getattr(selector, name, None) for name in ("threshold", "density", "k")}
    return {"selector": selector.name, **numbers}


def _selector(group: Group) -> Selector:
    return make_selector(*(group[name] for name in _SELECTION))


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


class ThresholdSGD(Optimizer):
    """SGD that applies only large entries and keeps the others until they are large.

    `subgrad_fast.sparse_step` over all tensors of all groups in one call: the formula is there.
    With a density of 1 and ``momentum_masking=False`` it has the bits of `optim.SGD` (of 16-bit
    parameters those of `sgd_step` with float32 momentum).

    Every hyper-parameter can be set for a param group. Everything that a resumed run needs is in
    ``state_dict()``, as tensors, numbers and names: ``residual`` and ``momentum_buffer`` (float64
    for float64 parameters, float32 for all others), the last threshold of a reused one
    (``next_threshold``), and for each group the number of its steps.

    Args:
        params: parameters or dicts that define groups. Dense CPU tensors of dtype float32, float64,
            bfloat16 or float16.
        lr: learning rate, >= 0.
        momentum, dampening, weight_decay, nesterov, maximize, decoupled_weight_decay: as in
            `sgd_step`.
        density: apply this share of the elements.
        threshold: apply elements of at least this magnitude. One of the two is given.
        selector: how a density is met: "exact" (the default), "sampled" or "reused", or one of the
            classes `Absolute`, `Exact`, `Sampled`, `Reused` with its own numbers.
        scope: "tensor", a threshold for each parameter; "global", one for each param group.
        error_feedback: False drops what is not applied, and there are no residuals.
        momentum_correction: accumulate the momentum rather than the gradient.
        momentum_masking: forget the momentum where it was applied; only with momentum correction.
        warmup: a number of steps in which the density falls exponentially from 0.25 (Lin et al.,
            2018); or a sequence of densities, each for `warmup_steps` steps, before `density`.
        warmup_steps: see `warmup`.
        emit: "int32" or "int64": `last_result` has which elements were applied, and the values.
        measure: `last_result` has the share of energy kept and the residual's norm.

    Attributes:
        last_result: what the last step did, a `SparseResult` with an entry for each parameter that
            had a gradient, in the order of the groups; None before the first step. Not part of the
            ``state_dict``.

    Raises:
        ValueError: a hyper-parameter is out of range. A step raises it, as `sparse_step` does, for
            tensors that cannot be stepped, before anything is written.
    """

    last_result: SparseResult | None = None

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        density: float | None = None,
        threshold: float | None = None,
        selector: Selector | str | None = None,
        scope: str = "tensor",
        error_feedback: bool = True,
        momentum_correction: bool = True,
        momentum_masking: bool = True,
        warmup: int | Sequence[float] = 0,
        warmup_steps: int = 1,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        emit: str | None = None,
        measure: bool = False,
    ) -> None:
        if emit not in INDEX_BYTES:
            raise ValueError(f"emit: expected None, 'int32' or 'int64', got {emit!r}")
        self.emit = emit
        self.measure = measure
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
            "scope": scope,
            "error_feedback": error_feedback,
            "momentum_correction": momentum_correction,
            "momentum_masking": momentum_masking,
            "warmup": warmup if isinstance(warmup, int) else list(warmup),
            "warmup_steps": warmup_steps,
            "steps": 0,
            **_settings(make_selector(selector, threshold, density)),
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: Group) -> None:
        """Adds a group; what it does not say is as in the constructor.

        Raises:
            ValueError: a hyper-parameter is out of range, or a parameter is in another group.
        """
        if isinstance(param_group, dict):  # else torch says what it is not
            own = {name: param_group[name] for name in _SELECTION if name in param_group}
            if set(own) == {"selector"} and isinstance(own["selector"], str):
                own["density"] = self.defaults["density"]
            if set(own) == {"density"} and self.defaults["density"] is not None:
                own["selector"] = self.defaults["selector"]
            if own:
                asked = make_selector(*(own.get(name) for name in _SELECTION))
                param_group = {**param_group, **_settings(asked)}
            _check_group({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def __setstate__(self, state: Group) -> None:
        """Takes over a state (unpickled, copied, loaded), also one that another class has saved."""
        super().__setstate__(state)
        self.__dict__.setdefault("emit", None)
        self.__dict__.setdefault("measure", False)
        for group in self.param_groups:
            for name, value in self.defaults.items():
                if name != "differentiable":  # which torch adds here
                    group.setdefault(name, value)

    def __getstate__(self) -> Group:
        """What pickling and copying take along."""
        return {**super().__getstate__(), "emit": self.emit, "measure": self.measure}

    def load_state_dict(self, state_dict: Group) -> None:
        """Takes over what `state_dict` returned; the next step has the bits it would have had.

        Args:
            state_dict: of this class, or of `optim.SGD` and ``torch.optim.SGD``, whose momentum is
                taken over.
        """
        loaded: Group = state_dict

        def note(_: Optimizer, hooked: Group) -> None:
            nonlocal loaded
            loaded = hooked

        # The last of the pre-hooks sees what the others have made of it.
        handle = self.register_load_state_dict_pre_hook(note)
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        # torch rounds a loaded state to its parameter's dtype; float32 is more than bfloat16.
        numbers = [n for group in loaded["param_groups"] for n in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        for number, param in zip(numbers, params, strict=True):
            saved = loaded["state"].get(number, {})
            for name in _BUFFERS:
                if isinstance(saved.get(name), Tensor):
                    self.state[param][name] = saved[name].to(
                        param.device, _state_dtype(param), copy=True
                    )

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Performs a single optimization step.

        Args:
            closure: reevaluates the model and returns the loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        work = _Work(self)
        if work.params:
            self.last_result = work.run(self.emit, self.measure)
        return loss


def _check_group(group: Group) -> None:
    _check_hyperparameters(
        float(group["lr"]),
        group["momentum"],
        group["dampening"],
        group["weight_decay"],
        group["nesterov"],
    )
    check_scope(group["scope"])
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


class _Work:
    """One step: what the kernels are given, and what becomes state when they are done.

    Every array is looked at afresh. Nothing is made part of the optimizer's state before the step
    is done, so that one that raises leaves it as it was.
    """

    def __init__(self, optimizer: ThresholdSGD) -> None:
        self.optimizer = optimizer
        self.params: list[Tensor] = []
        self.grads: list[Tensor] = []
        self.residuals: list[Tensor | None] = []
        self.momenta: list[Tensor | None] = []
        self.scopes = Scopes()
        self.rows: list[_core.SparseParams] = []
        self.selectors: list[tuple[Selector, float | None]] = []  # by scope, and the last threshold
        self.owners: list[Tensor | Group] = []  # by scope: whose threshold it is
        self.placements: list[_core.Placement] = []
        self.new: list[tuple[Tensor, str, Tensor]] = []
        self.groups = [group for group in optimizer.param_groups if self._add(group)]

    def _add(self, group: Group) -> bool:
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return False
        _check_group(group)
        selector = _warm(_selector(group), group)
        self.rows.append(
            _core.SparseParams(
                float(group["lr"]),
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
        return True

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
        made = torch.empty_like(param.detach(), dtype=_state_dtype(param))
        self.new.append((param, name, made))
        return made, True

    def run(self, emit: str | None, measure: bool) -> SparseResult:
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
        state = self.optimizer.state
        for param, name, made in self.new:
            state[param][name] = made
        for group in self.groups:
            group["steps"] += 1
        kept = self.scopes.kept(report[0])
        for i, (selector, _) in enumerate(self.selectors):
            if isinstance(selector, Reused):
                owner = self.owners[i]
                memory = owner if isinstance(owner, dict) else state[owner]
                memory["next_threshold"] = next_threshold(
                    selector, self.scopes.sizes[i], report[1][i], kept[i]
                )
        return result_of(self.params, self.scopes, report, emit)
