"""As `test_wrong_arguments`: of optimizers, clipping, loaders and hooks."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import subgrad_fast as sf  # noqa: E402
from subgrad_fast import data, distributed, optim  # noqa: E402
from tests.border.public_calls import Call, kind_of  # noqa: E402
from tests.border.public_calls_torch import (  # noqa: E402
    calls,
    parameter,
    sgd,
    support_sgd,
    threshold_sgd,
)
from tests.border.wrong_arguments import (  # noqa: E402
    attempt,
    in_bindings_words,
    unnamed,
)

CALLS = calls()
# Whose arguments are torch's, and torch's code looks at them.
TORCHS = {"DataLoader"}
# What torch calls, or what others are made for.
NOT_CALLED = {"sparse_hook", "sgd_step_", "BatchSampler", "KeptMemory"}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_right_arguments_are_taken(call: Call) -> None:
    assert attempt(call, **call.arguments()) is None


@pytest.mark.parametrize("call", [c for c in CALLS if c.name not in TORCHS], ids=str)
def test_a_wrong_type_is_a_type_error_that_begins_with_the_name(call: Call) -> None:
    assert unnamed(call) == []


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_no_words_of_the_bindings_reach_a_user(call: Call) -> None:
    assert in_bindings_words(call) == []


def test_all_that_is_public_is_tried() -> None:
    tried = {call.name for call in CALLS}
    for module in (optim, data, distributed):
        assert set(module.__all__) - NOT_CALLED <= tried


@pytest.mark.parametrize("value", [torch.ones(3), torch.ones(3, 1), torch.ones(3).to_sparse()])
@pytest.mark.parametrize("name", ["lr", "momentum", "max_norm", "ema_decay", "grad_scale"])
def test_tensors_that_are_no_numbers(name: str, value: Any) -> None:
    w = np.ones(3, np.float32)
    terms = {"lr": 0.1, "ema_decay": 0.5, name: value}
    with pytest.raises(TypeError, match=rf"^{name}: expected a number, got Tensor"):
        sf.sgd_step(w, w.copy(), w.copy(), **terms, ema=w.copy())


@pytest.mark.parametrize("value", [torch.tensor(0.5), torch.tensor([0.5]), torch.tensor(1)])
def test_tensors_that_are_numbers(value: Any) -> None:
    w = np.ones(3, np.float32)
    sf.sgd_step(w, np.ones(3, np.float32), lr=value)
    assert (w == 1 - value.item()).all()


@pytest.mark.parametrize("cls", [optim.SGD, optim.ThresholdSGD, optim.SupportSGD])
@pytest.mark.parametrize(
    "name", ["lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize"]
)
def test_terms_of_groups_are_looked_at(cls: Any, name: str) -> None:
    own = {} if cls is optim.SGD else {"density": 0.5}
    wrong = "no" if kind_of(name) == "flag" else "0.1"
    group = {"params": [parameter()], name: wrong}
    with pytest.raises(TypeError, match=rf"^{name}: expected "):
        cls([group], lr=0.1, **own)
    made = cls([parameter()], lr=0.1, **own)
    with pytest.raises(TypeError, match=rf"^{name}: expected "):
        made.add_param_group(group)
    assert len(made.param_groups) == 1


@pytest.mark.parametrize("make", [sgd, threshold_sgd, support_sgd])
def test_an_empty_state_says_what_is_missing(make: Any) -> None:
    made = make()
    before = repr(made.state_dict())
    with pytest.raises(ValueError, match=r"^state_dict: state, param_groups missing"):
        made.load_state_dict({})
    with pytest.raises(ValueError, match=r"^state_dict: state missing"):
        made.load_state_dict({"param_groups": made.state_dict()["param_groups"]})
    with pytest.raises(TypeError, match=r"^state_dict: expected a dict, got list"):
        made.load_state_dict([])
    assert repr(made.state_dict()) == before


def test_other_empty_states() -> None:
    state = distributed.SparseState(torch.nn.Linear(2, 2), density=0.5)
    names = "version, rank, world_size, step, residuals"
    with pytest.raises(ValueError, match=rf"^state_dict: {names} missing"):
        state.load_state_dict({})
    with pytest.raises(ValueError, match=r"^state_dicts\[0\]: rank, world_size, step, residuals"):
        distributed.mean_state([{}])
    loader = data.DataLoader(torch.utils.data.TensorDataset(torch.arange(9)), 2)
    with pytest.raises(ValueError, match=r"^state: batch_size, batches, random, sampler, version"):
        loader.load_state_dict({})
    model = torch.nn.Linear(2, 2)
    averaging = optim.SGD(model.parameters(), lr=0.1, ema_decay=0.5)
    with pytest.raises(ValueError, match=r"^state: weight, bias missing"):
        averaging.load_ema_state_dict(model, {})


def test_the_faces_of_torch_are_attributes() -> None:
    assert sf.optim is optim
    assert sf.data is data
    assert sf.distributed is distributed
    assert {"optim", "data", "distributed"} <= set(dir(sf))
    assert not inspect.ismodule(getattr(sf, "no_such_face", None))
