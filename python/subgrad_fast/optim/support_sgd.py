"""`optim.SupportSGD`: SGD on a fixed support as a torch optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim.optimizer import Optimizer

from subgrad_fast._arguments import check_names, quoted
from subgrad_fast._core import Turns
from subgrad_fast.chosen.delta import Delta
from subgrad_fast.dense import NormScope
from subgrad_fast.optim.stages import GROUP_TERMS, Judging
from subgrad_fast.optim.support_group import (
    ADDED_UP,
    Group,
    check_group,
    check_params,
    check_slots,
    index_dtype,
    indices_of_masks,
    wide_dtype,
)
from subgrad_fast.optim.support_step import Checked, take_step

_NO_STATE: Group = {}


class SupportSGD(Optimizer):
    """SGD that moves a fixed choice of weights, the support, and nothing else.

    For `calibrate` backward passes `step` only looks: it adds up what the gradients say of each
    weight, and moves nothing. The last of them chooses the support, and from then on each step is
    `subgrad_fast.support_step` on it, over all tensors of all groups in one call: the bits of
    `optim.SGD` whose gradients are zero outside the support, with weight decay on the support
    alone. The state is what is chosen: for each parameter ``indices`` (int32, or int64 beyond 2^31
    elements) and a ``momentum_buffer`` of as many numbers. While it looks it is a ``score`` of the
    parameter's size.

    Sung et al. (2021), Training Neural Networks with Fixed Sparse Masks, choose half a per cent of
    BERT by Fisher information and match full fine-tuning.

    Every hyper-parameter can be set for a param group, `masks` by a list for the group's
    parameters. Parameters that had no gradient while their group looked stay as they are.

    Args:
        params: parameters or dicts that define groups. Dense tensors of dtype float32, float64,
            bfloat16 or float16 in CPU memory, of any strides.
        lr: learning rate, >= 0.
        momentum, dampening, weight_decay, nesterov, maximize, decoupled_weight_decay, l1: as in
            ``subgrad_fast.support_step``.
        density: choose this share of the weights.
        k: choose this many.
        masks: bool tensors of the parameters' shapes, True where a weight is chosen: there is
            nothing to look for. One of the three is given.
        score: what a weight is chosen by: "gradient", the sum of ``|g|``; "fisher", the sum of
            ``g * g`` (the diagonal of the empirical Fisher information of the batches); "weight",
            its magnitude; "random", chance, by torch's global generator. Of equal scores the first
            are chosen.
        scope: "global", of all parameters of a group together; "tensor", of each parameter.
        calibrate: how many backward passes "gradient" and "fisher" add up, >= 1; None for 10.
            "weight" and "random" choose when the first step is taken, which moves them already.
        max_norm, max_norm_scope, clip_value, skip_nonfinite: as in ``subgrad_fast.support_step``,
            of gradients on the support. Param groups may have their own `max_norm` and
            `clip_value`. With `skip_nonfinite` a pass whose gradients are not finite is not looked
            at and does not count.
        measure_norm: `grad_norm` is found also where nothing else needs it.

    Under ``torch.amp.GradScaler`` gradients are unscaled before the step, and a step (or a look) is
    not taken at all if one of them is not finite.

    Raises:
        TypeError: a parameter is no dense tensor, or a DTensor.
        ValueError: a hyper-parameter is out of range, or a parameter is not in CPU memory.
    """

    _judging = Judging()
    _norm: float | None = None

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
        k: int | None = None,
        masks: Sequence[Tensor] | None = None,
        score: str = "gradient",
        scope: str = "global",
        calibrate: int | None = None,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        l1: float = 0.0,
        max_norm: float | None = None,
        max_norm_scope: NormScope = "global",
        clip_value: float | None = None,
        skip_nonfinite: bool = False,
        measure_norm: bool = False,
    ) -> None:
        self._judging = Judging.of(max_norm_scope, skip_nonfinite, measure_norm)
        self._turns = Turns()
        self._checked: Checked = {}
        bounds = {"max_norm": max_norm, "clip_value": clip_value}
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
            "l1": l1,
            "density": density,
            "k": k,
            "score": score,
            "scope": scope,
            "calibrate": calibrate,
            "seen": 0,
            "chosen": False,
            **{name: bound for name, bound in bounds.items() if bound is not None},
        }
        self._masks = masks
        check_group({**defaults, "masks": masks})
        super().__init__(params, defaults)
        self._masks = None
        if masks is not None:
            every = [param for group in self.param_groups for param in group["params"]]
            found = indices_of_masks(masks, every)
            for param, indices in zip(every, found, strict=True):
                self.state[param]["indices"] = indices
            for group in self.param_groups:
                group["chosen"] = True

    def add_param_group(self, param_group: Group) -> None:
        """Adds a group; what it does not say is as in the constructor.

        Raises:
            TypeError, ValueError: as the constructor does, or a parameter is in another group.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group: expected a dict, got {quoted(param_group)}")
        own = {name: param_group.get(name) for name in ("density", "k", "masks")}
        group = {name: value for name, value in param_group.items() if name != "masks"}
        if any(value is not None for value in own.values()):
            group |= {"density": own["density"], "k": own["k"]}
        masked = own["masks"] is not None
        masks = own["masks"] if masked else self._masks
        check_group({**self.defaults, **group, "masks": masks})
        super().add_param_group(group)
        added = self.param_groups[-1]
        try:
            check_params(added["params"])
            found = indices_of_masks(own["masks"], added["params"]) if masked else []
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise
        for param, indices in zip(added["params"], found, strict=False):
            self.state[param]["indices"] = indices
        added["chosen"] = masked or added["chosen"]

    @property
    def calibrating(self) -> bool:
        """Whether a group still looks at gradients, and moves nothing."""
        return any(
            not group["chosen"] and group["score"] in ADDED_UP for group in self.param_groups
        )

    @property
    def grad_norm(self) -> Tensor | None:
        """The norm of all gradients on the support that the last step found, before they were
        clipped.

        A float64 tensor without dimensions. None where the last step had no need of it (see
        `measure_norm`).
        """
        return None if self._norm is None else torch.tensor(self._norm, dtype=torch.float64)

    def delta(self, model: Module) -> Delta:
        """What the support of a model has become: by a parameter's name (indices, values).

        `subgrad_fast.apply_delta_` puts it into the model that this one was fine-tuned from, which
        is then this one, to the bit; `subgrad_fast.flatten_delta` makes arrays of it to be saved.

        Args:
            model: whose parameters this optimizer steps.

        Returns:
            New tensors for each parameter of which something is chosen: positions in the row-major
            flattened parameter, ascending, and the elements there.

        Raises:
            TypeError: `model` is no module.
        """
        if not isinstance(model, Module):
            raise TypeError(f"model: expected a module, got {quoted(model)}")
        delta: Delta = {}
        for name, param in model.named_parameters():
            indices = self.state.get(param, _NO_STATE).get("indices")
            if indices is not None and indices.numel() > 0:
                delta[name] = (indices.clone(), torch.take(param.detach(), indices.long()))
        return delta

    def __setstate__(self, state: Group) -> None:
        """Takes over a state (unpickled, copied, loaded), its tensors as they are."""
        before = self.__dict__.get("param_groups", [])
        super().__setstate__(state)
        self.__dict__.setdefault("_turns", Turns())
        self._checked = {}
        self._masks = None
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
        return {**super().__getstate__(), "_judging": self._judging}

    def load_state_dict(self, state_dict: Group) -> None:
        """Takes over what `state_dict` returned, while it looked too; the next step has the bits it
        would have had.

        Args:
            state_dict: of this class.

        Raises:
            TypeError, ValueError: a hyper-parameter is out of range, or what is stored of a
                parameter does not fit it. Nothing has changed then.
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
            for group, mine in zip(hooked["param_groups"], self.param_groups, strict=False):
                check_group({**self.defaults, **group})
                check_slots(hooked["state"], group["params"], mine["params"])

        # The last of the pre-hooks sees what the others have made of it.
        handle = self.register_load_state_dict_pre_hook(note)
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        # torch casts a loaded state to its parameter's dtype, and numbers are no weights.
        numbers = [n for group in loaded["param_groups"] for n in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        for number, param in zip(numbers, params, strict=True):
            saved = loaded["state"].get(number, _NO_STATE)
            for name, dtype in (("indices", index_dtype(param)), ("score", wide_dtype(param))):
                if name in saved:
                    self.state[param][name] = saved[name].to("cpu", dtype, copy=True)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Performs a single optimization step, or looks at the gradients of a backward pass. Steps
        of several threads come one after the other.

        Args:
            closure: reevaluates the model and returns the loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with self._turns, torch.no_grad():
            self._norm = take_step(self, self._judging, self._checked)
        return loss
