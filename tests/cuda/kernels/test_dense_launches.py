"""The dense step's launcher without the bindings: rows, and numbers that lie on the device."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast._core import testing
from tests.bits import assert_same_bits
from tests.cases import special_arrays
from tests.cuda.fake_cuda import DENSE_OPTIONS, DENSE_ROW, DENSE_TENSOR, Api, structs
from tests.cuda.machines import Gpu

TYPES = testing.dense_types()
F32 = TYPES.index(("float32", "float32", "float32"))


def text(api: Api, error: int) -> str:
    return ctypes.string_at(api.error_text(error)).decode()


def row(gpu: Gpu, lr_on_device: Any = None, **hyper: Any) -> tuple[Any, ...]:
    """A CudaDenseRow."""
    made = np.zeros((), DENSE_ROW)
    for name in ("max_norm", "clip_value", "ema_decay"):
        made[f"params.{name}"] = np.inf  # not wanted
    for name, value in hyper.items():
        made[f"params.{name}"] = value
    if lr_on_device is not None:
        made["lr"] = gpu.address(lr_on_device)
    return made.item()


def step(
    api: Api, device: int, tensors: np.ndarray, rows: np.ndarray, options: np.ndarray | None
) -> int:
    where = 0 if options is None else options.ctypes.data
    return api.dense_step(device, 0, tensors.ctypes.data, len(tensors), rows.ctypes.data, where)


def launch(
    gpu: Gpu,
    api: Api,
    tensors: list[list[Any]],
    rows: list[tuple[Any, ...]],
    types: int = F32,
    **options: Any,
) -> None:
    """Steps (param, grad, momentum) tensors, the i-th with row i modulo their number."""
    listed = [
        (*(gpu.address(x) for x in t), gpu.numpy(t[0]).size, i % len(rows), types)
        for i, t in enumerate(tensors)
    ]
    where = np.zeros((), DENSE_OPTIONS) if options else None
    for name, x in options.items():
        where["clip.grad_scale"] = 1.0
        where[f"clip.{name}"] = gpu.address(x)
    error = step(api, 0, structs(DENSE_TENSOR, *listed), structs(DENSE_ROW, *rows), where)
    assert error == 0, text(api, error)


def operands(n: int, count: int = 1) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(n)
    return [special_arrays(["float32"] * 3, n, rng) for _ in range(count)]


@pytest.mark.parametrize("rows", [1, 2, 9, 70])
def test_every_tensor_has_its_row(gpu: Gpu, api: Api, rows: int) -> None:
    # More rows than fit into a small list, and more than fit into a large one.
    hyper = [{"lr": 0.1 + i, "momentum": 0.9, "weight_decay": 0.01 * i} for i in range(rows)]
    tensors = operands(70, 150)
    on = [[gpu.array(x) for x in t] for t in tensors]
    launch(gpu, api, on, [row(gpu, **h) for h in hyper])
    for i, (got, (w, g, m)) in enumerate(zip(on, tensors, strict=True)):
        sf.sgd_step(w, g, m, **hyper[i % rows])
        assert_same_bits(gpu.numpy(got[0]), w, f"param {i}")
        assert_same_bits(gpu.numpy(got[2]), m, f"momentum {i}")


@pytest.mark.parametrize("decoupled", [False, True])
def test_a_learning_rate_on_the_device(gpu: Gpu, api: Api, decoupled: bool) -> None:
    hyper = {"momentum": 0.9, "weight_decay": 0.1, "decoupled_weight_decay": decoupled, "l1": 0.5}
    lr = np.float32([0.037])
    [(w, g, m)] = operands(3000)
    on = [gpu.array(x) for x in (w, g, m)]
    launch(gpu, api, [on], [row(gpu, gpu.array(lr), lr=1e9, **hyper)])
    sf.sgd_step(w, g, m, lr=float(lr[0]), **hyper)
    assert_same_bits(gpu.numpy(on[0]), w)
    assert_same_bits(gpu.numpy(on[2]), m)


@pytest.mark.parametrize("found", [0.0, 1.0, np.nan])
def test_found_inf_leaves_everything_as_it_was(gpu: Gpu, api: Api, found: float) -> None:
    [(w, g, m)] = operands(3000)
    before = w.tobytes(), m.tobytes()
    on = [gpu.array(x) for x in (w, g, m)]
    flag = gpu.array(np.float32([found]))
    launch(gpu, api, [on], [row(gpu, lr=0.1, momentum=0.9)], found_inf=flag)
    if found == 0.0:
        sf.sgd_step(w, g, m, lr=0.1, momentum=0.9)
        assert_same_bits(gpu.numpy(on[0]), w)
    else:
        assert (gpu.numpy(on[0]).tobytes(), gpu.numpy(on[2]).tobytes()) == before


@pytest.mark.parametrize("scale", [65536.0, 3.0])
def test_gradients_are_unscaled(gpu: Gpu, api: Api, scale: float) -> None:
    [(w, g, m)] = operands(3000)
    on = [gpu.array(x) for x in (w, g, m)]
    row_ = row(gpu, lr=0.1, momentum=0.9, weight_decay=0.1)
    launch(gpu, api, [on], [row_], grad_scale_on_device=gpu.array(np.float32([scale])))
    with np.errstate(all="ignore"):
        unscaled = g * (np.float32(1) / np.float32(scale))  # as GradScaler.unscale_ does
    sf.sgd_step(w, unscaled, m, lr=0.1, momentum=0.9, weight_decay=0.1)
    assert_same_bits(gpu.numpy(on[0]), w)
    assert_same_bits(gpu.numpy(on[2]), m)
    assert_same_bits(gpu.numpy(on[1]), g, "the gradient stays scaled")


@pytest.mark.parametrize("types", range(len(TYPES)), ids=lambda i: "-".join(TYPES[i]))
def test_what_lies_on_the_device_in_every_type(gpu: Gpu, api: Api, types: int) -> None:
    rng = np.random.default_rng(types)
    w, g, m = special_arrays(TYPES[types], 70, rng)
    hyper = {"momentum": 0.9, "weight_decay": 0.1, "l1": 0.01}
    scale, lr = np.float32([3.0]), np.float32([0.037])
    on = [gpu.array(x) for x in (w, g, m)]
    found = gpu.array(np.float32([1.0]))
    rows = [row(gpu, gpu.array(lr), lr=1e9, **hyper)]
    options = {"types": types, "grad_scale_on_device": gpu.array(scale)}
    launch(gpu, api, [on], rows, **options, found_inf=found)
    assert_same_bits(gpu.numpy(on[0]), w, "found_inf")
    launch(gpu, api, [on], rows, **options)
    # Gradients are unscaled in the arithmetic's type, which is a gradient's type too.
    wide = np.float64 if w.dtype == np.float64 else np.float32
    with np.errstate(all="ignore"):
        unscaled = g.astype(wide) * (wide(1) / wide(scale[0]))
    sf.sgd_step(w, unscaled, m, lr=float(lr[0]), **hyper)
    assert_same_bits(gpu.numpy(on[0]), w, "param")
    assert_same_bits(gpu.numpy(on[2]), m, "momentum")


def test_errors_come_back(gpu: Gpu, api: Api) -> None:
    on = [gpu.array(x) for x in operands(5)[0]]
    tensors = structs(DENSE_TENSOR, (*(gpu.address(x) for x in on), 5, 0, F32))
    rows = structs(DENSE_ROW, row(gpu, lr=0.1))
    error = step(api, 99, tensors, rows, None)
    assert error != 0 and "invalid" in text(api, error).lower()
