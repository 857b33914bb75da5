"""As `public_calls`: what needs torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import Linear, Parameter

import subgrad_fast as sf
from subgrad_fast import data, distributed, optim
from subgrad_fast.sampling import Sampler
from tests.border.public_calls import Call


def parameter() -> Parameter:
    p = Parameter(torch.ones(4))
    p.grad = torch.ones(4)
    return p


def sgd() -> optim.SGD:
    made = optim.SGD([parameter()], lr=0.1, momentum=0.9)
    made.step()
    return made


def threshold_sgd() -> optim.ThresholdSGD:
    made = optim.ThresholdSGD([parameter()], lr=0.1, momentum=0.9, density=0.5)
    made.step()
    return made


def support_sgd() -> optim.SupportSGD:
    made = optim.SupportSGD([parameter()], lr=0.1, momentum=0.9, density=0.5, calibrate=1)
    made.step()
    return made


def dataset() -> torch.utils.data.TensorDataset:
    return torch.utils.data.TensorDataset(torch.arange(9))


def sampler() -> Sampler:
    return sf.BatchSampler(9, 2)


def kept_and_released(*, reserve: int) -> None:
    """Other tests are to have the allocator that they know."""
    optim.keep_memory(reserve=reserve).release()


_TERMS = {
    "lr": 0.1,
    "momentum": 0.9,
    "dampening": 0.0,
    "weight_decay": 0.1,
    "nesterov": False,
    "maximize": False,
}
_CLIP = {
    "max_norm": 1.0,
    "max_norm_scope": "global",
    "clip_value": 1.0,
    "skip_nonfinite": False,
    "measure_norm": False,
}


def _group() -> dict[str, Any]:
    return {"param_group": {"params": [parameter()], **_TERMS}}


def _averaged() -> tuple[optim.SGD, Linear]:
    model = Linear(2, 2)
    made = optim.SGD(model.parameters(), lr=0.1, ema_decay=0.5)
    model(torch.ones(1, 2)).sum().backward()
    made.step()
    return made, model


_TABLE = torch.nn.Parameter(torch.zeros(4, 2))


def _late() -> optim.SGD:
    made = optim.SGD([_TABLE], lr=0.1, momentum=0.9, sparse_rows="dense")
    _TABLE.grad = torch.ones(4, 2).to_sparse(1)
    made.step()
    return made


CALLS = [
    Call("SGD", lambda: optim.SGD,
         lambda: {"params": [parameter()], **_TERMS, "differentiable": False, "foreach": None,
                  "fused": None, "l1": 0.1, **_CLIP, "ema_decay": 0.5,
                  "sparse_rows": "lazy", "check_reads": True}),
    Call("SGD.materialize", lambda: sgd().materialize, dict),
    Call("SGD.catch_up", lambda: _late().catch_up,
         lambda: {"param": _TABLE, "rows": torch.tensor([1])}),
    Call("ThresholdSGD", lambda: optim.ThresholdSGD,
         lambda: {"params": [parameter()], **_TERMS, "decoupled_weight_decay": False,
                  "density": 0.5, "selector": "exact", "scope": "tensor", "error_feedback": True,
                  "momentum_correction": True, "momentum_masking": True, "warmup": 3,
                  "warmup_steps": 1, "emit": None, "measure": False, **_CLIP}),
    Call("SupportSGD", lambda: optim.SupportSGD,
         lambda: {"params": [parameter()], **_TERMS, "decoupled_weight_decay": False, "l1": 0.1,
                  "density": 0.5, "score": "fisher", "scope": "tensor", "calibrate": 3, **_CLIP}),
    Call("SupportSGD.add_param_group", lambda: support_sgd().add_param_group, _group),
    Call("SupportSGD.load_state_dict", lambda: support_sgd().load_state_dict,
         lambda: {"state_dict": support_sgd().state_dict()}),
    Call("SupportSGD.step", lambda: support_sgd().step, lambda: {"closure": None}),
    Call("SupportSGD.delta", lambda: support_sgd().delta, lambda: {"model": Linear(2, 2)}),
    Call("SGD.add_param_group", lambda: sgd().add_param_group, _group),
    Call("SGD.load_state_dict", lambda: sgd().load_state_dict,
         lambda: {"state_dict": sgd().state_dict()}),
    Call("SGD.state_dict", lambda: sgd().state_dict, dict),
    Call("SGD.step", lambda: sgd().step, lambda: {"closure": None}),
    Call("SGD.zero_grad", lambda: sgd().zero_grad, lambda: {"set_to_none": True}),
    Call("SGD.averaged", lambda: sgd().averaged, dict),
    Call("ThresholdSGD.add_param_group", lambda: threshold_sgd().add_param_group, _group),
    Call("ThresholdSGD.load_state_dict", lambda: threshold_sgd().load_state_dict,
         lambda: {"state_dict": threshold_sgd().state_dict()}),
    Call("ThresholdSGD.step", lambda: threshold_sgd().step, lambda: {"closure": None}),
    Call("clip_grad_norm_", lambda: optim.clip_grad_norm_,
         lambda: {"parameters": [parameter()], "max_norm": 1.0, "norm_type": 2.0,
                  "error_if_nonfinite": False, "foreach": None}),
    Call("get_total_norm", lambda: optim.get_total_norm,
         lambda: {"tensors": [torch.ones(4)], "norm_type": 2.0, "error_if_nonfinite": False,
                  "foreach": None}),
    Call("clip_grads_with_norm_", lambda: optim.clip_grads_with_norm_,
         lambda: {"parameters": [parameter()], "max_norm": 1.0, "total_norm": torch.tensor(3.0),
                  "foreach": None}),
    Call("clip_grad_value_", lambda: optim.clip_grad_value_,
         lambda: {"parameters": [parameter()], "clip_value": 1.0, "foreach": None}),
    Call("keep_memory", lambda: kept_and_released, lambda: {"reserve": 0}),
    Call("DataLoader", lambda: data.DataLoader,
         lambda: {"dataset": dataset(), "batch_size": 2, "shuffle": True, "drop_last": False}),
    Call("DataLoader.load_state_dict", lambda: data.DataLoader(dataset(), 2).load_state_dict,
         lambda: {"state": data.DataLoader(dataset(), 2).state_dict()}),
    Call("RowSampler", lambda: data.RowSampler, lambda: {"source": sampler()}),
    Call("RowSampler.set_epoch", lambda: data.RowSampler(sampler()).set_epoch,
         lambda: {"epoch": 1}),
    Call("RowSampler.load_state_dict", lambda: data.RowSampler(sampler()).load_state_dict,
         lambda: {"state": sampler().state_dict()}),
    Call("Sampler.as_torch", lambda: sampler().as_torch, lambda: {"tail": None}),
    Call("SparseState", lambda: distributed.SparseState,
         lambda: {"model": Linear(2, 2), "density": 0.5, "scope": "tensor",
                  "error_feedback": True, "wire_dtype": None, "start_step": 0,
                  "process_group": None}),
    Call("SparseState.bind", lambda: distributed.SparseState(Linear(2, 2), density=0.5).bind,
         lambda: {"model": Linear(2, 2)}),
    Call("mean_state", lambda: distributed.mean_state,
         lambda: {"state_dicts": [{"version": 1, "rank": 0, "world_size": 1, "step": 0,
                                   "residuals": {}}]}),
]  # fmt: skip


def calls() -> list[Call]:
    """All that need torch."""
    return CALLS


def tensors() -> dict[str, Any]:
    """What is no number, and no array of NumPy's either."""
    return {
        "tensor of three": torch.ones(3),
        "sparse": torch.ones(3).to_sparse(),
        "text": np.array("0.1"),
    }
