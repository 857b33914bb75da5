"""The SGD step on elements of parameters that were chosen once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from subgrad_fast import _core
from subgrad_fast._arguments import flag
from subgrad_fast._arrays import Array, Arrays, as_list, as_sequence, raw_view, require_array
from subgrad_fast.dense import NormScope, clip_options


def as_indices(indices: Array, name: str) -> npt.NDArray[Any]:
    """Indices as the kernels take them: int32 or int64 in one run of memory.

    Raises:
        TypeError: they are of another dtype, or not in one dimension.
    """
    numbers = raw_view(indices, name)
    if numbers.ndim != 1 or numbers.dtype not in (np.int32, np.int64):
        raise TypeError(
            f"{name}: expected int32 or int64 in one dimension, "
            f"got {numbers.dtype} of shape {numbers.shape}"
        )
    return np.require(numbers, None, ["C", "A"])


def support_step(
    params: Arrays,
    grads: Arrays,
    indices: Arrays,
    momentum_buffers: Arrays | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    l1: float = 0.0,
    first_step: bool = False,
    grad_scale: float = 1.0,
    max_norm: float | None = None,
    max_norm_scope: NormScope = "global",
    clip_value: float | None = None,
    skip_nonfinite: bool = False,
) -> float | None:
    """Takes one SGD step, in place, on the elements that are chosen; no other is touched.

    A chosen element gets the bits that `sgd_step` gives it. Weight decay and the L1 penalty act on
    chosen elements only, and a norm is that of the gradients at them: it has the bits of the norm
    of dense gradients that are zero everywhere else. So the step is the dense one for masked
    gradients (Sung et al., 2021, fine-tune a fixed half per cent of a network's weights), in time
    and memory that grow with the number of chosen elements alone.

    The results have the same bits for any number of threads and on any instruction set.

    Args:
        params: one array or a sequence of arrays, as in `sgd_step`, in CPU memory. Any strides.
        grads: as many dense arrays of the same shapes, as in `sgd_step`. Only chosen elements are
            read, save of float64 gradients for other parameters, which are converted as a whole.
        indices: for each parameter which elements are chosen: positions in the row-major flattened
            array, int32 or int64 in one dimension, ascending.
        momentum_buffers: for each parameter one number for each index, in one dimension and
            contiguous, of the parameter's dtype or float32. Needed if `momentum` is not 0, else
            neither read nor written.
        lr: learning rate, >= 0.
        momentum: momentum factor, >= 0.
        dampening: the share of the gradient that is kept out of the momentum.
        weight_decay: L2 penalty on the chosen elements, >= 0.
        nesterov: Nesterov momentum; needs `momentum` > 0 and `dampening` == 0.
        maximize: go up the gradient.
        decoupled_weight_decay: shrink the chosen elements instead of adding to their gradient.
        l1: L1 penalty on the chosen elements, >= 0.
        first_step: the momentum buffers hold nothing yet: they are set, not read.
        grad_scale, max_norm, max_norm_scope, clip_value, skip_nonfinite: as in `sgd_step`, for the
            gradients at the chosen elements.

    Returns:
        The norm of all gradients at chosen elements, divided by `grad_scale`, where `max_norm` or
        `skip_nonfinite` asks for it (it is not finite where the step was skipped); else None.

    Raises:
        TypeError: an argument is not an array, or its dtype or layout is not supported.
        ValueError: lengths, shapes or devices do not fit, indices do not ascend or are too large,
            an array to be written is read-only or shares memory with another, or a hyper-parameter
            is out of range. The message names the argument and its index. Nothing has been written
            then.
    """
    hyper = _core.SgdParams(
        lr,
        momentum=momentum,
        dampening=dampening,
        weight_decay=weight_decay,
        nesterov=nesterov,
        maximize=maximize,
        decoupled_weight_decay=decoupled_weight_decay,
        l1=l1,
        max_norm=max_norm,
        clip_value=clip_value,
    )
    options = clip_options(max_norm_scope, False, skip_nonfinite, grad_scale)
    first = flag("first_step", first_step)
    params = as_sequence(params)
    single = not isinstance(params, list | tuple)
    count = len(as_list(params))
    given = as_list(indices)
    if len(given) != count:
        raise ValueError(f"indices: expected {count} arrays like params, got {len(given)}")
    numbers = []
    for i, (param, index) in enumerate(zip(as_list(params), given, strict=True)):
        names = [name if single else f"{name}[{i}]" for name in ("indices", "params")]
        require_array(param, names[1])
        checked = as_indices(index, names[0])
        numbers.append(_core.chosen.Indices(checked, math.prod(param.shape), *names))
    if momentum != 0.0 and momentum_buffers is None:
        raise ValueError("momentum_buffers: needed, since momentum is not 0")
    call = _core.chosen.Call(options)
    call.add(
        params, as_sequence(grads), numbers, as_sequence(momentum_buffers), hyper, [first] * count
    )
    return call.run()
