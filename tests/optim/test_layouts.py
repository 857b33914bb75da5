"""optim.SGD over every layout and dtype: negated, strided and expanded tensors, 16-bit ones."""

# ruff: noqa: E402
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch.nn import Parameter

from subgrad_fast.optim import SGD
from tests.bits import assert_same_bits
from tests.cases import RULE
from tests.optim.torch_twins import (
    TorchSteps,
    assert_same,
    assert_twins,
    parameters,
    strided,
    to_numpy,
    train,
)
from tests.oracles.dense import sgd

pytestmark = pytest.mark.torch


# --- negated and conjugated gradients -----------------------------------------------------------


def imaginary(shape: Any) -> Any:
    z = torch.randn(shape, dtype=torch.complex64)
    assert z.conj().imag.is_neg()
    return z.conj().imag


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (40,), (3, 5)], ids=str)
def test_negated_gradients(shape: tuple[int, ...]) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters(shape)
        optimizer = cls(params, **RULE)
        train(optimizer, params, 2)
        params[0].grad = imaginary(shape)
        optimizer.step()
        yield optimizer

    assert_twins(scenario, routed=True)


def test_negated_gradients_laid_out_as_their_parameter() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = [Parameter(torch.zeros(40, dtype=torch.complex64).imag)]
        optimizer = cls(params, lr=0.1)
        params[0].grad = imaginary(40)
        optimizer.step()
        yield params

    assert_twins(scenario, routed=None)


def test_negated_parameters() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = [Parameter(imaginary((40,))), *parameters((3,))]
        optimizer = cls(params, **RULE)
        train(optimizer, params)
        yield params

    assert_twins(scenario, routed=True)


def test_real_and_imaginary_parts_as_parameters() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        z = torch.randn(40, dtype=torch.complex64)
        params = [Parameter(z.real), Parameter(z.imag)]
        optimizer = cls(params, **RULE)
        train(optimizer, params)
        yield optimizer, z

    assert_twins(scenario)


# --- strides ------------------------------------------------------------------------------------


LAYOUTS = ["contiguous", "channels last", "transposed", "sliced", "part"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("grad_layout", [*LAYOUTS, "expanded", "all expanded"])
@pytest.mark.parametrize("param_layout", LAYOUTS)
def test_layouts_of_parameters_and_gradients(
    param_layout: str, grad_layout: str, dtype: Any
) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        for shape in ((4, 3, 5, 7), (1, 3, 1, 5), (2, 1, 1, 1)):
            p = Parameter(strided(param_layout, shape, dtype))
            optimizer = cls([p], **RULE, nesterov=True)
            for layout in (grad_layout, grad_layout, "contiguous", grad_layout):
                p.grad = strided(layout, shape, dtype)
                optimizer.step()
                yield optimizer

    assert_twins(scenario)


def test_what_lies_between_a_sliced_parameter_is_left_alone() -> None:
    memory = torch.full((40, 6), 3.0)
    p = Parameter(memory[::2, 1:5])
    optimizer = SGD([p], **RULE)
    train(optimizer, [p])
    untouched = torch.ones(40, 6, dtype=torch.bool)
    untouched[::2, 1:5] = False
    assert (memory[untouched] == 3).all()
    assert (memory[~untouched] != 3).all()


# --- 16-bit parameters, gradients of another dtype ----------------------------------------------

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# float64 gradients of narrower parameters are torch's.
PAIRS = [
    (param, grad)
    for param in DTYPES
    for grad in DTYPES
    if param == grad or (grad != torch.float64 and hasattr(torch.Tensor, "grad_dtype"))
]


@pytest.mark.parametrize(
    "kwargs", [{"lr": 0.1}, RULE, RULE | {"nesterov": True, "maximize": True}], ids=str
)
@pytest.mark.parametrize(("param", "grad"), PAIRS, ids=str)
def test_every_pair_of_dtypes(param: Any, grad: Any, kwargs: dict[str, Any]) -> None:
    """Computed in float32 or float64 and rounded once; momentum in the parameter's dtype."""
    torch.manual_seed(0)
    p = Parameter(torch.randn(77).to(param))
    if param != grad:
        p.grad_dtype = grad
    optimizer = SGD([p], **kwargs)
    w, m = to_numpy(p), None
    for i in range(4):
        p.grad = torch.randn(77).to(grad)
        if m is None and "momentum" in kwargs:
            m = to_numpy(p)
        w, m = sgd(w, to_numpy(p.grad), m, **kwargs, first_step=i == 0)
        with TorchSteps() as steps:
            optimizer.step()
        assert not steps.params
        assert_same_bits(to_numpy(p), w, f"parameter, step {i}")
        if m is not None:
            assert_same_bits(
                to_numpy(optimizer.state[p]["momentum_buffer"]), m, f"momentum, step {i}"
            )


@pytest.mark.skipif(not hasattr(torch.Tensor, "grad_dtype"), reason="needs Tensor.grad_dtype")
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("grad", DTYPES, ids=str)
@pytest.mark.parametrize("param", [torch.float32, torch.float64], ids=str)
def test_gradients_of_another_dtype_give_torchs_bits(
    param: Any, grad: Any, weight_decay: float
) -> None:
    """Once the buffer has the parameter's dtype, as it has after torch loaded a checkpoint."""

    def scenario(cls: type) -> Iterator[Any]:
        p = Parameter(torch.randn(77, dtype=param))
        p.grad_dtype = grad
        optimizer = cls([p], **RULE | {"weight_decay": weight_decay})
        for _ in range(4):
            p.grad = torch.randn(77).to(grad)
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
            yield p, optimizer.state[p]["momentum_buffer"]

    assert_twins(scenario, routed=(param, grad) == (torch.float32, torch.float64))


def test_a_float32_buffer_for_16_bit_parameters_is_kept() -> None:
    p = Parameter(torch.ones(9, dtype=torch.bfloat16))
    optimizer = SGD([p], lr=0.1, momentum=0.9)
    buffer = optimizer.state[p]["momentum_buffer"] = torch.full((9,), 1 / 3)
    p.grad = torch.zeros_like(p)
    with TorchSteps() as steps:
        optimizer.step()
    assert not steps.params
    assert optimizer.state[p]["momentum_buffer"] is buffer
    assert_same(buffer, torch.full((9,), 1 / 3) * 0.9)
