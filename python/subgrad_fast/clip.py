"""The norm of gradients, and gradients made smaller where they are."""

from __future__ import annotations

import math
from typing import Any

from subgrad_fast import _core
from subgrad_fast._arguments import number, quoted
from subgrad_fast._arrays import Arrays


def _at_least_zero(name: str, value: Any) -> float:
    x = number(name, value)
    if not x >= 0.0:  # so that NaN is refused too
        raise ValueError(f"{name}: expected a number >= 0, got {quoted(value)}")
    return x


def _is_largest(p: Any) -> bool:
    """Whether the order of a norm asks for the largest magnitude, and not for the root of squares.

    Raises:
        TypeError, ValueError: it is neither 2 nor infinity.
    """
    order = number("p", p)
    if order not in (2.0, math.inf):
        raise ValueError(f"p: expected 2 or inf, got {quoted(p)}")
    return order == math.inf


def total_norm(arrays: Arrays, p: float = 2.0) -> Any:
    """The norm of all elements of all arrays together, as if they were one vector.

    Squares are added in float64, in fixed blocks of fixed lanes: the result has the same bits on
    every instruction set and for every number of threads. Squares that would leave float64's range
    are added as multiples of a power of two. It is finite exactly if every element is (save where
    the norm itself is beyond float64).

    Args:
        arrays: one array or a sequence of arrays, NumPy arrays or torch tensors or both, of dtype
            float32, float64, float16 or bfloat16, of any shapes and strides. All may be CUDA
            tensors of one device, each one run of memory.
        p: 2, or infinity for the largest magnitude.

    Returns:
        The norm as a float. On a device, a float64 array without dimensions there, of the same
        bits, for which nothing waits.

    Raises:
        TypeError: an argument is not an array or its dtype is not supported.
        ValueError: `p` is another, an array's memory is not there, arrays are in several places,
            or there are no kernels for a device.
        RuntimeError: CUDA reports an error.
    """
    return _core.clip.total_norm(arrays, _is_largest(p))


def clip_grad_norm_(grads: Arrays, max_norm: float, p: float = 2.0) -> Any:
    """Multiplies all gradients, in place, so that their norm is at most `max_norm`.

    The coefficient is ``min(1, max_norm / (norm + 1e-6))``, as in
    ``torch.nn.utils.clip_grad_norm_``. Where it is 1 nothing is written. A norm that is infinite or
    NaN makes the gradients NaN where they were not finite, as in torch.

    Args:
        grads: as `total_norm`'s arrays. They are changed.
        max_norm: >= 0.
        p: as in `total_norm`.

    Returns:
        The norm before clipping, as `total_norm` does.

    Raises:
        TypeError, ValueError: as `total_norm` does, for arrays that cannot be written or share
            memory, and for a `max_norm` below 0. Nothing has been written then.
    """
    return _core.clip.clip_norm(grads, _at_least_zero("max_norm", max_norm), _is_largest(p))


def clip_grad_value_(grads: Arrays, clip_value: float) -> None:
    """Holds every element of the gradients within [-clip_value, clip_value], in place.

    NaN stays NaN, as in ``torch.nn.utils.clip_grad_value_``.

    Args:
        grads: as `total_norm`'s arrays. They are changed.
        clip_value: >= 0.

    Raises:
        TypeError, ValueError: as `clip_grad_norm_` does.
    """
    _core.clip.clip_value(grads, _at_least_zero("clip_value", clip_value))
