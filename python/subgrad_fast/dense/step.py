"""The dense SGD step on plain arrays."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from subgrad_fast import _core
from subgrad_fast._arrays import Arrays

SgdParams = _core.SgdParams
NormScope: TypeAlias = Literal["global", "group", "tensor"]
# Defaults that are told by their identity: a small step is over before they were compared.
_ONE = 1.0
_GLOBAL: NormScope = "global"
_core_step = _core.dense.step  # looked up once: a small step is over in less than a microsecond


def sgd_step(
    params: Arrays,
    grads: Arrays,
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
    grad_scale: float = _ONE,
    max_norm: float | None = None,
    max_norm_scope: NormScope = _GLOBAL,
    clip_value: float | None = None,
    skip_nonfinite: bool = False,
    ema: Arrays | None = None,
    ema_decay: float | None = None,
) -> Any:
    """Updates `params`, and `momentum_buffers` if there are any, in place by one SGD step.

    One pass over memory: each parameter and momentum is read and written once, each gradient read
    once. The formula and its rounding are those of ``torch.optim.SGD``'s default implementation::

        g = -g                                  if maximize
        g = g + weight_decay * w                if weight_decay, unless decoupled
        w = w * (1 - lr * weight_decay)         if decoupled_weight_decay (as in AdamW)
        m = momentum * m + (1 - dampening) * g  if momentum; m = g on the first step
        g = g + momentum * m                    if nesterov; else g = m if momentum
        w = w - lr * g
        w = sign(w) * max(|w| - lr * l1, 0)     if l1

    Before it, gradients may be unscaled and clipped on their way (they stay as they are), and after
    it the weights averaged::

        g = g / grad_scale
        stop, nothing written                   if skip_nonfinite and an element is not finite
        g = g * min(1, max_norm / (|g| + 1e-6)) if max_norm; |g| is the norm, of g / grad_scale
        g = max(min(g, clip_value), -clip_value)  if clip_value
        ... the step ...
        ema = ema + (1 - ema_decay) * (w - ema) if ema_decay; ema = w on the first step

    float64 parameters are computed in float64, all others in float32 and rounded once, to nearest
    even. NaN and infinities pass through as IEEE 754 says.

    Args:
        params: one array or a sequence of arrays, NumPy arrays or torch tensors or both, of dtype
            float32, float64, float16 or bfloat16 (torch's, or ml_dtypes' for NumPy). Any shape and
            strides; a tensor that requires a gradient is updated as under ``torch.no_grad()``.
            Masked arrays are refused, here and everywhere; of other subclasses of NumPy's array the
            memory counts.
            CUDA tensors are stepped on their device, in torch's current stream there; they must be
            contiguous or dense in any order of dimensions that their gradients (and averages)
            share. A norm, or a step that may be skipped, needs all of them on one device.
        grads: as many arrays of the same shapes, each of its parameter's dtype or float32, bfloat16
            or float16. Any strides, zero included (broadcast gradients). float64 gradients of other
            parameters, which NumPy makes unless it is told the dtype, are taken as
            ``gradient.astype(float32)``: converted to four more bytes an element before the step,
            which costs about half a step more. NumPy's numbers are arrays without dimensions.
        momentum_buffers: as many arrays of the same shapes, each of its parameter's dtype or
            float32. Needed if `momentum` is not 0, else neither read nor written.
        lr: learning rate, >= 0.
        momentum: momentum factor, >= 0.
        dampening: the share of the gradient that is kept out of the momentum.
        weight_decay: L2 penalty, >= 0.
        nesterov: Nesterov momentum; needs `momentum` > 0 and `dampening` == 0.
        maximize: go up the gradient.
        decoupled_weight_decay: shrink the parameters instead of adding to the gradient.
        l1: L1 penalty, >= 0, by a proximal step (Daubechies et al. 2004; Beck and Teboulle 2009):
            what it shrinks away is exactly +0. With `weight_decay` it makes the elastic net.
        first_step: momentum buffers and averages hold nothing yet: they are set, not read.
        grad_scale: what the gradients have been multiplied by, such as a loss scale or a number of
            micro-batches. They are multiplied by its reciprocal, rounded to the type of the
            arithmetic.
        max_norm: gradients whose norm is larger are scaled down to it, >= 0; None for no bound.
        max_norm_scope: which gradients share a norm: "global" and "group", all of this call;
            "tensor", each its own.
        clip_value: elements are held within [-clip_value, clip_value], >= 0; None for no bound.
        skip_nonfinite: a gradient with an element that is infinite or NaN stops the step: nothing
            is written.
        ema: as many arrays of the parameters' shapes, of float64 for float64 parameters and float32
            for all others, which follow the parameters. A 16-bit parameter is averaged as it is
            before it is rounded. Needed if `ema_decay` is given, else neither read nor written.
        ema_decay: the share of the average that stays, from 0 to 1; None for no average.

    Returns:
        The norm of all gradients together, divided by `grad_scale`, where `max_norm` or
        `skip_nonfinite` asks for it (it is not finite where the step was skipped); else None. On a
        device it is a float64 array without dimensions there, for which nothing waits: a step that
        is skipped is skipped there, and only this number tells of it.

    Raises:
        TypeError: an argument is not an array, or its dtype or layout is not supported.
        ValueError: lengths, shapes or devices do not fit, an array to be written is read-only or
            shares memory with another, there are no kernels for a device, or a hyper-parameter is
            out of range. The message names the argument and its index. Nothing has been written
            then.
        RuntimeError: CUDA reports an error.
    """
    hyper = SgdParams(
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
        ema_decay=ema_decay,
    )
    if momentum_buffers is None and momentum != 0.0:
        raise ValueError("momentum_buffers: needed, since momentum is not 0")
    if ema is None and ema_decay is not None:
        raise ValueError("ema: needed, since ema_decay is given")
    options = None
    if skip_nonfinite is not False or grad_scale is not _ONE or max_norm_scope is not _GLOBAL:
        options = clip_options(max_norm_scope, False, skip_nonfinite, grad_scale)
    return _core_step(params, grads, momentum_buffers, hyper, first_step, ema, options)


def clip_options(
    scope: str, measure: bool, skip_nonfinite: bool, grad_scale: float
) -> _core.clip.Options | None:
    """How gradients are judged; None for those that are taken as they come."""
    if (
        measure is skip_nonfinite is False
        and type(grad_scale) is float
        and grad_scale == 1.0
        and type(scope) is str
        and scope == "global"
    ):
        return None
    return _core.clip.Options(
        scope=scope, measure=measure, skip_nonfinite=skip_nonfinite, grad_scale=grad_scale
    )
