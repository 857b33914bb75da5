"""BatchLoader on tensors: what goes in comes out, and is the caller's."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast import _core
from tests.loading.orders import N, Order, StatefulOrder, numbers

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "uint8", "bool", "complex64"]
DTYPES += ["complex128", "float8_e4m3fn", "int16"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_of_every_dtype(dtype: str, way: str) -> None:
    x = torch.arange(N * 3).reshape(N, 3).to(torch.float32).to(getattr(torch, dtype))
    y = torch.arange(N)
    for (a, b), indices in zip(sf.BatchLoader((x, y), Order()), Order(), strict=True):
        assert type(a) is torch.Tensor
        assert a.dtype == x.dtype
        assert torch.equal(a.view(torch.uint8), x[indices].view(torch.uint8))
        assert torch.equal(b, y[indices])


def test_mixed_containers_and_layouts(way: str) -> None:
    x = torch.randn(6, N, 4)
    arrays = {
        "numpy": numbers((N, 2), "i4"),
        "columns": torch.randn(N, 8)[:, ::2],
        "transposed": x.transpose(0, 1),
        "bfloat16": torch.randn(3, N).bfloat16().t(),
        "expanded": torch.randn(4).expand(N, 4),
        "parameter": torch.nn.Parameter(torch.randn(N, 2)),
    }
    for batch, indices in zip(sf.BatchLoader(arrays, Order()), Order(), strict=True):
        assert list(batch) == list(arrays)
        assert type(batch["numpy"]) is np.ndarray
        for name, source in arrays.items():
            got, expected = batch[name], source[indices]
            assert (got == expected).all()
            assert not getattr(got, "requires_grad", False)


def test_torch_samplers(way: str) -> None:
    x = torch.arange(N)
    sampler = torch.utils.data.BatchSampler(torch.utils.data.RandomSampler(x), 64, drop_last=False)
    made = sf.BatchLoader(x, sampler)
    batches = list(sf.BatchLoader(x, sampler))
    assert len(made) == len(batches) == 16
    assert torch.equal(torch.cat(batches).sort().values, x)
    by_tensor = sf.BatchLoader(x, [torch.tensor([3, 1]), torch.tensor([2, 2])])
    assert [b.tolist() for b in by_tensor] == [[3, 1], [2, 2]]


def test_autograd_may_keep_batches(way: str) -> None:
    w = torch.ones(3, requires_grad=True)
    x = torch.randn(N, 3)
    losses = [(batch * w).sum() for batch in sf.BatchLoader(x, Order())]
    torch.stack(losses).sum().backward()
    torch.testing.assert_close(w.grad, x.sum(0))


@pytest.mark.parametrize("exchange", [True, False])
def test_batches_are_the_callers(exchange: bool, way: str) -> None:
    x, y = torch.randn(N, 3).bfloat16(), torch.arange(N)
    before = _core.testing.use_exchange_api(exchange)
    try:
        batches = list(sf.BatchLoader((x, y), Order()))
    finally:
        _core.testing.use_exchange_api(before)
    assert torch.equal(torch.cat([b for _, b in batches]).sort().values, y)
    for (a, b), indices in zip(batches, Order(), strict=True):
        assert torch.equal(a, x[indices])
        assert b.is_leaf and not b.requires_grad and not b.is_inference()
    rows = [a[0, 1:].clone() for a, _ in batches]
    views = [a[0, 1:] for a, _ in batches]  # a view keeps its batch
    del a, b, batches
    list(sf.BatchLoader((x, y), Order()))
    assert all(torch.equal(view, row) for view, row in zip(views, rows, strict=True))


def test_a_batch_goes_to_another_process(way: str) -> None:
    x = torch.arange(N)
    batch = next(iter(sf.BatchLoader(x, Order())))
    expected = batch.clone()
    assert torch.equal(pickle.loads(pickle.dumps(batch)), expected)
    batch.share_memory_()
    assert batch.is_shared()
    assert torch.equal(batch, expected)
    assert torch.equal(batch.requires_grad_() if batch.is_floating_point() else batch, expected)


def test_a_batch_may_require_a_gradient(way: str) -> None:
    made = sf.BatchLoader((torch.randn(N, 3),), Order())
    for (batch,) in made:
        assert not batch.requires_grad
        assert batch.grad is None
        batch.requires_grad_()
        (2 * batch).sum().backward()
        assert (batch.grad == 2).all()


def test_batches_made_in_inference_mode_can_be_trained_on(way: str) -> None:
    made = sf.BatchLoader(torch.randn(N, 3), Order())
    with torch.inference_mode():
        list(made)
    w = torch.ones(3, requires_grad=True)
    for batch in made:
        (batch * w).sum().backward()


def test_the_data_keeps_its_memory(way: str) -> None:
    x = torch.randn(N, 3)
    y = x.clone()
    made = sf.BatchLoader(x, Order())
    with pytest.raises(RuntimeError, match="not resizable"):
        x.resize_(5 * N, 3)
    x.data = torch.empty(0)  # another storage; the loader has the old one
    for batch, indices in zip(made, Order(), strict=True):
        assert torch.equal(batch, y[indices])


def bad_tensors() -> list[tuple[Any, type[Exception], str]]:
    return [
        (torch.zeros(3, device="meta"), ValueError, "expected CPU memory, got a tensor on meta"),
        (torch.eye(3).to_sparse(), TypeError, "expected a dense tensor, got torch.sparse_coo"),
        (torch.zeros(3, dtype=torch.complex64).conj(), ValueError, "conjugated or negated view"),
        (torch._neg_view(torch.ones(3)), ValueError, "conjugated or negated view"),
        (torch.tensor(1.0), ValueError, "at least one dimension"),
        (torch.zeros(2), ValueError, r"has 2 rows, but arrays\[0\] has 3"),
    ]


@pytest.mark.parametrize("case", range(6))
def test_bad_tensors(case: int) -> None:
    tensor, error, message = bad_tensors()[case]
    with pytest.raises(error, match=rf"arrays\[1\]: .*{message}"):
        sf.BatchLoader((torch.zeros(3), tensor), [[0]])


def test_a_tensor_without_memory() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        fake = torch.zeros(3)
    with pytest.raises(TypeError, match="arrays: its memory cannot be reached"):
        sf.BatchLoader(fake, [[0]])


def test_pin() -> None:
    if not torch.accelerator.is_available():
        with pytest.raises(ValueError, match="pin: torch finds no accelerator"):
            sf.BatchLoader(torch.zeros(3), [[0]], pin=True)
        return
    x = torch.randn(N, 3)
    for batch, indices in zip(sf.BatchLoader(x, Order(), pin=True), Order(), strict=True):
        assert batch.is_pinned()
        assert torch.equal(batch, x[indices])


def test_the_state_can_be_saved_by_torch(tmp_path: Any) -> None:
    made = sf.BatchLoader(torch.arange(N), StatefulOrder())
    iterator = iter(made)
    next(iterator)
    torch.save(made.state_dict(), tmp_path / "state.pt")
    resumed = sf.BatchLoader(torch.arange(N), StatefulOrder())
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(next(iter(resumed)), next(iterator))
