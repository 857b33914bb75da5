"""Steps, selections and batches of torch's CPU tensors, and the optimizers."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np

import subgrad_fast as sf
from subgrad_fast import _core
from tests.leaks.families import Call, Families, N, refused

family = Families()


def tensors(count: int, n: int = N) -> list[Any]:
    import torch

    return [torch.randn(n) for _ in range(count)]


def parameters(count: int, n: int = N) -> list[Any]:
    import torch

    made = [torch.nn.Parameter(tensor) for tensor in tensors(count, n)]
    for parameter in made:
        parameter.grad = torch.randn(n)
    return made


@family
def steps() -> Call:
    w, g, m, v = tensors(4)
    h = w.bfloat16()
    step = sf.FusedSGD([w], lr=0.1, momentum=0.9)
    return lambda: (
        sf.sgd_step([w, h], [g, g], [m, h.clone()], lr=0.1, momentum=0.9),
        step([g]),
        sf.threshold_step(w, g, v, lr=0.1, density=0.01, emit="int64").selections,
        sf.soft_threshold_(w, 1e-9),
    )


@family
def steps_before_the_exchange_table() -> Call:
    w, g = tensors(2)

    def call() -> None:
        on = _core.testing.use_exchange_api(False)
        try:
            sf.sgd_step(w, g, lr=0.1)
            refused(TypeError)(lambda: sf.sgd_step(w, g.int(), lr=0.1))()
        finally:
            _core.testing.use_exchange_api(on)

    return call


@family
def steps_refused() -> Call:
    import torch

    w, g = tensors(2)
    calls = [
        lambda: sf.sgd_step(w, g.to_sparse(), lr=0.1),
        lambda: sf.sgd_step(w, torch.empty(N, device="meta"), lr=0.1),
        lambda: sf.sgd_step(torch.empty(1).expand(N), g, lr=0.1),
        lambda: sf.sgd_step(w, torch.zeros(N, dtype=torch.complex64).conj().imag, lr=0.1),
    ]
    return lambda: [refused(TypeError, ValueError)(call)() for call in calls]


@family
def selections() -> Call:
    import torch

    (x,) = tensors(1)
    rows = torch.tensor([[3, 1, 3]])
    table, values = torch.zeros(10, 4), torch.ones(3, 4)
    gradient = torch.sparse_coo_tensor(rows, values, (10, 4), check_invariants=False)
    return lambda: (
        sf.select(x, k=5),
        sf.kth_magnitude(x, 5),
        sf.row_step(table, gradient, lr=0.1),
        sf.Mask([x]).density,
    )


@family
def optimizer() -> Call:
    from subgrad_fast.optim import SGD

    optimizer = SGD(parameters(3), lr=0.1, momentum=0.9)
    return optimizer.step


@family
def optimizer_made_and_dropped() -> Call:
    from subgrad_fast.optim import SGD

    params = parameters(3, 100)

    def call() -> None:
        optimizer = SGD(params, lr=0.1, momentum=0.9, weight_decay=0.01)
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
        optimizer.param_groups[0]["nesterov"] = True  # a new plan
        optimizer.step()
        pickle.loads(pickle.dumps(optimizer))
        optimizer.param_groups[0]["momentum"] = "text"
        refused(TypeError, ValueError)(optimizer.step)()

    return call


@family
def clipping() -> Call:
    import torch

    from subgrad_fast import optim

    params = parameters(3)
    total = torch.tensor(1e9)
    freed = parameters(1)
    freed[0].grad.untyped_storage().resize_(0)

    def call() -> None:
        optim.clip_grad_norm_(iter(params), 1e9)
        optim.clip_grad_norm_(params, optim.get_total_norm([p.grad for p in params]).item() / 2)
        optim.clip_grads_with_norm_(params, 1.0, total)
        optim.clip_grad_value_(params, 1e-3)
        optim.clip_grad_norm_([params[0], params[0]], 1e-9)  # torch's code
        refused(ValueError)(lambda: optim.clip_grad_norm_(freed, 1.0))()

    return call


@family
def threshold_optimizer() -> Call:
    from subgrad_fast.optim import ThresholdSGD

    optimizer = ThresholdSGD(parameters(2), lr=0.1, momentum=0.9, density=0.01)
    return lambda: (optimizer.step(), optimizer.last_result.kept)


@family
def threshold_optimizer_made_and_dropped() -> Call:
    from subgrad_fast.optim import ThresholdSGD

    params = parameters(2, 100)

    def call() -> None:
        optimizer = ThresholdSGD(params, lr=0.1, selector="reused", density=0.1)
        optimizer.step()
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        optimizer.step()
        refused(ValueError)(lambda: ThresholdSGD(params, lr=0.1, density=2.0))()

    return call


@family
def own_buffers() -> Call:
    import torch

    (x,) = tensors(1)
    return lambda: torch.from_dlpack(_core.optimizer.new_buffer(x, False)).sum()


@family
def batches() -> Call:
    import torch

    x, y = torch.zeros(200, 8), np.arange(200)
    sampler = sf.BatchSampler(200, 16)

    def call() -> None:
        loader = sf.BatchLoader((x, y), sampler, prefetch=3)
        left = iter(loader)
        next(left)
        next(left)[0].requires_grad_()
        next(left)

    return call


@family
def sparse_states() -> Call:
    import torch

    from subgrad_fast.distributed import SparseState

    model = torch.nn.Linear(3, 2)
    none = refused(ValueError)(lambda: SparseState(model))

    def call() -> None:
        state = pickle.loads(pickle.dumps(SparseState(model, density=0.1)))
        state.bind(model)
        none()

    return call
