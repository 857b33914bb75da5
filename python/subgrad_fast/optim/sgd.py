"""`optim.SGD`: torch's, its step in one pass over memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import (
    Optimizer,
    _global_optimizer_post_hooks,
    _global_optimizer_pre_hooks,
)

# torch's default implementation, for what the kernels do not cover.
from torch.optim.sgd import sgd as torch_sgd

from subgrad_fast._core import Turns
from subgrad_fast._core import optimizer as core
from subgrad_fast._core.rows import RowStep
from subgrad_fast.optim.tensors import (
    Group,
    check_buffers,
    has_row_gradient,
    is_covered,
    is_dense,
    l1_of,
    new_buffer,
    shrink,
    slots_for,
)
from subgrad_fast.rows import make_row_step

_profiler_enabled: Callable[[], bool] = torch.autograd._profiler_enabled  # type: ignore[attr-defined]


class SGD(torch.optim.SGD):
    """``torch.optim.SGD``, its step fused into one pass over memory for all tensors of all groups.

    Takes every argument of ``torch.optim.SGD`` and is one (``isinstance``). For float32 and float64
    the parameters, the momentum and the state have the same bits as torch's default implementation;
    bfloat16 and float16 are computed in float32 and rounded once, where torch rounds after every
    operation. A new momentum buffer has its parameter's dtype also where gradients have another
    (``Tensor.grad_dtype``): torch gives it the gradient's until a ``state_dict`` is loaded.

    Row-sparse gradients (of ``Embedding(sparse=True)``, ``EmbeddingBag(sparse=True)``, or any COO
    tensor with one sparse and some dense dimensions) step the rows that they name and no others:
    momentum and weight decay act on a row when it is named, as in ``torch.optim.SparseAdam``.
    (``torch.optim.SGD`` refuses weight decay here, and its momentum goes on moving every row that
    was ever named.) The momentum buffer is dense, zero in rows that hold nothing; the first step of
    a row is ``m = g``. Without momentum and weight decay the result is torch's, save for rows that
    are named more than once: their gradients are added first, in the order in which they come.

    On CUDA devices the step runs in torch's current stream, waits for nothing and can be captured
    in a graph; a learning rate in the form of a float32 tensor on the device is read there. The
    bits are those of the CPU's kernels.

    What the kernels do not cover (other sparse gradients, complex numbers, other devices, CUDA
    tensors that are not dense or whose gradients have other strides, tensor subclasses, tensors
    that share memory, a learning rate that wants a gradient) is stepped by torch's own code, tensor
    by tensor, in the same call.

    Args:
        params, lr, momentum, dampening, weight_decay, nesterov, maximize, differentiable: as in
            ``torch.optim.SGD``.
        foreach: True or False runs torch's own implementation for the whole optimizer.
        fused: False runs torch's own implementation for the whole optimizer; True is as None.
        l1: L1 penalty, >= 0, as in ``subgrad_fast.sgd_step``: a proximal step within the step that
            makes weights exactly 0. Param groups may have their own. Where it is used, groups and
            ``state_dict`` have this one key more than torch's, and a ``state_dict`` without it
            leaves it as it is. Of complex weights the modulus shrinks; of a parameter with a
            row-sparse gradient only the rows that it names.

    The choice is made by these arguments, not by what a loaded ``state_dict`` says of its writer.
    Under ``torch.amp.GradScaler`` gradients are unscaled before the step, as for ``fused=False``.
    """

    _plan: core.Plan | None = None
    _turns: Turns  # of the threads that step or load

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
        l1: float | Tensor = 0.0,
    ) -> None:
        self._turns = Turns()
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
        if l1_of({"l1": l1}) or any(l1_of(group) for group in self.param_groups):
            self.defaults["l1"] = l1
            for group in self.param_groups:
                group.setdefault("l1", l1)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes over a state (unpickled, copied, loaded); its buffers move to memory of ours."""
        self.__dict__.setdefault("_turns", Turns())
        before = self.__dict__.get("param_groups", [])
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._plan = None
        for group, old in zip(self.param_groups, before, strict=False):
            if "l1" in old:
                group.setdefault("l1", old["l1"])
        for slots in self.state.values():
            buffer = slots.get("momentum_buffer") if isinstance(slots, dict) else None
            # torch's for sparse gradients
            if isinstance(buffer, Tensor) and buffer.layout is torch.sparse_coo and self._is_ours():
                buffer = slots["momentum_buffer"] = buffer.to_dense()
            if not isinstance(buffer, Tensor) or buffer.requires_grad:
                continue
            if is_dense(buffer) and buffer.device.type == "cpu":
                slots["momentum_buffer"] = new_buffer(buffer).copy_(buffer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict` returned, of ``torch.optim.SGD`` too.

        Raises:
            TypeError: a momentum buffer is no tensor.
            ValueError: groups or parameters are others in number, or a momentum buffer has another
                shape than its parameter.

        Nothing has changed then.
        """

        def check(_: Optimizer, hooked: dict[str, Any]) -> None:
            for group, mine in zip(hooked["param_groups"], self.param_groups, strict=False):
                check_buffers(hooked["state"], group["params"], mine["params"])

        with self._turns:
            # The last of the pre-hooks sees what the others have made of it.
            handle = self.register_load_state_dict_pre_hook(check)
            try:
                super().load_state_dict(state_dict)
            finally:
                handle.remove()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Performs a single optimization step. Steps of several threads come one after the other.

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
            or _profiler_enabled()
        ):
            return _hooked_step(self) if closure is None else _hooked_step(self, closure)
        return self._step(closure)

    step.hooked = True  # type: ignore[attr-defined]

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with self._turns:
            outcome = self._try_plan()
            if outcome is None or not outcome.done:
                self._step_further(outcome)
        return loss

    def _try_plan(self) -> core.Outcome | None:
        """A step by the plan; None where there is none, or where it has met an overlap."""
        if self._plan is None:
            return None
        try:
            return self._plan.step(self.param_groups, self.state)
        except core.OverlapError:
            return None  # perhaps with memory that no parameter has any more: a new plan tells

    def _step_further(self, outcome: core.Outcome | None) -> None:
        """The step where the plan has not done it all."""
        if not self._is_ours():
            self._step_all_with_torch(by_group=True)
        elif outcome is None or outcome.stale:
            self._step_with_new_plan()
        elif self._plan is not None:
            self._step_remaining(self._plan, outcome, {})

    def _step_with_new_plan(self) -> None:
        self._plan = None
        try:
            plan, buffers = self._make_plan()
            outcome = plan.step(self.param_groups, self.state)
        except core.OverlapError:
            outcome = None  # nothing is written; where order decides the result, torch's is meant
        if outcome is None or outcome.stale:  # also: `params` is not a list
            self._step_all_with_torch(by_group=False)
        else:
            self._step_remaining(plan, outcome, buffers)

    def _step_remaining(
        self, plan: core.Plan, outcome: core.Outcome, buffers: dict[Tensor, Tensor]
    ) -> None:
        """Steps what the plan could not, lets it finish, and makes `buffers` state."""
        made_buffers = bool(buffers)
        if not outcome.done:
            torchs: dict[int, list[Tensor]] = defaultdict(list)
            with_rows: dict[int, list[Tensor]] = defaultdict(list)
            for left in outcome.remaining:
                buffers.pop(left.param, None)
                rows = left.other_layout and has_row_gradient(
                    left.param, self._momentum_of(left.param)
                )
                (with_rows if rows else torchs)[left.group].append(left.param)
            row_steps = [
                self._row_step(index, params, buffers) for index, params in with_rows.items()
            ]
            for index, params in torchs.items():
                self._step_with_torch(self.param_groups[index], params, False, False)
            # Only now, when they hold something, do new buffers become state.
            with slots_for(self, buffers):
                slots = [(self.state.setdefault(p, {}), b) for p, b in buffers.items()]
                plan.finish(row_steps, slots)
        # A plan that made some is used up: to it, each step would be the first.
        self._plan = None if made_buffers else plan

    def _step_all_with_torch(self, *, by_group: bool) -> None:
        """The step in torch's code; `by_group`: in the implementation that each group names."""
        for group in self.param_groups:
            l1_of(group)
        for group in self.param_groups:
            how = (group["foreach"], group["fused"]) if by_group else (False, False)
            self._step_with_torch(group, group["params"], *how)

    def _is_ours(self) -> bool:
        """Whether no argument chose torch's own implementation."""
        return self.defaults["foreach"] is None and self.defaults["fused"] is not False

    @torch._disable_dynamo  # type: ignore[attr-defined]  # not for torch.compile
    def _make_plan(self) -> tuple[core.Plan, dict[Tensor, Tensor]]:
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
                buffer = self._momentum_of(param)
                covered = is_covered(param, buffer)
                first = (
                    covered and buffer is None and group["momentum"] != 0 and param.grad is not None
                )
                if first:
                    buffer = new[param] = new_buffer(param)
                entries.append((index, param, buffer if covered else None, first, covered))
        return core.Plan(self.param_groups, self.state, entries), new

    def _momentum_of(self, param: Tensor) -> Tensor | None:
        buffer: Tensor | None = (
            self.state[param].get("momentum_buffer") if param in self.state else None
        )
        return buffer

    def _row_step(self, index: int, params: list[Tensor], new: dict[Tensor, Tensor]) -> RowStep:
        """A checked step on the rows that gradients name. Buffers made for it go into `new`."""
        group = self.param_groups[index]
        buffers = []
        if group["momentum"] != 0:
            for param in params:
                buffer = self._momentum_of(param)
                if buffer is None:
                    buffer = new[param] = new_buffer(param, zeros=True)
                buffers.append(buffer)
        hyper = core.read_group(group, index)
        return make_row_step(params, [p.grad for p in params], buffers, hyper)

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
        differentiable = self.defaults["differentiable"]
        with torch.set_grad_enabled(differentiable):
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
            if l1_of(group):
                for param in params:
                    shrink(param, group, differentiable=differentiable)
        if buffers:
            for param, buffer in zip(params, buffers, strict=True):
                self.state.setdefault(param, {})["momentum_buffer"] = buffer


_hooked_step = Optimizer.profile_hook_step(SGD._step)
