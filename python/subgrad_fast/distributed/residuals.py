"""What a rank holds back of each parameter, until a step is known to count and after it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from subgrad_fast.clip import total_norm
from subgrad_fast.distributed.exchange import bucket_strides, flat_view


class Residuals:
    """Residuals by parameter name, each with memory for what the step under way makes of it.

    Whether a step counts is known when its last bucket has been looked at on all ranks. What was
    held before is therefore not written, but changes places with what is held after.
    """

    def __init__(self, held: dict[str, Tensor] | None = None) -> None:
        self.held: dict[str, Tensor] = held or {}
        self._spare: dict[str, Tensor] = {}
        self._added: list[str] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"held": self.held}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _spare={}, _added=[])

    def begin(self) -> None:
        """Forgets a step that has not come to its end."""
        self._added = []

    def add(self, name: str, parameter: Tensor, gradient: Tensor, dtype: torch.dtype) -> Tensor:
        """What is held and a gradient, which is given flat, as it lies in its bucket; flat too."""
        strides = bucket_strides(parameter)
        held, spare = self.held.get(name), self._spare.get(name)
        if spare is None or spare.stride() != strides or spare.dtype != dtype:
            spare = torch.empty_strided(parameter.shape, strides, dtype=dtype)
            self._spare[name] = spare
        total = flat_view(spare)
        if held is None:
            total.copy_(gradient)
        elif held.stride() == strides and held.dtype == dtype:
            torch.add(flat_view(held), gradient, out=total)
        else:
            spare.copy_(held)
            total.add_(gradient)
        self._added.append(name)
        return total

    def keep(self) -> None:
        """Holds from now on what the step has made."""
        held = {**self.held, **{name: self._spare[name] for name in self._added}}
        before = {name: self.held[name] for name in self._added if name in self.held}
        left = {name: spare for name, spare in self._spare.items() if name not in held}
        vars(self).update(held=held, _spare={**left, **before}, _added=[])  # at once


def all_finite(tensors: list[Tensor]) -> bool:
    return math.isfinite(total_norm(tensors, p=math.inf))


def check_residuals(residuals: dict[str, Tensor], parameters: dict[str, Any]) -> None:
    for name, residual in residuals.items():
        if name not in parameters:
            raise ValueError(f"residuals: the model has no parameter {name!r}")
        if residual.shape != parameters[name].shape:
            raise ValueError(
                f"residuals[{name!r}]: expected shape {tuple(parameters[name].shape)}, "
                f"got {tuple(residual.shape)}"
            )
        if not all_finite([residual]):
            raise ValueError(f"residuals[{name!r}]: expected finite numbers")
