"""Steps, selections and sparse weights."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np

import subgrad_fast as sf
from subgrad_fast import _core
from tests.leaks.families import Call, Families, refused, vectors

family = Families()


@family
def sgd_step() -> Call:
    w, g, m = vectors(3)
    return lambda: sf.sgd_step(w, g, m, lr=0.1, momentum=0.9)


@family
def sgd_step_on_lists_and_layouts() -> Call:
    w, g, m = vectors(3, 100)
    wide = np.zeros((50, 4, 3, 2, 2), np.float64)  # more dimensions than are kept in place
    params = [w[::2], wide.swapaxes(0, 2)]
    grads = [g[::-2], np.broadcast_to(np.float32(1), wide.swapaxes(0, 2).shape)]
    return lambda: sf.sgd_step(iter(params), grads, lr=0.1)


@family
def sgd_step_refused() -> Call:
    w, g, _ = vectors(3)
    bad: list[tuple[Any, Any, Any, dict[str, Any]]] = [
        (w, g[:-1], None, {}),
        (w, g.astype(np.int32), None, {}),
        ([w, w], [g, g], None, {}),
        (w, g, None, {"momentum": 0.9}),
        (w, g, [w], {"momentum": 0.9}),
        (w, "text", None, {}),
        (w, g, None, {"l1": -1.0}),
        (np.broadcast_to(np.float32(1), (4,)), g[:4], None, {}),
    ]

    def call() -> None:
        for p, grad, m, more in bad:
            refused(TypeError, ValueError)(
                lambda p=p, grad=grad, m=m, more=more: sf.sgd_step(p, grad, m, lr=0.1, **more)
            )()

    return call


@family
def fused_sgd() -> Call:
    w, g = vectors(2)
    step = sf.FusedSGD([w], lr=0.1, momentum=0.9)
    return lambda: step([g])


@family
def fused_sgd_made_and_dropped() -> Call:
    w, g = vectors(2)

    def call() -> None:
        step = sf.FusedSGD(w, lr=0.1, momentum=0.9, momentum_dtype="float32")
        step(g)
        step.load_state_dict(step.state_dict())
        step(g)

    return call


@family
def fused_sgd_refused() -> Call:
    w, g = vectors(2)
    step = sf.FusedSGD(w, lr=0.1)
    make = refused(ValueError)(lambda: sf.FusedSGD(w, lr=-1.0))
    take = refused(ValueError)(lambda: step(g[:-1]))
    state = {"momentum_buffers": [w, w], "first_step": False}
    load = refused(ValueError)(lambda: step.load_state_dict(state))
    return lambda: (make(), take(), load())


@family
def stages() -> Call:
    w, g, m, e = vectors(4)
    terms = {"max_norm": 1.0, "clip_value": 0.5, "grad_scale": 2.0, "skip_nonfinite": True}
    step = sf.FusedSGD([w], lr=0.1, ema_decay=lambda n: n / (n + 1), measure_norm=True, **terms)
    infinite = np.full_like(g, np.inf)

    def call() -> None:
        for scope in ("global", "tensor"):
            more = {"max_norm_scope": scope, "ema": e, "ema_decay": 0.9}
            sf.sgd_step(w, g[::-1], m, lr=0.1, momentum=0.9, **terms, **more)
        sf.sgd_step(w, infinite, lr=0.1, **terms)
        step([g])
        step.load_state_dict(step.state_dict())

    return call


@family
def stages_refused() -> Call:
    w, g, e = vectors(3, 100)
    bad: list[dict[str, Any]] = [
        {"max_norm": -1.0},
        {"max_norm_scope": "layer"},
        {"clip_value": "text"},
        {"grad_scale": 0.0},
        {"skip_nonfinite": "text"},
        {"ema_decay": 2.0, "ema": e},
        {"ema_decay": 0.5},
        {"ema_decay": 0.5, "ema": w},
        {"ema_decay": 0.5, "ema": e[1:]},
    ]

    def call() -> None:
        for terms in bad:
            refused(TypeError, ValueError)(lambda terms=terms: sf.sgd_step(w, g, lr=0.1, **terms))()

    return call


@family
def clipping() -> Call:
    x, y = vectors(2)
    both = [x, y.reshape(-1, 10)[:, ::2], y.astype(np.float64)]
    calls = [
        lambda: sf.clip_grad_norm_([x, x], 1.0),
        lambda: sf.clip_grad_norm_(x, -1.0),
        lambda: sf.clip_grad_value_(x, None),  # type: ignore[arg-type]
        lambda: sf.total_norm([x, None]),
        lambda: sf.total_norm(x, 3.0),
    ]

    def call() -> None:
        sf.total_norm(both)
        sf.clip_grad_norm_(both, sf.total_norm(both, float("inf")) / 2)
        sf.clip_grad_value_(both, 1e-9)
        for wrong in calls:
            refused(TypeError, ValueError)(wrong)()

    return call


@family
def sgd_params() -> Call:
    params = _core.SgdParams(0.1, momentum=0.9)
    return lambda: pickle.loads(pickle.dumps(params)) == params


@family
def row_step() -> Call:
    table, values, m = (v.reshape(-1, 10) for v in vectors(3, 1000))
    rows = np.arange(100) % 7
    return lambda: sf.row_step(table, (rows, values), m, lr=0.1, momentum=0.9)


@family
def rows_that_step_late() -> Call:
    table, values, m = (v.reshape(-1, 10) for v in vectors(3, 1000))
    rows = np.arange(100) % 7

    def call() -> None:
        history = sf.RowHistory(100)
        for lr in (0.1, 0.2):
            sf.row_step(table, (rows, values), m, lr=lr, momentum=0.9, history=history)
            history.catch_up(table, m, rows)
        refused(ValueError)(lambda: history.catch_up(table))
        history.catch_up(table, m)

    return call


@family
def chosen_elements() -> Call:
    w, g, _ = vectors(3)
    indices = np.arange(0, 100, 7)
    m = np.zeros(len(indices), np.float32)

    def call() -> None:
        sf.support_step(w, g, indices, m, lr=0.1, momentum=0.9)
        delta = sf.unflatten_delta(sf.flatten_delta({"w": (indices, w[indices])}))
        sf.revert_delta_({"w": w}, sf.apply_delta_({"w": w}, delta))

    return call


@family
def huge_pages() -> Call:
    w, _, _ = vectors(3)
    return lambda: sf.use_huge_pages(w)


@family
def row_step_refused() -> Call:
    table, values = (v.reshape(-1, 10) for v in vectors(2, 1000))
    outside = refused(ValueError)(lambda: sf.row_step(table, (np.full(100, 100), values), lr=0.1))
    strided = refused(ValueError)(
        lambda: sf.row_step(table[:, ::2], (np.arange(2), values[:2, :5]), lr=0.1)
    )
    dense = refused(TypeError, ValueError)(lambda: sf.row_step(table, values, lr=0.1))
    return lambda: (outside(), strided(), dense())


@family
def threshold_step() -> Call:
    w, g, v, m = vectors(4)
    selectors = [sf.Absolute(1.0), sf.Exact(k=9), sf.Sampled(0.1), sf.Reused(0.1)]

    def call() -> None:
        for selector in selectors:
            result = sf.threshold_step(
                w, g, v, m, lr=0.1, momentum=0.9, selector=selector, emit="int64", measure=True
            )
            assert result.selections is not None

    return call


@family
def threshold_result() -> Call:
    w, g, v = vectors(3, 100)
    result = sf.threshold_step(w, g, v, lr=0.1, density=0.1, emit="int32", measure=True)
    assert isinstance(result, sf.ThresholdResult)
    return lambda: (repr(pickle.loads(pickle.dumps(result))), copy.copy(result).energies)


@family
def threshold_step_refused() -> Call:
    w, g, v = vectors(3, 100)
    calls = [
        lambda: sf.threshold_step(w, g, w, lr=0.1, density=0.1),
        lambda: sf.threshold_step(w, g, v, lr=0.1, density=2.0),
        lambda: sf.threshold_step(w, g, v.astype(np.float64), lr=0.1, density=0.1),
        lambda: sf.threshold_step([w], [g], [v, v], lr=0.1, density=0.1),
        lambda: sf.threshold_step(w, g, v, lr=0.1, density=0.1, emit="float32"),
    ]
    return lambda: [refused(TypeError, ValueError)(call)() for call in calls]


@family
def select() -> Call:
    x, y = vectors(2)
    return lambda: (
        sf.select([x, y], density=0.01, scope="global", index_dtype="int32"),
        sf.select(x[::2], k=5),
        sf.select(y, threshold=2.0),
        sf.kth_magnitude([x, y], 7),
        pickle.loads(pickle.dumps(sf.Selection(*sf.select(y, k=3)))),
    )


@family
def select_refused() -> Call:
    (x,) = vectors(1, 100)
    both = [x, x.astype(np.float64)]
    calls = [
        lambda: sf.select(x, k=101),
        lambda: sf.select(both, k=1, scope="global"),
        lambda: sf.select(x),
        lambda: sf.select([x, None], k=1),
        lambda: sf.kth_magnitude(x, 0),
    ]
    return lambda: [refused(TypeError, ValueError)(call)() for call in calls]


@family
def sparsify() -> Call:
    x, y = vectors(2)
    rows = y.reshape(-1, 10)
    mask = x > 0

    def call() -> None:
        sf.soft_threshold_([x, y], 1e-9)
        sf.elastic_net_(x, 1e-9, 1e-9)
        sf.group_soft_threshold_(rows[:, ::2], 1e-9)
        sf.hard_threshold_([x, y], density=0.9, scope="global")
        sf.n_m_(x, 2, 4)
        sf.apply_mask_(x, mask)

    return call


@family
def sparsify_refused() -> Call:
    (x,) = vectors(1, 100)
    calls = [
        lambda: sf.soft_threshold_([x, x], 1.0),
        lambda: sf.elastic_net_(x, float("nan"), 0.0),
        lambda: sf.group_soft_threshold_(None, 1.0),
        lambda: sf.hard_threshold_(x, k=101),
        lambda: sf.n_m_(x, 2, 3),
        lambda: sf.apply_mask_(x, x),
    ]
    return lambda: [refused(TypeError, ValueError)(call)() for call in calls]


@family
def masks() -> Call:
    x, m = vectors(2, 100)

    def call() -> None:
        mask = sf.Mask([x])
        mask.apply([m])
        mask.record()
        mask.load_state_dict(mask.state_dict())
        refused(TypeError, ValueError)(lambda: sf.Mask([x], [m]))()
        assert mask.density <= 1.0

    return call
