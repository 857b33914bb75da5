"""The step as an operator, in functions that torch.compile compiles."""

# ruff: noqa: E402
from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch import Tensor

import subgrad_fast as sf
from subgrad_fast.optim import sgd_step_
from tests.optim.torch_twins import assert_same

pytestmark = pytest.mark.torch

TERMS: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "max_norm": 1.0}


def lists() -> list[list[Tensor]]:
    torch.manual_seed(0)
    return [[torch.randn(5), torch.randn(3, 4)] for _ in range(3)]


def test_the_operator_is_the_function() -> None:
    got, want = lists(), lists()
    torch.ops.subgrad_fast.sgd_step_(*got, **TERMS, first_step=True)
    sf.sgd_step(*want, **TERMS, first_step=True)
    assert_same(got, want)
    sgd_step_(got[0], got[1], [], 0.1)
    sf.sgd_step(want[0], want[1], lr=0.1)
    assert_same(got, want)


def test_the_operator_says_what_it_writes() -> None:
    torch.library.opcheck(sgd_step_, (*lists(), 0.1, 0.9), test_utils="test_schema")
    torch.library.opcheck(sgd_step_, (*lists(), 0.1, 0.9), test_utils="test_faketensor")
    schema = str(torch.ops.subgrad_fast.sgd_step_.default._schema)
    assert schema.count("!") == 2


def test_the_operator_in_a_compiled_function() -> None:
    def step(params: list[Tensor], grads: list[Tensor], momenta: list[Tensor]) -> Tensor:
        scaled = [g * 2 for g in grads]
        torch.ops.subgrad_fast.sgd_step_(params, scaled, momenta, 0.1, 0.9)
        return params[0].sum() + 1

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    got, want = lists(), lists()
    for _ in range(2):
        assert torch.equal(compiled(*got), step(*want))
    assert_same(got, want)
