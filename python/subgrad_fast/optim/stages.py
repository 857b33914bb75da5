"""What an optimizer does to gradients before its step, where torch's code takes the step."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from subgrad_fast import _core
from subgrad_fast._arguments import flag, number, one_of
from subgrad_fast.dense import NormScope
from subgrad_fast.optim.dtensor import shard_of
from subgrad_fast.optim.tensors import Group, l1_of

# Keys of ours that a group may have, each with what it is without them.
GROUP_TERMS = ("max_norm", "clip_value", "ema_decay")


class Judging(NamedTuple):
    """How the gradients of an optimizer are judged, for all groups alike."""

    max_norm_scope: NormScope = "global"
    skip_nonfinite: bool = False
    measure_norm: bool = False

    @classmethod
    def of(cls, max_norm_scope: NormScope, skip_nonfinite: bool, measure_norm: bool) -> Judging:
        """That which these arguments ask for. Raises TypeError or ValueError by their names."""
        return cls(
            one_of("max_norm_scope", max_norm_scope, "global", "group", "tensor"),
            flag("skip_nonfinite", skip_nonfinite),
            flag("measure_norm", measure_norm),
        )

    def options(
        self, grad_scale: Tensor | None = None, found_inf: Tensor | None = None
    ) -> _core.clip.Options | None:
        """For a step; None where gradients are taken as they come.

        Args:
            grad_scale: what a GradScaler has multiplied the loss by; None for nothing.
            found_inf: not 0 where it has found a gradient that is not finite.

        Raises:
            TypeError, ValueError: the scope is none, or `grad_scale` is 0 or not finite.
        """
        if self == _PLAIN and grad_scale is None and found_inf is None:
            return None
        return _core.clip.Options(
            scope=self.max_norm_scope,
            measure=self.measure_norm,
            skip_nonfinite=self.skip_nonfinite,
            grad_scale=1.0 if grad_scale is None else grad_scale,
            found_inf=found_inf,
        )


_PLAIN = Judging()


# torch's own terms, and those among them that are True or False.
_TORCHS = [
    name for name in inspect.signature(torch.optim.SGD).parameters if name in _core.SGD_TERMS
]
_FLAGS = [name for name in _TORCHS if isinstance(getattr(_core.SgdParams(0.0), name), bool)]
_CHOICES = ("foreach", "fused")  # None: as torch sees fit


def check_types(terms: Mapping[str, Any]) -> None:
    """Raises TypeError, by its name, for a term of torch's that is neither a number nor a flag
    where it should be one. (What range it is of, and tensors, torch looks at.)"""
    for name in _TORCHS:
        if name in terms and name not in _FLAGS and not isinstance(terms[name], Tensor):
            number(name, terms[name])
    for name in (*_FLAGS, "differentiable", *_CHOICES):
        if name in terms and not (name in _CHOICES and terms[name] is None):
            flag(name, terms[name])


def check_terms(group: Group) -> None:
    """Raises TypeError or ValueError, by its name, for a term of ours that no step can have."""
    if not isinstance(l1 := group.get("l1", 0.0), Tensor):
        number("l1", l1)
    l1_of(group)
    for name in GROUP_TERMS:
        if (value := group.get(name)) is None:
            continue
        x = number(name, value)
        if not x >= 0.0 or (name == "ema_decay" and x > 1.0):
            wanted = "from 0 to 1" if name == "ema_decay" else ">= 0"
            raise ValueError(f"{name}: expected a number {wanted}, got {value!r}")


def clips(groups: Iterable[Group]) -> bool:
    """Whether a group bounds its gradients."""
    return any(
        group.get("max_norm") is not None or group.get("clip_value") is not None for group in groups
    )


def measures(judging: Judging, groups: Iterable[Group]) -> bool:
    """Whether a step asks for the norm of its gradients."""
    return (
        judging.measure_norm
        or judging.skip_nonfinite
        or any(group.get("max_norm") is not None for group in groups)
    )


def measured(grads: Sequence[tuple[int, Tensor]]) -> list[_core.clip.Measured]:
    """The sums of squares of gradients that the kernels do not cover, by torch, in float64; of a
    DTensor that of its shard.

    Args:
        grads: (number of the group, gradient), of any layout, dtype and device.
    """
    found = []
    for group, grad in grads:
        shard = shard_of(grad)
        values = (grad if shard is None else shard).detach()
        if values.layout is torch.sparse_coo:
            values = values.coalesce().values()
        elif values.layout is not torch.strided:
            values = values.values()
        wide = torch.complex128 if values.is_complex() else torch.float64
        norm = torch.linalg.vector_norm(values, dtype=wide).item()
        is_wide = values.dtype in (torch.float64, torch.complex128)
        found.append(_core.clip.Measured(group, norm * norm, is_wide))
    return found


def staged(grad: Tensor, stage: _core.clip.Stage | None) -> Tensor:
    """A gradient after its stage: itself, or a new tensor of its dtype."""
    if stage is None or stage.changes_nothing:
        return grad
    grad = grad * stage.scale
    limit: float = stage.limit
    if limit == float("inf"):
        return grad
    if grad.layout is torch.sparse_coo:
        grad = grad.coalesce()
        values = grad.values().clamp(-limit, limit)
        return torch.sparse_coo_tensor(grad.indices(), values, grad.shape, is_coalesced=True)
    if grad.is_complex():  # element by element: as torch steps complex numbers, viewed as real
        return torch.view_as_complex(torch.view_as_real(grad).clamp(-limit, limit))
    return grad.clamp(-limit, limit)
