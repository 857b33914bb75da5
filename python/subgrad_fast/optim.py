"""Optimizers for PyTorch: ``torch.optim`` classes whose step runs in subgrad_fast's kernels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.optimizer import (
    Optimizer,
    _global_optimizer_post_hooks,
    _global_optimizer_pre_hooks,
)

# torch's default implementation, for what the kernels do not cover.
from torch.optim.sgd import sgd as torch_sgd

from subgrad_fast import _core
from subgrad_fast._threshold_sgd import ThresholdSGD

__all__ = ["SGD", "ThresholdSGD"]

_DTYPES = frozenset((torch.float32, torch.float64, torch.bfloat16, torch.float16))

Group = dict[str, Any]


def _dense_on_cpu(tensor: Tensor) -> bool:
    return (
        type(tensor) in (Tensor, Parameter)
        and tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and tensor.dtype in _DTYPES
        and not tensor.is_neg()
        and 0 not in tensor.stride()  # expanded
    )


def _new_buffer(like: Tensor) -> Tensor:
    """An uninitialised tensor like `like`, of memory that a plan may point into (see buffers.h)."""
    buffer: Tensor = torch.utils.dlpack.from_dlpack(_core.new_buffer(like.detach()))
    return buffer


def _covers(param: Tensor, buffer: Tensor | None) -> bool:
    """Whether the kernels can step `param`, with torch's bits where those are promised."""
    if not _dense_on_cpu(param):
        return False
    if buffer is None:
        return True
    # torch rounds in between where a float64 parameter has a float32 buffer (after model.double()).
    wide = param.dtype in (torch.float32, torch.float64)
    return _dense_on_cpu(buffer) and (
        buffer.dtype == param.dtype or (buffer.dtype == torch.float32 and not wide)
    )


class SGD(torch.optim.SGD):
    """``torch.optim.SGD``, its step fused into one pass over memory for all tensors of all groups.

    Takes every argument of ``torch.optim.SGD`` and is one (``isinstance``). For float32 and float64
    the parameters, the momentum and the state have the same bits as torch's default implementation;
    bfloat16 and float16 are computed in float32 and rounded once, where torch rounds after every
    operation. A new momentum buffer has its parameter's dtype also where gradients have another
    (``Tensor.grad_dtype``): torch gives it the gradient's until a ``state_dict`` is loaded.

    What the kernels do not cover (sparse gradients, complex numbers, other devices, tensor
    subclasses, tensors that share memory, a learning rate that wants a gradient) is stepped by
    torch's own code, tensor by tensor, in the same call.

    Args:
        params, lr, momentum, dampening, weight_decay, nesterov, maximize, differentiable: as in
            ``torch.optim.SGD``.
        foreach: True or False runs torch's own implementation for the whole optimizer.
        fused: False runs torch's own implementation for the whole optimizer; True is as None.

    The choice is made by these arguments, not by what a loaded ``state_dict`` says of its writer.
    Under ``torch.amp.GradScaler`` gradients are unscaled before the step, as for ``fused=False``.
    """

    _plan: _core.OptimizerPlan | None = None

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            momentum,
            dampening,
            weight_decay,
            nesterov,
            maximize=maximize,
            foreach=foreach,
            differentiable=differentiable,
            fused=fused,
        )
        # torch's fused step unscales by itself; ours leaves that to the GradScaler.
        self._step_supports_amp_scaling = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes over a state (unpickled, copied, loaded); its buffers move to memory of ours."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._plan = None
        for slots in self.state.values():
            buffer = slots.get("momentum_buffer") if isinstance(slots, dict) else None
            if isinstance(buffer, Tensor) and _dense_on_cpu(buffer) and not buffer.requires_grad:
                slots["momentum_buffer"] = _new_buffer(buffer).copy_(buffer)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Performs a single optimization step.

        Args:
            closure: reevaluates the model and returns the loss.
        """
        # torch wraps step() of every optimizer class in its hooks and a profiler record, which cost
        # more than a small step does. It is told that this one is wrapped already (`hooked`) and
        # called upon only when there is something to call; a subclass that overrides step() gets
        # its own wrapper.
        if type(self).step is SGD.step and (
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or _global_optimizer_pre_hooks
            or _global_optimizer_post_hooks
            or torch.autograd._profiler_enabled()  # type: ignore[attr-defined]
        ):
            return _hooked_step(self) if closure is None else _hooked_step(self, closure)
        return self._step(closure)

    step.hooked = True  # type: ignore[attr-defined]

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        defaults = self.defaults
        if defaults["foreach"] is not None or defaults["fused"] is False:
            for group in self.param_groups:
                self._step_with_torch(group, group["params"], group["foreach"], group["fused"])
            return loss

        plan = self._plan
        buffers: dict[Tensor, Tensor] = {}
        leftover: Any
        try:
            leftover = plan.step(self.param_groups, self.state) if plan else False
            if leftover is None:
                return loss
            if leftover is False:
                self._plan = None
                plan, buffers = self._make_plan()
                leftover = plan.step(self.param_groups, self.state)
        except _core.OverlapError:
            # Nothing is written yet. Where the order of work decides the result, torch's is meant.
            leftover = False
        if plan is None or leftover is False:  # also: `params` is not a list
            for group in self.param_groups:
                self._step_with_torch(group, group["params"], False, False)
            return loss
        if leftover:
            by_group = defaultdict(list)
            for index, param in leftover:
                by_group[index].append(param)
                buffers.pop(param, None)
            for index, params in by_group.items():
                self._step_with_torch(self.param_groups[index], params, False, False)
            plan.finish()
        # Only now, when they hold something, do new buffers become state. A plan that made some is
        # used up: to it, each step would be the first.
        for param, buffer in buffers.items():
            self.state.setdefault(param, {})["momentum_buffer"] = buffer
        self._plan = None if buffers else plan
        return loss

    @torch._disable_dynamo  # type: ignore[attr-defined]  # not for torch.compile
    def _make_plan(self) -> tuple[_core.OptimizerPlan, dict[Tensor, Tensor]]:
        """A plan for the optimizer as it is now, and the momentum buffers made for it.

        The buffers are empty: the plan's first step sets them. As they become state afterwards, the
        plan is then out of date and the next step makes the one that stays.

        Raises:
            ValueError: parameters or buffers share memory, or a buffer's shape does not fit.
        """
        new: dict[Tensor, Tensor] = {}
        entries: list[tuple[int, Tensor, Tensor | None, bool, bool]] = []
        for index, group in enumerate(self.param_groups):
            for param in group["params"]:
                buffer = self.state[param].get("momentum_buffer") if param in self.state else None
                covered = _covers(param, buffer)
                first = (
                    covered and buffer is None and group["momentum"] != 0 and param.grad is not None
                )
                if first:
                    buffer = new[param] = _new_buffer(param)
                entries.append((index, param, buffer if covered else None, first, covered))
        return _core.OptimizerPlan(self.param_groups, self.state, entries), new

    def _step_with_torch(
        self, group: Group, params: Iterable[Tensor], foreach: bool | None, fused: bool | None
    ) -> None:
        params = [p for p in params if p.grad is not None]
        grads = [p.grad for p in params if p.grad is not None]
        buffers: list[Tensor | None] = []
        if group["momentum"] != 0:
            # Looked up without making entries, so that an error leaves the state as it was.
            states = [self.state.get(p, {}) for p in params]
            buffers = [state.get("momentum_buffer") for state in states]
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            torch_sgd(
                params,
                grads,
                buffers,
                has_sparse_grad=any(g.is_sparse for g in grads),
                foreach=foreach,
                fused=fused,
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                lr=group["lr"],
                dampening=group["dampening"],
                nesterov=group["nesterov"],
                maximize=group["maximize"],
            )
        if buffers:
            for param, buffer in zip(params, buffers, strict=True):
                self.state.setdefault(param, {})["momentum_buffer"] = buffer


_hooked_step = Optimizer.profile_hook_step(SGD._step)
