"""`optim.SGD`: torch's, its step in one pass over memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import (
    Optimizer,
    _global_optimizer_post_hooks,
    _global_optimizer_pre_hooks,
)

from subgrad_fast._arguments import check_names
from subgrad_fast._core import Turns
from subgrad_fast._core import optimizer as core
from subgrad_fast.dense import NormScope
from subgrad_fast.optim.averages import Schedule, restore_averages
from subgrad_fast.optim.dtensor import any_sharded, own_shards, refuse_pending_group
from subgrad_fast.optim.explain import reasons
from subgrad_fast.optim.late_rows import SparseRows
from subgrad_fast.optim.modes import is_observed
from subgrad_fast.optim.planned_step import PlannedStep
from subgrad_fast.optim.stages import GROUP_TERMS, Judging, check_terms, check_types
from subgrad_fast.optim.tensors import (
    Group,
    check_buffers,
    has_kernels,
    zero_with_torch,
)

# What lies beside torch's own state in a pickled or copied optimizer.
_OWN_STATE = ("_judging", "_schedules", "_averaged_buffers", "_sparse_rows", "_check_reads")

_profiler_enabled: Callable[[], bool] = torch.autograd._profiler_enabled  # type: ignore[attr-defined]


class SGD(PlannedStep, torch.optim.SGD):
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

    Parameters on the CPU that are DTensors (``fully_shard``, tensor parallelism) are stepped on
    what of them lies in this process, and their state is distributed as they are. Processes wait
    for each other only where a norm is asked for, which is then that of all of them. A pending
    placement (Partial) raises ValueError.

    What the kernels do not cover (other sparse gradients, complex numbers, other devices, CUDA
    tensors that are not dense or whose gradients have other strides, other tensor subclasses with
    operations of their own, tensors that share memory, a learning rate that wants a gradient) is
    stepped by torch's own code, tensor by tensor, in the same call; under a dispatch or function
    mode and within functorch's transforms everything is. `explain` says what and why.

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
        max_norm, max_norm_scope, clip_value, skip_nonfinite: as in ``subgrad_fast.sgd_step``:
            gradients are clipped on their way into the step and stay as they are. Param groups may
            have their own `max_norm` and `clip_value`; the scope "global" measures all groups
            together, "group" each for itself, "tensor" each gradient.
        measure_norm: `grad_norm` is found also where nothing else needs it.
        ema_decay: an average of the weights is kept (``state[p]["ema"]``), as in
            ``subgrad_fast.sgd_step``: a number from 0 to 1, or a function of the number of steps
            averaged so far. Param groups may have their own.

        sparse_rows: what a row-sparse gradient means to the rows that it does not name: "lazy", no
            step, or "dense", the step that a gradient of zero would be: to the bit what
            ``Embedding(sparse=False)`` gives, at the price of the rows that are read (docs/rows.md,
            "Dense steps, late"). It is for tables on the CPU.
        check_reads: with "dense", rows that were read in another way than by ``Embedding`` or
            ``EmbeddingBag`` while they lacked steps, or written, raise RuntimeError (see
            `materialize`). False trusts whoever does it.

    The choice is made by these arguments, not by what a loaded ``state_dict`` says of its writer.
    Under ``torch.amp.GradScaler`` the step unscales by itself, as torch's does for ``fused=True``;
    a step that the scaler finds to have overflowed leaves everything as it is.
    """

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
        max_norm: float | None = None,
        max_norm_scope: NormScope = "global",
        clip_value: float | None = None,
        skip_nonfinite: bool = False,
        measure_norm: bool = False,
        ema_decay: float | Schedule | None = None,
        sparse_rows: SparseRows = "lazy",
        check_reads: bool = True,
    ) -> None:
        self._turns, self._explained = Turns(), set()
        self._schedules, self._averaged_buffers, self._counts = {}, {}, {}
        self._tables, self._modules = {}, weakref.WeakSet()
        self._choose_rows(sparse_rows, check_reads)
        if sparse_rows == "dense" and (foreach is not None or fused is False):
            raise ValueError(
                'sparse_rows: "dense" is a step of this class, and foreach= or fused=False asks '
                "for torch's own"
            )
        self._judging = Judging.of(max_norm_scope, skip_nonfinite, measure_norm)
        self._options = self._judging.options()
        terms: dict[str, Any] = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        check_types(terms)
        super().__init__(params, **terms)
        own = {"l1": l1, "max_norm": max_norm, "clip_value": clip_value, "ema_decay": ema_decay}
        check_terms({name: value for name, value in own.items() if not callable(value)})
        for name, value in own.items():
            absent = 0.0 if name == "l1" else None
            if value != absent or any(name in group for group in self.param_groups):
                self.defaults[name] = value
                for group in self.param_groups:
                    group.setdefault(name, value)
        for index, group in enumerate(self.param_groups):
            self._take_schedule(index)
            check_terms(group)

    def add_param_group(self, param_group: Group) -> None:
        """Adds a group, as torch's does; terms that it lacks are the optimizer's own."""
        if isinstance(param_group, dict):  # else torch says what it is not
            check_types(param_group)
        super().add_param_group(param_group)
        self._watch(self.param_groups[-1]["params"])
        refuse_pending_group(self)
        self._take_schedule(len(self.param_groups) - 1)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Asked by GradScaler: whether the step unscales gradients that it finds scaled.

        Others' code that sees gradients within the step expects them unscaled, and code that waits
        for a call of the step (accelerate's) expects none where gradients overflow: both are served
        as by torch's default.
        """
        patched = self.__dict__.get("step")
        ours = type(self).step is SGD.step and (
            patched is None
            or getattr(patched, "__func__", None) is SGD.step
            or hasattr(patched, "_wrapped_by_lr_sched")  # torch's schedulers count steps
        )
        devices = {p.device for g in self.param_groups for p in g["params"]}
        in_one_place = len(devices) <= 1 and all(has_kernels(device) for device in devices)
        hooked = self._optimizer_step_pre_hooks or _global_optimizer_pre_hooks
        return ours and in_one_place and not hooked and not any_sharded(self)

    @_step_supports_amp_scaling.setter
    def _step_supports_amp_scaling(self, value: bool) -> None:
        """torch's constructor says what its own steps do."""

    @property
    def grad_norm(self) -> Tensor | None:
        """The norm of all gradients that the last step found, before they were clipped.

        A float64 tensor without dimensions; of gradients that a GradScaler had scaled, unscaled.
        None where the last step had no need of it (see `measure_norm`). Of gradients on a device it
        lies there, and nothing waits for it.
        """
        found = self._last_found()
        norm = None if found is None else found.norm
        if norm is None or isinstance(norm, Tensor):
            return norm
        return torch.tensor(norm, dtype=torch.float64)

    def __getstate__(self) -> dict[str, Any]:
        self._settle()
        state: dict[str, Any] = super().__getstate__()
        for name in _OWN_STATE:
            if name in self.__dict__:
                state[name] = self.__dict__[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes over a state (unpickled, copied, loaded), its tensors as they are."""
        self.__dict__.setdefault("_turns", Turns())
        self.__dict__.setdefault("_explained", set())
        before = self.__dict__.get("param_groups", [])
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._plan = None
        self._counts = {}
        self._tables, self._modules = {}, weakref.WeakSet()
        self._watch(p for group in self.param_groups for p in group["params"])
        for name in ("_schedules", "_averaged_buffers"):
            self.__dict__.setdefault(name, {})
        self._options = self._judging.options()
        for group, old in zip(self.param_groups, before, strict=False):
            for name in ("l1", *GROUP_TERMS, "ema_steps"):
                if name in old:
                    group.setdefault(name, old[name])
        own_shards(self.state, ("momentum_buffer", "ema"))
        for slots in self.state.values():
            buffer = slots.get("momentum_buffer") if isinstance(slots, dict) else None
            # torch's for sparse gradients
            if isinstance(buffer, Tensor) and buffer.layout is torch.sparse_coo and self._is_ours():
                slots["momentum_buffer"] = buffer.to_dense()

    def state_dict(self) -> dict[str, Any]:
        """As torch's; with averages of a model's buffers, if `ema_buffers` has made any."""
        self._settle()
        state: dict[str, Any] = super().state_dict()
        if self._averaged_buffers:
            state["ema_buffers"] = dict(self._averaged_buffers)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict` returned, of ``torch.optim.SGD`` too.

        Raises:
            TypeError: a momentum buffer is no tensor.
            ValueError: the state is incomplete, groups or parameters are others in number, or a
                momentum buffer has another shape than its parameter.

        Nothing has changed then.
        """

        seen: dict[str, Any] = {}

        def check(_: Optimizer, hooked: dict[str, Any]) -> None:
            check_names(hooked, ("state", "param_groups"), "state_dict")
            for group, mine in zip(hooked["param_groups"], self.param_groups, strict=False):
                check_buffers(hooked["state"], group["params"], mine["params"])
            seen.update(hooked)

        check_names(state_dict, (), "state_dict")
        with self._turns:
            self.materialize()
            # The last of the pre-hooks sees what the others have made of it.
            handle = self.register_load_state_dict_pre_hook(check)
            try:
                super().load_state_dict(state_dict)
            finally:
                handle.remove()
            restore_averages(self, seen)
            self._averaged_buffers = {
                name: buffer.clone() for name, buffer in seen.get("ema_buffers", {}).items()
            }

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
            or is_observed()
        ):
            return _hooked_step(self) if closure is None else _hooked_step(self, closure)
        if torch.compiler.is_dynamo_compiling():
            return _uncompiled_step(self, closure)
        return self._step(closure)

    step.hooked = True  # type: ignore[attr-defined]

    def explain(self) -> list[str]:
        """Says which tensors torch's own code steps, and why: a sentence for each reason.

        It looks at parameters, gradients and state as they are, so call it before a step. An empty
        list: the kernels step everything. With ``SUBGRAD_FAST_EXPLAIN=1`` in the environment a step
        that leaves something to torch says so by itself, each reason once, in a warning.
        """
        return reasons(self)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients, as ``torch.optim.Optimizer.zero_grad`` does.

        Args:
            set_to_none: True lets go of them, ``grad`` is None. False makes them zeros in place.
        """
        observed = _profiler_enabled() or is_observed()
        if set_to_none and not observed:
            core.forget_gradients(self.param_groups, self._turns)
            return
        with self._turns:
            if observed:
                super().zero_grad(set_to_none)  # leaves a record
            else:
                zero_with_torch(self, core.zero_gradients(self.param_groups))


_hooked_step = Optimizer.profile_hook_step(SGD._whole_step)
# Asked for only within a function that is compiled: it would cost every step a tenth of its time.
_uncompiled_step = torch.compiler.disable(  # type: ignore[no-untyped-call]
    SGD._whole_step, reason="subgrad_fast.optim.SGD steps by kernels that dynamo cannot see into"
)
