"""torch tensors through both doors: steps, what is refused, version counters."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.oracles.dense import sgd


@pytest.fixture(params=["exchange", "attributes"])
def door(request: pytest.FixtureRequest):
    """Both ways to a tensor: torch >= 2.10's exchange table, and what older versions offer."""
    pytest.importorskip("torch")
    from subgrad_fast import _core

    old = _core.testing.use_exchange_api(request.param == "exchange")
    yield request.param
    _core.testing.use_exchange_api(old)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_torch_tensors(door: str, dtype: str) -> None:
    import torch

    from subgrad_fast import _core

    w = torch.randn(5, 7).to(getattr(torch, dtype))
    if hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
        assert _core.testing.array_source(w) == (
            "DLPack exchange API" if door == "exchange" else "tensor attributes"
        )

    def as_numpy(t: torch.Tensor) -> np.ndarray:
        if t.dtype is torch.bfloat16:
            return t.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return t.numpy()

    g = torch.randn(7, 5).to(w.dtype).t()
    want, _ = sgd(as_numpy(w).copy(), as_numpy(g), lr=0.1)
    sf.sgd_step(w, g, lr=0.1)
    assert_same_bits(as_numpy(w), want)


def test_torch_refused(door: str) -> None:
    import torch

    w, g = torch.zeros(3, 4), torch.ones(3, 4)
    z = torch.randn(3, 4, dtype=torch.complex64)
    cases = [
        (
            w,
            g.to_sparse(),
            TypeError,
            r"grads: expected a dense tensor, got layout torch.sparse_coo",
        ),
        (
            w,
            torch.empty(3, 4, device="meta"),
            ValueError,
            r"grads: (expected CPU (or CUDA )?memory|has no memory)",
        ),
        (w, g.to(torch.int32), TypeError, r"grads: expected float32.*got int32"),
        (w, z, TypeError, r"grads: expected float32.*got complex64"),
        (w, torch._neg_view(g), ValueError, r"grads: is a negated view"),
        (w, z.conj().imag, ValueError, r"grads: is a negated view"),
        (w[0, :1], z.conj().imag[0, 0].view(1), ValueError, r"grads: is a negated view"),
        (torch.zeros(4).expand(3, 4), g, ValueError, r"params: its elements share memory"),
        ([w, w[1:]], [g, g[1:]], ValueError, r"shares memory"),
    ]
    freed = torch.ones(3, 4)
    freed.untyped_storage().resize_(0)
    cases.append((w, freed, ValueError, r"grads: has no memory of its own"))
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        fake = torch.ones(3, 4)
    cases.append((w, fake, (ValueError, TypeError), r"grads: "))
    for params, grads, error, message in cases:
        with pytest.raises(error, match=message):
            sf.sgd_step(params, grads, lr=0.1)
    assert (w == 0).all()


def test_torch_versions_are_counted(door: str) -> None:
    import torch

    w, m = torch.ones(4, requires_grad=True), torch.zeros(4)
    loss = (w * w).sum()
    sf.sgd_step(w, torch.ones(4), m, lr=0.1, momentum=0.9, first_step=True)
    assert w._version == 1 and m._version == 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    # A leaf that requires a gradient is updated as under no_grad, and stays a leaf.
    assert w.is_leaf and w.requires_grad and torch.equal(w.detach(), torch.full((4,), 0.9))
    # A view of a leaf writes through.
    leaf = torch.zeros(2, 3, requires_grad=True)
    sf.sgd_step(leaf[1], torch.ones(3), lr=1.0)
    assert torch.equal(leaf.detach(), torch.tensor([[0.0] * 3, [-1.0] * 3]))


def test_inference_tensors_are_updated(door: str) -> None:
    import torch

    with torch.inference_mode():
        w = torch.zeros(3)
    sf.sgd_step(w, torch.ones(3), lr=1.0)  # they have no version to count
    assert (w == -1).all()
