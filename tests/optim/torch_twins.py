"""torch.optim.SGD and ours side by side: one scenario, run with each class, the same bits.

A scenario is a generator function that takes the optimizer class and yields whatever is to be
compared: tensors, optimizers (their state), numbers, lists and dicts of these. Each value is
compared as it was when it was yielded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import Parameter

from subgrad_fast.optim import SGD, torchs_step

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

Scenario = Callable[[type[torch.optim.SGD]], Iterator[Any]]


def parameters(*shapes: Sequence[int], dtype: torch.dtype = torch.float32) -> list[Parameter]:
    """One random parameter for each shape."""
    return [Parameter(torch.randn(shape, dtype=dtype)) for shape in shapes]


def give_gradients(params: Sequence[torch.Tensor]) -> None:
    """Fresh random gradients for all."""
    for p in params:
        p.grad = torch.randn_like(p)


def train(optimizer: torch.optim.Optimizer, params: Sequence[torch.Tensor], steps: int = 3) -> None:
    """Steps with a random gradient for every parameter."""
    for _ in range(steps):
        give_gradients(params)
        optimizer.step()


def snapshot(value: Any) -> Any:
    """A copy that later steps cannot change; an optimizer becomes what can be seen of it."""
    if isinstance(value, torch.optim.Optimizer):
        params = [list(group["params"]) for group in value.param_groups]
        return snapshot({"params": params, "state_dict": value.state_dict()})
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {k: snapshot(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [snapshot(v) for v in value]
    return copy.copy(value)


def assert_same(got: Any, want: Any, where: str = "") -> None:
    """Equal in every bit; NaN equals NaN. Types, dtypes, shapes and keys must agree as well."""
    assert type(got) is type(want), f"{where}: got {type(got)}, want {type(want)}"
    if isinstance(want, torch.Tensor):
        assert (got.dtype, got.shape, got.layout) == (want.dtype, want.shape, want.layout), where
        if want.layout is not torch.strided:
            got, want = got.to_dense(), want.to_dense()
        got, want = got.resolve_conj().resolve_neg(), want.resolve_conj().resolve_neg()
        if want.is_complex():
            got, want = torch.view_as_real(got), torch.view_as_real(want)
        if not want.is_floating_point():
            assert torch.equal(got, want), where
            return
        integers = _INTEGERS[want.element_size()]
        same = got.contiguous().view(integers) == want.contiguous().view(integers)
        differ = ~(same | (got.isnan() & want.isnan()))
        assert not differ.any(), (
            f"{where}: {int(differ.sum())} of {want.numel()} elements differ: "
            f"got {got[differ][0].item()!r}, want {want[differ][0].item()!r}"
        )
    elif isinstance(want, dict):
        assert got.keys() == want.keys(), where
        for key in want:
            assert_same(got[key], want[key], f"{where}[{key!r}]")
    elif isinstance(want, list):
        assert len(got) == len(want), where
        for i, (a, b) in enumerate(zip(got, want, strict=True)):
            assert_same(a, b, f"{where}[{i}]")
    else:
        assert got == want or (got != got and want != want), f"{where}: got {got}, want {want}"


class TorchSteps:
    """While entered: counts the parameters that our optimizer handed to torch's own code."""

    def __enter__(self) -> TorchSteps:
        self.params: list[torch.Tensor] = []
        self.kwargs: list[dict[str, Any]] = []
        self._original = torchs_step.torch_sgd

        def spy(params: list[torch.Tensor], *args: Any, **kwargs: Any) -> None:
            self.params += params
            self.kwargs.append(kwargs)
            self._original(params, *args, **kwargs)

        torchs_step.torch_sgd = spy
        return self

    def __exit__(self, *_: object) -> None:
        torchs_step.torch_sgd = self._original

    def had(self, param: torch.Tensor) -> bool:
        return any(p is param for p in self.params)


def _collect(scenario: Scenario, cls: type[torch.optim.SGD], seed: int) -> list[Any]:
    torch.manual_seed(seed)
    return [snapshot(value) for value in scenario(cls)]


def assert_twins(scenario: Scenario, *, routed: bool | None = False, seed: int = 0) -> None:
    """The scenario gives the same bits with torch's default SGD and with ours.

    `routed` says whether torch's own code took part in ours: False that the kernels did it all,
    which keeps a test of the kernels from comparing torch with itself; None does not look.
    """
    want = _collect(scenario, torch.optim.SGD, seed)
    with TorchSteps() as steps:
        got = _collect(scenario, SGD, seed)
    assert want, "the scenario yielded nothing"
    assert_same(got, want)
    if routed is not None:
        assert bool(steps.params) == routed, f"torch stepped {len(steps.params)} parameters"


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A copy as an array, bfloat16 too."""
    import ml_dtypes

    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16).copy()
    return tensor.numpy().copy()


def strided(kind: str, shape: tuple[int, ...], dtype: Any) -> Any:
    """Random values of a shape in another order or distance in memory."""
    x = torch.randn(shape, dtype=dtype)
    if kind == "channels last":
        return x.contiguous(memory_format=torch.channels_last)
    if kind == "transposed":
        return x.transpose(0, 3).contiguous().transpose(0, 3)
    if kind == "sliced":
        return torch.randn([2 * n for n in shape], dtype=dtype)[::2, ::2, ::2, ::2]
    if kind == "expanded":
        return torch.randn(shape[-1], dtype=dtype).expand(shape)
    if kind == "all expanded":
        return torch.randn((), dtype=dtype).expand(shape)
    if kind == "part":
        return torch.randn(x.numel() + 3, dtype=dtype)[3:].view(shape)
    return x
