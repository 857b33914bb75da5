"""`optim.ThresholdSGD`: the thresholded step as a torch optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from subgrad_fast._arguments import check_names, flag
from subgrad_fast._core import Turns
from subgrad_fast.dense import NormScope
from subgrad_fast.optim.dtensor import distributed_like, refuse_pending_group
from subgrad_fast.optim.peers import PeersOfGroups
from subgrad_fast.optim.stages import GROUP_TERMS, Judging
from subgrad_fast.optim.tensors import check_buffers
from subgrad_fast.optim.threshold_group import SELECTION, Group, check_group, settings
from subgrad_fast.optim.threshold_state import BUFFERS, state_dtype, take_step
from subgrad_fast.select.selectors import Selector, make_selector
from subgrad_fast.threshold.result import ThresholdResult
from subgrad_fast.threshold.step import index_bytes_of


class ThresholdSGD(Optimizer):
    """SGD that applies only large entries and keeps the others until they are large.

    `subgrad_fast.threshold_step` over all tensors of all groups in one call: the formula is there.
    With a density of 1 and ``momentum_masking=False`` it has the bits of `optim.SGD` (of 16-bit
    parameters those of `sgd_step` with float32 momentum).

    Every hyper-parameter can be set for a param group. Everything that a resumed run needs is in
    ``state_dict()``, as tensors, numbers and names: ``residual`` and ``momentum_buffer`` (float64
    for float64 parameters, float32 for all others), the last threshold of a reused one
    (``next_threshold``), and for each group the number of its steps.

    On CUDA devices (PyTorch 2.10 or newer) a step runs in torch's current stream of each device
    that parameters are on; those of a global scope must be on one. It waits for nothing, allocates
    by torch's allocator, and `last_result` stays on the device until it is looked at. The bits are
    those of the CPU. The selectors "sampled" and "reused" select exactly there, and with `emit` the
    host waits once for the counts. A learning rate that is a float32 tensor on the device is read
    there.

    DTensors are stepped on what of them lies in this process, their shards. With the scope "tensor"
    a shard has a threshold of its own; with "global" the processes find one together, which keeps
    the same elements as in one process (exactly, whatever the selector). `last_result` is of the
    shards.

    Args:
        params: parameters or dicts that define groups. Dense tensors of dtype float32, float64,
            bfloat16 or float16, on the CPU or on CUDA devices.
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
        max_norm, max_norm_scope, clip_value, skip_nonfinite: as in ``subgrad_fast.threshold_step``,
            for parameters in CPU memory. Param groups may have their own `max_norm` and
            `clip_value`; the scope "global" measures all groups together, "group" each for itself,
            "tensor" each gradient (the local gradient clipping of Deep Gradient Compression). Where
            they are used, groups have these keys more, and a ``state_dict`` without them leaves
            them as they are.
        measure_norm: `grad_norm` is found also where nothing else needs it.

    Under ``torch.amp.GradScaler`` gradients are unscaled before the step, and a step is not taken
    at all if one of them is not finite.

    Attributes:
        last_result: what the last step did, a `ThresholdResult` with an entry for each parameter
            that had a gradient, in the order of the groups; None before the first step. Not part of
            the ``state_dict``.

    Raises:
        ValueError: a hyper-parameter is out of range. A step raises it, as `threshold_step` does,
            for tensors that cannot be stepped, before anything is written.
    """

    last_result: ThresholdResult | None = None
    _judging = Judging()

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
        max_norm: float | None = None,
        max_norm_scope: NormScope = "global",
        clip_value: float | None = None,
        skip_nonfinite: bool = False,
        measure_norm: bool = False,
    ) -> None:
        index_bytes_of(emit)
        self._judging = Judging.of(max_norm_scope, skip_nonfinite, measure_norm)
        bounds = {"max_norm": max_norm, "clip_value": clip_value}
        self._turns = Turns()
        self._peers = PeersOfGroups()
        self.emit = emit
        self.measure = flag("measure", measure)
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
            "warmup": list(warmup) if isinstance(warmup, Sequence) else warmup,
            "warmup_steps": warmup_steps,
            "steps": 0,
            **settings(make_selector(selector, threshold, density)),
            **{name: bound for name, bound in bounds.items() if bound is not None},
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: Group) -> None:
        """Adds a group; what it does not say is as in the constructor.

        Raises:
            ValueError: a hyper-parameter is out of range, or a parameter is in another group.
        """
        if isinstance(param_group, dict):  # else torch says what it is not
            own = {name: param_group[name] for name in SELECTION if name in param_group}
            if set(own) == {"selector"} and isinstance(own["selector"], str):
                own["density"] = self.defaults["density"]
            if set(own) == {"density"} and self.defaults["density"] is not None:
                own["selector"] = self.defaults["selector"]
            if own:
                asked = make_selector(*(own.get(name) for name in SELECTION))
                param_group = {**param_group, **settings(asked)}
            check_group({**self.defaults, **param_group})
        super().add_param_group(param_group)
        refuse_pending_group(self)

    @property
    def grad_norm(self) -> Tensor | None:
        """The norm of all gradients that the last step found, before they were clipped.

        A float64 tensor without dimensions. None where the last step had no need of it (see
        `measure_norm`).
        """
        norm = None if self.last_result is None else self.last_result.grad_norm
        return None if norm is None else torch.tensor(norm, dtype=torch.float64)

    def __setstate__(self, state: Group) -> None:
        """Takes over a state (unpickled, copied, loaded), also one that another class has saved."""
        before = self.__dict__.get("param_groups", [])
        super().__setstate__(state)
        self.__dict__.setdefault("_turns", Turns())
        self._peers = PeersOfGroups()
        self.__dict__.setdefault("emit", None)
        self.__dict__.setdefault("measure", False)
        for group, old in zip(self.param_groups, before, strict=False):
            for name in GROUP_TERMS:
                if name in old:
                    group.setdefault(name, old[name])
        for group in self.param_groups:
            for name, value in self.defaults.items():
                if name != "differentiable":  # which torch adds here
                    group.setdefault(name, value)

    def __getstate__(self) -> Group:
        """What pickling and copying take along."""
        own = {"emit": self.emit, "measure": self.measure, "_judging": self._judging}
        return {**super().__getstate__(), **own}

    def load_state_dict(self, state_dict: Group) -> None:
        """Takes over what `state_dict` returned; the next step has the bits it would have had.

        Args:
            state_dict: of this class, or of `optim.SGD` and ``torch.optim.SGD``, whose momentum is
                taken over.

        Raises:
            TypeError, ValueError: a hyper-parameter is out of range, or a buffer has another shape
                than its parameter. Nothing has changed then.
        """
        check_names(state_dict, (), "state_dict")
        with self._turns:
            self._load(state_dict)

    def _load(self, state_dict: Group) -> None:
        loaded: Group = state_dict

        def note(_: Optimizer, hooked: Group) -> None:
            nonlocal loaded
            check_names(hooked, ("state", "param_groups"), "state_dict")
            loaded = hooked
            self._check_state(hooked)

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
            for name in BUFFERS:
                if isinstance(saved.get(name), Tensor):
                    self.state[param][name] = distributed_like(saved[name], param).to(
                        param.device, state_dtype(param), copy=True
                    )

    def _check_state(self, state: Group) -> None:
        for group, mine in zip(state["param_groups"], self.param_groups, strict=False):
            check_group({**self.defaults, **group})
            check_buffers(state["state"], group["params"], mine["params"])

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Performs a single optimization step. Steps of several threads come one after the other.

        Args:
            closure: reevaluates the model and returns the loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with self._turns:
            result = take_step(self, self.emit, self.measure, self._judging, self._peers)
            if result is not None:
                self.last_result = result
        return loss
