"""Every public function, class and method with arguments that it takes, and the kinds of these.

An argument's name means the same wherever it stands, so one table says what kind it is of.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import subgrad_fast as sf

KINDS = {
    "number": {
        *("lr", "momentum", "dampening", "weight_decay", "l1", "l2", "lam", "grad_scale", "p"),
        *("max_norm", "clip_value", "ema_decay", "threshold", "density", "norm_type"),
    },
    "flag": {
        *("nesterov", "maximize", "decoupled_weight_decay", "first_step", "skip_nonfinite"),
        *("measure_norm", "error_feedback", "momentum_correction", "momentum_masking", "measure"),
        *("shuffle", "replacement", "reverse_pairs", "go_round", "pin", "error_if_nonfinite"),
        *("average", "drop_last", "adaptive"),
    },
    "integer": {
        *("k", "n", "m", "seed", "epoch", "batch_size", "rank", "world_size", "num_samples"),
        *("num_batches", "num_classes", "classes_per_batch", "rows_per_class", "block_size"),
        *("blocks_together", "draw", "prefetch", "capacity", "step", "start", "stop", "count"),
        *("start_step", "warmup_steps", "calibrate", "reserve"),
    },
    "choice": {
        *("scope", "max_norm_scope", "index_dtype", "emit", "tail", "short", "momentum_dtype"),
        "score",
    },
}


def kind_of(name: str) -> str:
    """The kind of an argument; "other" for arrays, samplers and what else is no hyper-parameter."""
    return next((kind for kind, names in KINDS.items() if name in names), "other")


@dataclass(frozen=True)
class Call:
    """A public callable, by the name that a user writes.

    Attributes:
        make: what is called, of an object that nothing else has touched.
        arguments: ones that it takes, new ones at each call, by name.
        needs: which of them others need to be looked at: they stay when one is replaced.
    """

    name: str
    make: Callable[[], Callable[..., Any]]
    arguments: Callable[[], dict[str, Any]]

    def parameters(self) -> list[inspect.Parameter]:
        """Those that a user can give."""
        given = inspect.signature(self.make()).parameters.values()
        return [p for p in given if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]

    def __str__(self) -> str:
        return self.name


def f32(*shape: int) -> np.ndarray:
    """Ones, which a step can be taken with."""
    return np.ones(shape or (4,), np.float32)


def fused(**settings: Any) -> sf.FusedSGD:
    return sf.FusedSGD(f32(), **{"lr": 0.1, "momentum": 0.9, "ema_decay": 0.5, **settings})


_TERMS = {
    "lr": 0.1,
    "momentum": 0.9,
    "dampening": 0.0,
    "weight_decay": 0.1,
    "nesterov": False,
    "maximize": False,
    "decoupled_weight_decay": False,
}
_CLIP = {
    "grad_scale": 2.0,
    "max_norm": 1.0,
    "max_norm_scope": "global",
    "clip_value": 1.0,
    "skip_nonfinite": False,
}
_RANKS = {"seed": 1, "rank": 0, "world_size": 1}


def _rows() -> dict[str, Any]:
    return {"params": f32(4, 2), "grads": (np.array([1, 2]), f32(2, 2)),
            "momentum_buffers": f32(4, 2)}  # fmt: skip


def _delta() -> dict[str, Any]:
    return {"w": (np.array([0, 2]), f32(2))}


def _labels() -> np.ndarray:
    return np.array([0, 0, 1, 1, 2, 2])


FUNCTIONS = [
    ("sgd_step", lambda: {"params": f32(), "grads": f32(), "momentum_buffers": f32(), **_TERMS,
                          "l1": 0.1, "first_step": False, **_CLIP, "ema": f32(),
                          "ema_decay": 0.5}),
    ("row_step", lambda: {**_rows(), **_TERMS, "l1": 0.1, "first_step": False, **_CLIP,
                          "history": sf.RowHistory(4)}),
    ("RowHistory", lambda: {"rows": 4}),
    ("support_step", lambda: {"params": f32(), "grads": f32(), "indices": np.array([0, 2]),
                              "momentum_buffers": f32(2), **_TERMS, "l1": 0.1,
                              "first_step": False, **_CLIP}),
    ("apply_delta_", lambda: {"model": {"w": f32()}, "delta": _delta()}),
    ("revert_delta_", lambda: {"model": {"w": f32()}, "base": _delta()}),
    ("flatten_delta", lambda: {"delta": _delta()}),
    ("unflatten_delta", lambda: {"arrays": sf.flatten_delta(_delta())}),
    ("threshold_step", lambda: {"params": f32(), "grads": f32(), "residuals": f32(),
                                "momentum_buffers": f32(), **_TERMS, "density": 0.5,
                                "scope": "tensor", "momentum_correction": True,
                                "momentum_masking": True, "error_feedback": True,
                                "first_step": False, "emit": "int32", "measure": True, **_CLIP}),
    ("total_norm", lambda: {"arrays": f32(), "p": 2.0}),
    ("clip_grad_norm_", lambda: {"grads": f32(), "max_norm": 1.0, "p": 2.0}),
    ("clip_grad_value_", lambda: {"grads": f32(), "clip_value": 1.0}),
    ("soft_threshold_", lambda: {"x": f32(), "lam": 0.1}),
    ("elastic_net_", lambda: {"x": f32(), "l1": 0.1, "l2": 0.1}),
    ("group_soft_threshold_", lambda: {"x": f32(), "lam": 0.1}),
    ("hard_threshold_", lambda: {"x": f32(), "density": 0.5, "scope": "tensor"}),
    ("n_m_", lambda: {"x": f32(), "n": 2, "m": 4}),
    ("apply_mask_", lambda: {"x": f32(), "mask": np.ones(4, bool)}),
    ("Mask", lambda: {"params": f32(), "masks": [np.ones(4, bool)]}),
    ("select", lambda: {"x": f32(), "density": 0.5, "scope": "tensor", "index_dtype": "int64"}),
    ("kth_magnitude", lambda: {"x": f32(), "k": 1, "scope": "tensor"}),
    ("Absolute", lambda: {"threshold": 1.0}),
    ("Exact", lambda: {"density": 0.5}),
    ("Sampled", lambda: {"density": 0.5}),
    ("Reused", lambda: {"density": 0.5, "thresholds": []}),
    ("FusedSGD", lambda: {"params": f32(), **_TERMS, "l1": 0.1, **_CLIP, "momentum_dtype": None,
                          "measure_norm": False, "ema_decay": 0.5}),
    ("Permutation", lambda: {"n": 9, "seed": 1, "epoch": 0, "reverse_pairs": False,
                             "block_size": 2, "blocks_together": 1}),
    ("choose", lambda: {"n": 9, "k": 3, "seed": 1, "draw": 0, "out": np.zeros(3, np.int64)}),
    ("BatchSampler", lambda: {"n": 9, "batch_size": 2, **_RANKS, "shuffle": True,
                              "replacement": False, "tail": "partial", "reverse_pairs": False,
                              "block_size": None, "blocks_together": 1}),
    ("WeightedSampler", lambda: {"weights": np.ones(9), "batch_size": 2, **_RANKS,
                                 "replacement": True, "num_samples": 9, "tail": "partial"}),
    ("ClassBalancedSampler", lambda: {"labels": _labels(), "batch_size": 2, "shares": np.ones(3),
                                      "num_classes": 3, "num_samples": 6, **_RANKS,
                                      "tail": "partial"}),
    ("StratifiedSampler", lambda: {"labels": _labels(), "batch_size": 3,
                                   "quotas": np.array([1, 1, 1]), "num_batches": 2,
                                   "num_classes": 3, **_RANKS, "tail": "partial"}),
    ("GroupSampler", lambda: {"labels": _labels(), "classes_per_batch": 2, "rows_per_class": 2,
                              "go_round": False, "short": "error", "num_batches": 2,
                              "num_classes": 3, **_RANKS}),
    ("BatchLoader", lambda: {"arrays": (f32(9, 2), np.arange(9)),
                             "sampler": sf.BatchSampler(9, 2), "prefetch": 2, "pin": False}),
    ("set_num_threads", lambda: {"n": 0, "adaptive": True}),
    ("get_num_threads", dict),
    ("use_huge_pages", lambda: {"arrays": f32()}),
    ("available_isas", dict),
    ("build_info", dict),
]  # fmt: skip


def _loader() -> Any:
    return sf.BatchLoader((f32(9, 2), np.arange(9)), sf.BatchSampler(9, 2))


def _sampler_methods(name: str, make: Callable[[], Any]) -> Iterator[Call]:
    def bound(method: str) -> Callable[[], Callable[..., Any]]:
        return lambda: getattr(make(), method)

    def call(method: str, arguments: Callable[[], dict[str, Any]]) -> Call:
        return Call(f"{name}.{method}", bound(method), arguments)

    yield call("rows", lambda: {"epoch": 0, "start": 0, "count": 2})
    yield call("batch", lambda: {"step": 0, "epoch": 0})
    yield call("valid", lambda: {"step": 0})
    yield call("set_epoch", lambda: {"epoch": 1})
    yield call("state_dict", dict)
    yield call("load_state_dict", lambda: {"state": make().state_dict()})


SAMPLERS: dict[str, Callable[[], Any]] = {
    "BatchSampler": lambda: sf.BatchSampler(9, 2),
    "WeightedSampler": lambda: sf.WeightedSampler(np.ones(9), 2),
    "ClassBalancedSampler": lambda: sf.ClassBalancedSampler(_labels(), 2),
    "StratifiedSampler": lambda: sf.StratifiedSampler(_labels(), 3),
    "GroupSampler": lambda: sf.GroupSampler(_labels(), 2, 2),
}

METHODS = [
    Call("FusedSGD.__call__", fused, lambda: {"grads": f32()}),
    Call("FusedSGD.state_dict", lambda: fused().state_dict, dict),
    Call("FusedSGD.load_state_dict", lambda: fused().load_state_dict,
         lambda: {"state": fused().state_dict()}),
    Call("RowHistory.catch_up", lambda: sf.RowHistory(4).catch_up,
         lambda: {"param": f32(4, 2), "momentum_buffer": f32(4, 2), "rows": np.array([1])}),
    Call("RowHistory.lacking", lambda: sf.RowHistory(4).lacking, dict),
    Call("Mask.apply", lambda: sf.Mask(f32()).apply, dict),
    Call("Mask.record", lambda: sf.Mask(f32()).record, dict),
    Call("Mask.state_dict", lambda: sf.Mask(f32()).state_dict, dict),
    Call("Mask.load_state_dict", lambda: sf.Mask(f32()).load_state_dict,
         lambda: {"state": sf.Mask(f32()).state_dict()}),
    Call("Permutation.slice", lambda: sf.Permutation(9).slice,
         lambda: {"start": 0, "stop": 4, "step": 1, "out": np.zeros(4, np.int64)}),
    Call("Permutation.take", lambda: sf.Permutation(9).take,
         lambda: {"positions": np.arange(3), "out": np.zeros(3, np.int64)}),
    Call("Permutation.position", lambda: sf.Permutation(9).position,
         lambda: {"index": np.arange(3)}),
    Call("BatchSampler.order", lambda: sf.BatchSampler(9, 2).order, lambda: {"epoch": 1}),
    Call("WeightedSampler.draw", lambda: sf.WeightedSampler(np.ones(9)).draw,
         lambda: {"n": 3, "out": np.zeros(3, np.int64)}),
    Call("WeightedSampler.update", lambda: sf.WeightedSampler(np.ones(9)).update,
         lambda: {"indices_": np.arange(3), "weights": np.ones(3)}),
    Call("WeightedSampler.importance_weights",
         lambda: sf.WeightedSampler(np.ones(9)).importance_weights,
         lambda: {"rows": np.arange(3)}),
    Call("BatchLoader.set_epoch", lambda: _loader().set_epoch, lambda: {"epoch": 1}),
    Call("BatchLoader.close", lambda: _loader().close, dict),
    Call("BatchLoader.state_dict", lambda: _loader().state_dict, dict),
    Call("BatchLoader.load_state_dict", lambda: _loader().load_state_dict,
         lambda: {"state": _loader().state_dict()}),
    *(call for name, make in SAMPLERS.items() for call in _sampler_methods(name, make)),
]  # fmt: skip


def calls() -> list[Call]:
    """All that need no torch."""

    def call(name: str, arguments: Callable[[], dict[str, Any]]) -> Call:
        return Call(name, lambda: getattr(sf, name), arguments)

    return [*(call(name, arguments) for name, arguments in FUNCTIONS), *METHODS]
