"""Optimizers for PyTorch: ``torch.optim`` classes whose step runs in subgrad_fast's kernels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

# torch's default implementation, for what the kernels do not cover.
from torch.optim.sgd import sgd as torch_sgd

from subgrad_fast import _core

__all__ = ["SGD"]

_DTYPES = frozenset((torch.float32, torch.float64, torch.bfloat16, torch.float16))

Group = dict[str, Any]


def _dense_on_cpu(tensor: Tensor) -> bool:
    return (
        type(tensor) in (Tensor, Parameter)
        and tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and tensor.dtype in _DTYPES
        and not tensor.is_neg()
    )


class SGD(torch.optim.SGD):
    """``torch.optim.SGD``, its step fused into one pass over memory for all tensors of all groups.

    Takes every argument of ``torch.optim.SGD`` and is one (``isinstance``). For float32 and float64 the
    parameters, the momentum and the state have the same bits as torch's default implementation; bfloat16
    and float16 are computed in float32 and rounded once, where torch rounds after every operation.

    What the kernels do not cover (sparse gradients, complex numbers, other devices, tensor subclasses,
    overlapping parameters, a learning rate that wants a gradient) is stepped by torch's own code, tensor by
    tensor, in the same call.

    Args:
        params, lr, momentum, dampening, weight_decay, nesterov, maximize, differentiable: as in
            ``torch.optim.SGD``.
        foreach: True or False runs torch's own implementation for the whole optimizer.
        fused: False runs torch's own implementation for the whole optimizer; None and True run ours.

    The choice is made by these arguments, not by what a loaded ``state_dict`` says of its writer. Under
    ``torch.amp.GradScaler`` gradients are unscaled before the step, as for ``fused=False``.
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

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Performs a single optimization step.

        Args:
            closure: reevaluates the model and returns the loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        defaults = self.defaults
        if defaults["foreach"] is not None or defaults["fused"] is False:
            for group in self.param_groups:
                self._step_with_torch(group, group["params"], group["foreach"], group["fused"])
            return loss

        leftover = self._plan.step(self.param_groups, self.state) if self._plan else False
        if leftover is None:
            return loss
        buffers: dict[Tensor, Tensor] = {}
        if leftover is False:
            self._plan, buffers = self._make_plan()
            leftover = self._plan.step(self.param_groups, self.state)
            if leftover is False:
                raise RuntimeError("param_groups or state changed during the step")
        if leftover:
            by_group = defaultdict(list)
            for index, param in leftover:
                by_group[index].append(param)
                buffers.pop(param, None)
            for index, params in by_group.items():
                self._step_with_torch(self.param_groups[index], params, False, False)
            self._plan.finish()
        # Only now, when they hold something, do new buffers become state.
        for param, buffer in buffers.items():
            self.state[param]["momentum_buffer"] = buffer
        return loss

    def _make_plan(self) -> tuple[_core.OptimizerPlan, dict[Tensor, Tensor]]:
        """A plan for the optimizer as it is now, and the momentum buffers made for it.

        The buffers are empty: the plan's first step sets them. As they become state afterwards, the
        plan is then out of date and the next step makes the one that stays.
        """
        new: dict[Tensor, Tensor] = {}
        entries: list[tuple[int, Tensor, Tensor | None, bool, bool]] = []
        for index, group in enumerate(self.param_groups):
            for param in group["params"]:
                buffer = self.state[param].get("momentum_buffer") if param in self.state else None
                covered = _dense_on_cpu(param) and (
                    buffer is None
                    or (_dense_on_cpu(buffer) and buffer.dtype in (param.dtype, torch.float32))
                )
                first = (
                    covered
                    and buffer is None
                    and group["momentum"] != 0
                    and param.grad is not None
                )
                if first:
                    buffer = new[param] = torch.empty_like(param.detach())
                entries.append((index, param, buffer if covered else None, first, covered))
        try:
            return _core.OptimizerPlan(self.param_groups, self.state, entries), new
        except ValueError:  # parameters that overlap: torch's order of work defines their result
            entries = [(index, param, None, False, False) for index, param, *_ in entries]
            return _core.OptimizerPlan(self.param_groups, self.state, entries), {}

    def _step_with_torch(
        self, group: Group, params: Iterable[Tensor], foreach: bool | None, fused: bool | None
    ) -> None:
        params = [p for p in params if p.grad is not None]
        states = [self.state[p] for p in params] if group["momentum"] != 0 else []
        buffers = [state.get("momentum_buffer") for state in states]
        grads = [p.grad for p in params]
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
        for state, buffer in zip(states, buffers, strict=True):
            state["momentum_buffer"] = buffer
