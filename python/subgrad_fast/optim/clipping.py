"""Clipping as in ``torch.nn.utils``: the same functions, in one pass over all gradients."""

from __future__ import annotations

import math
import types
import warnings
from collections.abc import Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from subgrad_fast import _core
from subgrad_fast._arguments import flag, number

Tensors: TypeAlias = "Tensor | Iterable[Tensor]"


def _as_list(tensors: Tensors, name: str) -> list[Tensor]:
    if isinstance(tensors, Tensor):
        return [tensors]
    if not isinstance(tensors, Iterable):
        raise TypeError(
            f"{name}: expected a tensor or an iterable of tensors, got {type(tensors).__name__}"
        )
    return tensors if type(tensors) is list else list(tensors)


def _require_tensors(tensors: list[Tensor], name: str) -> None:
    """Raises TypeError for what is none: torch's own code would say so in words of its own."""
    for i, tensor in enumerate(tensors):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}[{i}]: expected a tensor, got {type(tensor).__name__}")


def _as_norm(found: tuple[Any, str]) -> Tensor:
    norm, name = found
    dtype: torch.dtype = getattr(torch, name)
    if not isinstance(norm, Tensor):
        return torch.tensor(norm, dtype=dtype, device="cpu")
    # On a device. Through float32, as all arithmetic of 16-bit numbers.
    return norm if dtype is torch.float64 else norm.to(torch.float32).to(dtype)


def _order(norm_type: Any) -> float:
    """The order of a norm; by its name infinity, as in torch."""
    return (
        math.inf
        if isinstance(norm_type, str) and norm_type == "inf"
        else number("norm_type", norm_type)
    )


def _has_loop(norm_type: float) -> bool:
    return norm_type in (2.0, math.inf)


def _is_number(norm: Any) -> bool:
    """Whether it is a plain tensor without dimensions in CPU memory."""
    return type(norm) is Tensor and norm.dim() == 0 and norm.device.type == "cpu"


def clip_grad_norm_(
    parameters: Tensors,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """``torch.nn.utils.clip_grad_norm_``: scales gradients in place so that their norm is bounded.

    On a CUDA device the norm and the coefficient stay there, and nothing waits for them (with
    `error_if_nonfinite` the host does, as with torch's function).

    One pass over all gradients finds the norm (as `subgrad_fast.total_norm`, with squares added in
    float64), a second one multiplies them, and only where the norm is too large: gradients within
    the bound are not written, where torch multiplies them by 1. The coefficient has the bits of
    torch's for the same norm. Gradients of 16 bits are multiplied by a float32 coefficient, where
    torch's has 16 bits too.

    torch's own code does the rest: other norms than 2 and infinity, gradients that are not plain
    dense tensors of float32, float64, bfloat16 or float16 in CPU memory or on one CUDA device, or
    that share memory.

    Args:
        parameters: one tensor or an iterable of tensors, whose ``grad`` is scaled if there is one.
        max_norm: the bound.
        norm_type: the order of the norm.
        error_if_nonfinite: raise an error where the norm is infinite or NaN.
        foreach: True or False runs torch's own code.

    Returns:
        The norm before clipping, a tensor without dimensions, of the dtype that torch's has: the
        widest of the gradients', or float32 if there are none.

    Raises:
        RuntimeError: `error_if_nonfinite`, and the norm is. Nothing has been written then.
        ValueError: a gradient's memory has been freed.
    """
    params = _as_list(parameters, "parameters")
    if not params and isinstance(parameters, types.GeneratorType):
        warnings.warn(
            "`parameters` is an empty generator, no gradient clipping will occur.", stacklevel=2
        )
    bound, order = number("max_norm", max_norm), _order(norm_type)
    nonfinite = flag("error_if_nonfinite", error_if_nonfinite)
    if foreach is None and _has_loop(order):
        found = _core.clip.clip_torch_norm(params, bound, order == math.inf, nonfinite)
        if found is not None:
            return _as_norm(found)
    _require_tensors(params, "parameters")
    return torch.nn.utils.clip_grad_norm_(params, bound, order, error_if_nonfinite, foreach)


def get_total_norm(
    tensors: Tensors,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """``torch.nn.utils.get_total_norm``: the norm of all elements of all tensors together.

    Args:
        tensors: one tensor or an iterable of tensors.
        norm_type, error_if_nonfinite, foreach: as in `clip_grad_norm_`.

    Returns:
        As `clip_grad_norm_` does.

    Raises:
        RuntimeError, ValueError: as `clip_grad_norm_` does.
    """
    tensors = _as_list(tensors, "tensors")
    order = _order(norm_type)
    nonfinite = flag("error_if_nonfinite", error_if_nonfinite)
    if foreach is None and _has_loop(order):
        found = _core.clip.torch_norm(tensors, order == math.inf)
        if found is not None:
            norm = _as_norm(found)
            if not nonfinite or math.isfinite(norm.item()):
                return norm
    _require_tensors(tensors, "tensors")
    return torch.nn.utils.get_total_norm(tensors, order, error_if_nonfinite, foreach)


def clip_grads_with_norm_(
    parameters: Tensors, max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """``torch.nn.utils.clip_grads_with_norm_``: scales gradients in place by a norm that is known.

    Args:
        parameters, max_norm, foreach: as in `clip_grad_norm_`.
        total_norm: the norm, such as `get_total_norm` returns it.

    Raises:
        ValueError: as `clip_grad_norm_` does.
    """
    params = _as_list(parameters, "parameters")
    bound = number("max_norm", max_norm)
    if not isinstance(total_norm, Tensor):
        raise TypeError(f"total_norm: expected a tensor, got {type(total_norm).__name__}")
    if foreach is None and _is_number(total_norm):
        with torch.no_grad():
            coefficient = torch.clamp(bound / (total_norm + 1e-6), max=1.0)
        if _core.clip.change_torch(params, scale=coefficient.item()):
            return
    _require_tensors(params, "parameters")
    torch.nn.utils.clip_grads_with_norm_(params, max_norm, total_norm, foreach)


def clip_grad_value_(parameters: Tensors, clip_value: float, foreach: bool | None = None) -> None:
    """``torch.nn.utils.clip_grad_value_``: holds each element within ``[-clip_value, clip_value]``.

    Args:
        parameters, foreach: as in `clip_grad_norm_`.
        clip_value: the bound.

    Raises:
        ValueError: as `clip_grad_norm_` does.
    """
    params = _as_list(parameters, "parameters")
    limit = number("clip_value", clip_value)
    covered = foreach is None and limit >= 0.0
    if not (covered and _core.clip.change_torch(params, limit=limit)):
        _require_tensors(params, "parameters")
        torch.nn.utils.clip_grad_value_(params, limit, foreach)
