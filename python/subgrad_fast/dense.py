"""The dense SGD step on plain arrays: a function for one step, and a class that holds a plan."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from subgrad_fast import _core
from subgrad_fast._arguments import quoted
from subgrad_fast._arrays import Array, Arrays, as_list, as_sequence, fill, is_torch, zeros_like

SgdParams = _core.SgdParams
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
) -> None:
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

    float64 parameters are computed in float64, all others in float32 and rounded once, to nearest
    even. NaN and infinities pass through as IEEE 754 says.

    Args:
        params: one array or a sequence of arrays, NumPy arrays or torch tensors or both, of dtype
            float32, float64, float16 or bfloat16 (torch's, or ml_dtypes' for NumPy). Any shape and
            strides; a tensor that requires a gradient is updated as under ``torch.no_grad()``.
            CUDA tensors are stepped on their device, in torch's current stream there; they must be
            contiguous or dense in any order of dimensions that their gradients share.
        grads: as many arrays of the same shapes, each of its parameter's dtype or float32, bfloat16
            or float16. Any strides, zero included (broadcast gradients).
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
        first_step: the momentum buffers hold nothing yet: they are set to the gradient, not read.

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
    )
    if momentum_buffers is None and momentum != 0.0:
        raise ValueError("momentum_buffers: needed, since momentum is not 0")
    _core_step(params, grads, momentum_buffers, hyper, first_step)


def _zeros_like_all(params: list[Array], dtype: str | None) -> list[Array]:
    return [zeros_like(p, dtype) for p in params]


class FusedSGD:
    """`sgd_step` with its parameters and momentum buffers held between steps.

    The hyper-parameters are attributes and may be changed between steps (``step.lr *= 0.1``).

    Args:
        params: as in `sgd_step`. They are held, and updated in place.
        lr, momentum, dampening, weight_decay, nesterov, maximize, decoupled_weight_decay, l1: as in
            `sgd_step`.
        momentum_dtype: "float32" keeps the momentum of low-precision parameters in float32; None
            (the default) in each parameter's own dtype.

    Raises:
        TypeError, ValueError: as `sgd_step` does.
    """

    def __init__(
        self,
        params: Arrays,
        *,
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        l1: float = 0.0,
        momentum_dtype: str | None = None,
    ) -> None:
        if momentum_dtype not in (None, "float32"):
            raise ValueError(
                f"momentum_dtype: expected None or 'float32', got {quoted(momentum_dtype)}"
            )
        self.lr = lr
        self.momentum = momentum
        self.dampening = dampening
        self.weight_decay = weight_decay
        self.nesterov = nesterov
        self.maximize = maximize
        self.decoupled_weight_decay = decoupled_weight_decay
        self.l1 = l1
        params = as_sequence(params)
        self._params = as_list(params)
        # Not a method of ours: the plan and this object would hold each other.
        self._new_buffers = partial(_zeros_like_all, self._params, momentum_dtype)
        self._hyper()  # so that wrong numbers are errors here
        self._plan = _core.dense.Plan(params, self._new_buffers)
        if momentum != 0.0:
            self._plan.need_momentum()

    @property
    def params(self) -> list[Array]:
        """The parameters, in the order given."""
        return self._params

    @property
    def momentum_buffers(self) -> list[Array]:
        """The momentum buffers, one like each parameter; empty while `momentum` is 0."""
        return self._plan.momentum_buffers

    def _hyper(self) -> SgdParams:
        return SgdParams(
            self.lr,
            momentum=self.momentum,
            dampening=self.dampening,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
            maximize=self.maximize,
            decoupled_weight_decay=self.decoupled_weight_decay,
            l1=self.l1,
        )

    def __call__(self, grads: Arrays) -> None:
        """Takes one step with `grads` (see `sgd_step`).

        Calls from several threads take their steps one after the other.

        Raises:
            TypeError, ValueError: as `sgd_step` does; nothing has been written then.
        """
        self._plan.step(grads, self._hyper())

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs beside the parameters: copies of the momentum buffers."""
        return self._plan.alone(self._copied)

    def _copied(self) -> dict[str, Any]:
        copies = [b.clone() if is_torch(b) else b.copy() for b in self.momentum_buffers]
        return {"momentum_buffers": copies, "first_step": self._plan.first_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` returned; the next step has the bits it would have had.

        Raises:
            KeyError, TypeError, ValueError: the state is incomplete, or the number, a shape or the
                elements of the buffers do not fit the parameters. Nothing has changed then.
        """
        saved, first = state["momentum_buffers"], state["first_step"]
        if not isinstance(first, bool | np.bool_):
            raise TypeError(f"state['first_step']: expected True or False, got {quoted(first)}")
        name = "state['momentum_buffers']"
        if not isinstance(saved, list | tuple):
            raise TypeError(f"{name}: expected a list of arrays, got {type(saved).__name__}")
        if len(saved) not in (0, len(self._params)):
            raise ValueError(f"{name}: expected {len(self._params)} arrays, got {len(saved)}")
        if not saved:
            self._plan.hold(None, True)
            return
        buffers = self._new_buffers()
        for i, (buffer, values) in enumerate(zip(buffers, saved, strict=True)):
            fill(buffer, values, f"{name}[{i}]")
        self._plan.hold(buffers, bool(first))
