"""Data sets and options on which our DataLoader and torch's must agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, StackDataset, Subset, TensorDataset

N = 103
X = torch.arange(N * 3, dtype=torch.float32).reshape(N, 3)
Y = torch.arange(N)


class Squares(Dataset[Any]):
    """A data set of somebody's own."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Any:
        return X[i] * X[i], int(Y[i])


def readonly() -> Any:
    array = np.arange(N * 2.0).reshape(N, 2)
    array.flags.writeable = False
    return array


GATHERED: dict[str, Callable[[], Any]] = {
    "tensors": lambda: TensorDataset(X, Y),
    "one tensor": lambda: TensorDataset(X),
    "a subset": lambda: Subset(TensorDataset(X, Y), list(range(3, 90, 2))),
    "a subset by a tensor": lambda: Subset(TensorDataset(X, Y), torch.arange(50)),
    "from the end": lambda: Subset(TensorDataset(X, Y), [-1, 5, -N, 7]),
    "a subset of a subset": lambda: Subset(
        Subset(TensorDataset(X, Y), list(range(0, 100, 3))), [0, 30, 4, 4]
    ),
    "a split": lambda: torch.utils.data.random_split(
        TensorDataset(X, Y), [80, N - 80], torch.Generator().manual_seed(1)
    )[0],
    "stacked": lambda: StackDataset(X, Y.numpy(), TensorDataset(Y, X)),
    "named": lambda: StackDataset(x=X, rest=StackDataset(y=Y, z=X.double())),
    "a tensor": lambda: X,
    "a NumPy array": X.numpy,
    "a column of numbers": lambda: Y.numpy().astype(np.float32),
    "a table that is read-only": readonly,
    "no numbers in a row": lambda: torch.zeros(N, 0),
    "large rows": lambda: TensorDataset(torch.arange(N * 9000).reshape(N, 90, 100), Y),
    "strided": lambda: TensorDataset(
        torch.arange(N * 8).reshape(N, 8)[:, ::3], X.t().contiguous().t()
    ),
    **{
        f"dtype {kind}": lambda kind=kind: StackDataset(  # type: ignore[misc]
            np.arange(N).astype(kind), np.arange(2 * N).reshape(N, 2).astype(kind)
        )
        for kind in "?bhilBHIefdFD"
    },
    **{
        str(dtype): lambda dtype=dtype: TensorDataset(X.to(dtype), Y.to(dtype))  # type: ignore[misc]
        for dtype in (torch.bfloat16, torch.float16, torch.complex64, torch.bool, torch.uint16)
    },
}

HANDED_OVER: dict[str, Callable[[], Any]] = {
    "somebody's own": Squares,
    "a list": lambda: [(x, y) for x, y in zip(X, Y.tolist(), strict=True)],
    "a subset of somebody's own": lambda: Subset(Squares(), [1, 2, 3]),
    "with gradients": lambda: TensorDataset(X.clone().requires_grad_()),
    "a derived class": lambda: type("Mine", (TensorDataset,), {})(X),
    "conjugated": lambda: TensorDataset(X.to(torch.complex64).conj()),
    "concatenated": lambda: torch.utils.data.ConcatDataset([TensorDataset(X), TensorDataset(X)]),
}


def assert_same(got: Any, expected: Any) -> None:
    """The same values in the same containers, dtypes and shapes."""
    assert type(got) is type(expected), (got, expected)
    if isinstance(got, torch.Tensor):
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        assert got.requires_grad == expected.requires_grad
        assert torch.equal(got, expected)
    elif isinstance(got, dict):
        assert list(got) == list(expected)
        for key, value in got.items():
            assert_same(value, expected[key])
    elif isinstance(got, list | tuple):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
    else:
        assert got == expected
