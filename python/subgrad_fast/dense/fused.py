"""The dense SGD step as an object, which holds what does not change between steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from subgrad_fast import _core
from subgrad_fast._arguments import check_names, integer, one_of, quoted
from subgrad_fast._arrays import Array, Arrays, as_list, as_sequence, fill, is_torch, zeros_like
from subgrad_fast.dense.step import NormScope, SgdParams, clip_options

_Terms: TypeAlias = "tuple[SgdParams, _core.clip.Options | None]"
# What a user may set on a FusedSGD, and the types whose values can only change by being set.
_SETTINGS = frozenset(
    (*_core.SGD_TERMS, "grad_scale", "max_norm_scope", "skip_nonfinite", "measure_norm")
)
_PLAIN = frozenset((float, int, bool, str, type(None)))
# What they are by default, in the order of `sgd_step`; a learning rate is always given.
_DEFAULTS: dict[str, Any] = {
    **{name: getattr(SgdParams(0.0), name) for name in _core.SGD_TERMS if name != "lr"},
    "grad_scale": 1.0,
    "max_norm_scope": "global",
    "skip_nonfinite": False,
    "measure_norm": False,
}


def _zeros_like_all(params: list[Array], dtype: str | None) -> list[Array]:
    return [zeros_like(p, dtype) for p in params]


def _averages_like_all(params: list[Array]) -> list[Array]:
    wide = [str(p.dtype).endswith("float64") for p in params]
    return [zeros_like(p, "float64" if w else "float32") for p, w in zip(params, wide, strict=True)]


class FusedSGD:
    """`sgd_step` with its parameters, momentum buffers and averages held between steps.

    The hyper-parameters are attributes and may be changed between steps (``step.lr *= 0.1``).

    Args:
        params: as in `sgd_step`. They are held, and updated in place.
        lr, momentum, dampening, weight_decay, nesterov, maximize, decoupled_weight_decay, l1: as in
            `sgd_step`.
        momentum_dtype: "float32" keeps the momentum of low-precision parameters in float32; None
            (the default) in each parameter's own dtype.
        grad_scale, max_norm, max_norm_scope, clip_value, skip_nonfinite: as in `sgd_step`.
        measure_norm: `grad_norm` is found also where nothing else needs it.
        ema_decay: as in `sgd_step`, or a function that gives it: it is called with the number of
            steps that have been averaged so far (``lambda n: min(0.999, (1 + n) / (10 + n))``).
            Steps that a device may skip are counted there: the function's number waits for it.

    A pickle, and a copy by ``copy.deepcopy``, goes on where this one stands, with parameters,
    momentum buffers and averages of its own; ``copy.copy`` makes one that shares all of them.

    Raises:
        TypeError, ValueError: as `sgd_step` does.
    """

    # So that a misspelt hyper-parameter is an error, and not an attribute that nothing reads.
    __slots__ = (
        *sorted(_SETTINGS),
        *("_grad_norm", "_momentum_dtype", "_new_averages", "_new_buffers"),
        *("_params", "_plan", "_single", "_terms", "__weakref__"),
    )

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
        grad_scale: float = 1.0,
        max_norm: float | None = None,
        max_norm_scope: NormScope = "global",
        clip_value: float | None = None,
        skip_nonfinite: bool = False,
        measure_norm: bool = False,
        ema_decay: float | Callable[[int], float] | None = None,
    ) -> None:
        one_of("momentum_dtype", momentum_dtype, None, "float32")
        self.lr = lr
        self.momentum = momentum
        self.dampening = dampening
        self.weight_decay = weight_decay
        self.nesterov = nesterov
        self.maximize = maximize
        self.decoupled_weight_decay = decoupled_weight_decay
        self.l1 = l1
        self.grad_scale = grad_scale
        self.max_norm = max_norm
        self.max_norm_scope: NormScope = max_norm_scope
        self.clip_value = clip_value
        self.skip_nonfinite = skip_nonfinite
        self.measure_norm = measure_norm
        self.ema_decay = ema_decay
        self._grad_norm: Any = None
        params = as_sequence(params)
        self._plan_for(as_list(params), not isinstance(params, list | tuple), momentum_dtype)
        hyper, _ = self._read_terms()  # so that wrong numbers are errors here
        self._plan.need(hyper)

    def _plan_for(self, params: list[Array], single: bool, momentum_dtype: str | None) -> None:
        self._terms: _Terms | None = None
        self._params = params
        self._single = single
        self._momentum_dtype = momentum_dtype
        # Not methods of ours: the plan and this object would hold each other.
        self._new_buffers = partial(_zeros_like_all, params, momentum_dtype)
        self._new_averages = partial(_averages_like_all, params)
        given = params[0] if single else params
        self._plan = _core.dense.Plan(given, self._new_buffers, self._new_averages)

    def __repr__(self) -> str:
        settings = [f"lr={self.lr!r}"]
        settings += [
            f"{name}={value!r}"
            for name, absent in _DEFAULTS.items()
            if (value := getattr(self, name)) is not absent and value != absent
        ]
        arrays = "1 array" if len(self._params) == 1 else f"{len(self._params)} arrays"
        return f"<FusedSGD of {arrays}, {', '.join(settings)}>"

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, which go on where this one stands."""
        return self._plan.alone(self._whole)

    def _whole(self) -> dict[str, Any]:
        return {
            "settings": {name: getattr(self, name) for name in sorted(_SETTINGS)},
            "params": self._params,
            "single": self._single,
            "momentum_dtype": self._momentum_dtype,
            "momentum_buffers": self.momentum_buffers,
            "first_step": self._plan.first_step,
            "ema": self.ema,
            "ema_steps": self._plan.averaged,
            "grad_norm": self._grad_norm,
            "own": dict(getattr(self, "__dict__", {})),  # a subclass's
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state["settings"].items():
            setattr(self, name, value)
        for name, value in state["own"].items():
            object.__setattr__(self, name, value)
        self._grad_norm = state["grad_norm"]
        self._plan_for(state["params"], state["single"], state["momentum_dtype"])
        self._plan.hold(
            state["momentum_buffers"] or None,
            0 if state["first_step"] else 1,
            state["ema"] or None,
            state["ema_steps"],
        )

    @property
    def params(self) -> list[Array]:
        """The parameters, in the order given."""
        return self._params

    @property
    def momentum_buffers(self) -> list[Array]:
        """The momentum buffers, one like each parameter; empty while `momentum` is 0."""
        return self._plan.momentum_buffers

    @property
    def ema(self) -> list[Array]:
        """The averages, one for each parameter; empty while `ema_decay` is None."""
        return self._plan.averages

    @property
    def grad_norm(self) -> Any:
        """The norm that the last step found, as `sgd_step` returns it; None before one did."""
        return self._grad_norm

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name in _SETTINGS:
            object.__setattr__(self, "_terms", None)

    def _read_terms(self) -> _Terms:
        """The terms of a step; kept for the next one if they can only change by being set."""
        decay = self.ema_decay
        hyper = SgdParams(
            self.lr,
            momentum=self.momentum,
            dampening=self.dampening,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
            maximize=self.maximize,
            decoupled_weight_decay=self.decoupled_weight_decay,
            l1=self.l1,
            max_norm=self.max_norm,
            clip_value=self.clip_value,
            ema_decay=decay(self._plan.averaged) if callable(decay) else decay,
        )
        options = clip_options(
            self.max_norm_scope, self.measure_norm, self.skip_nonfinite, self.grad_scale
        )
        terms = (hyper, options)
        if all(type(getattr(self, name)) in _PLAIN for name in _SETTINGS):
            self._terms = terms
        return terms

    def __call__(self, grads: Arrays) -> None:
        """Takes one step with `grads` (see `sgd_step`).

        Calls from several threads take their steps one after the other.

        Raises:
            TypeError, ValueError: as `sgd_step` does; nothing has been written then.
        """
        hyper, options = self._terms or self._read_terms()
        norm = self._plan.step(grads, hyper, options)
        if norm is not None:
            self._grad_norm = norm

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs beside the parameters: copies of momentum buffers and averages."""
        return self._plan.alone(self._copied)

    def _copied(self) -> dict[str, Any]:
        state = {
            "momentum_buffers": _copies(self.momentum_buffers),
            "first_step": self._plan.first_step,
        }
        if self.ema:
            state["ema"] = _copies(self.ema)
            state["ema_steps"] = self._plan.averaged
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` returned; the next step has the bits it would have had.

        Raises:
            TypeError, ValueError: the state is incomplete, or the number, a shape or the elements
                of its arrays do not fit the parameters. Nothing has changed then.
        """
        check_names(state, ("momentum_buffers", "first_step"))
        first = state["first_step"]
        if not isinstance(first, bool | np.bool_):
            raise TypeError(f"state['first_step']: expected True or False, got {quoted(first)}")
        buffers = _filled(self._new_buffers, state["momentum_buffers"], "momentum_buffers")
        averages = _filled(self._new_averages, state.get("ema", []), "ema")
        if averages:
            check_names(state, ("ema_steps",))
        steps = integer("state['ema_steps']", state["ema_steps"]) if averages else 0
        self._plan.hold(buffers, 0 if first else 1, averages, steps)


def _copies(arrays: list[Array]) -> list[Array]:
    return [a.clone() if is_torch(a) else a.copy() for a in arrays]


def _filled(make: Callable[[], list[Array]], saved: Any, name: str) -> list[Array] | None:
    """New arrays with what a state holds of them; None where it holds none."""
    name = f"state['{name}']"
    if not isinstance(saved, list | tuple):
        raise TypeError(f"{name}: expected a list of arrays, got {type(saved).__name__}")
    if not saved:
        return None
    arrays = make()
    if len(saved) != len(arrays):
        raise ValueError(f"{name}: expected {len(arrays)} arrays, got {len(saved)}")
    for i, (array, values) in enumerate(zip(arrays, saved, strict=True)):
        fill(array, values, f"{name}[{i}]")
    return arrays
