"""Which tensors `optim.SGD` steps with the kernels, and what it needs of single ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.optimizer import Optimizer

from subgrad_fast import _core
from subgrad_fast._arguments import quoted
from subgrad_fast.rows import has_contiguous_rows

_DTYPES = frozenset((torch.float32, torch.float64, torch.bfloat16, torch.float16))
# Only this interface tells the stream that torch works in.
_TELLS_STREAM = hasattr(Tensor, "__dlpack_c_exchange_api__")

Group = dict[str, Any]


def has_kernels(device: torch.device) -> bool:
    """Whether ours can run there."""
    if device.type == "cuda":
        return _TELLS_STREAM and _core.cuda.problem(device.index) is None
    return device.type == "cpu"


def is_on_device(tensor: Tensor) -> bool:
    """Whether the host waits where it reads the tensor."""
    return tensor.device.type != "cpu"


def is_dense(tensor: Tensor) -> bool:
    return (
        type(tensor) in (Tensor, Parameter)
        and tensor.layout is torch.strided
        and has_kernels(tensor.device)
        and tensor.dtype in _DTYPES
        and not tensor.is_neg()
        and 0 not in tensor.stride()  # expanded
    )


def new_buffer(like: Tensor, *, zeros: bool = False) -> Tensor:
    """A tensor like `like`, empty or of zeros, of memory that a plan may point into (buffers.h)."""
    if like.device.type != "cpu":
        return torch.empty_like(like.detach())  # torch's allocator knows the streams
    memory = _core.optimizer.new_buffer(like.detach(), zeros)
    buffer: Tensor = torch.utils.dlpack.from_dlpack(memory)
    return buffer


def l1_of(group: Group) -> Any:
    """The group's L1 penalty: a key of ours, which groups of torch's making lack."""
    l1 = group.get("l1", 0.0)
    if not l1 >= 0.0:  # so that NaN is refused too
        raise ValueError(f"l1: expected a number >= 0, got {l1!r}")
    return l1


def _number(x: float | Tensor) -> float:
    return x.detach().item() if isinstance(x, Tensor) else x


def shrink(param: Tensor, group: Group, *, differentiable: bool) -> None:
    """The proximal step of the L1 penalty for a parameter that torch has stepped."""
    lr, l1 = group["lr"], group["l1"]
    if is_dense(param) and param.device.type == "cpu" and not differentiable:
        _core.sparsify.shrink(param.detach(), _number(lr) * _number(l1), 1.0)
        return
    w, threshold = param.clone(), lr * l1  # a clone, since autograd keeps what it has seen
    if w.is_complex():
        param.copy_(w - w * (threshold / w.abs()).clamp(max=1))
    else:
        param.copy_(w - w.clamp(-threshold, threshold))


def average_dtype(param: Tensor) -> torch.dtype:
    """The dtype of a parameter's average: float32 for 16-bit parameters, else its own."""
    narrow = param.dtype in (torch.bfloat16, torch.float16)
    return torch.float32 if narrow else param.dtype


def is_covered(param: Tensor, buffer: Tensor | None, average: Tensor | None = None) -> bool:
    """Whether the kernels can step `param`, with torch's bits where those are promised."""
    if not is_dense(param):
        return False
    if average is not None and not (
        is_dense(average)
        and average.device == param.device
        and average.dtype == average_dtype(param)
    ):
        return False
    if buffer is None:
        return True
    # torch rounds in between where a float64 parameter has a float32 buffer (after model.double()).
    wide = param.dtype in (torch.float32, torch.float64)
    return (
        is_dense(buffer)
        and buffer.device == param.device
        and (buffer.dtype == param.dtype or (buffer.dtype == torch.float32 and not wide))
    )


def has_row_gradient(param: Tensor, buffer: Tensor | None) -> bool:
    """Whether the gradient names whole rows, and the kernels can step those.

    `param` and `buffer` are such as `is_covered` says yes to, and the gradient is not strided.
    """
    grad = param.grad
    return (
        type(grad) is Tensor
        and grad.layout is torch.sparse_coo
        and grad.sparse_dim() == 1
        and grad.dense_dim() > 0
        and grad.device.type == "cpu"
        and grad.dtype in _DTYPES
        and (grad.dtype == param.dtype or grad.dtype is not torch.float64)
        and has_contiguous_rows(param)
        and (buffer is None or has_contiguous_rows(buffer))
    )


def zero_with_torch(optimizer: Optimizer, grads: Iterable[Tensor]) -> None:
    """Makes gradients zeros by the calls that the optimizer's own ``zero_grad`` would make."""
    foreach = optimizer.defaults.get("foreach") or optimizer.defaults.get("fused")
    together = []
    for grad in grads:
        if grad.grad_fn is not None:
            grad.detach_()
        else:
            grad.requires_grad_(False)
        if foreach and not grad.is_sparse:
            together.append(grad)
        else:
            grad.zero_()
    if together:
        torch._foreach_zero_(together)


@contextmanager
def slots_for(optimizer: Optimizer, params: Iterable[Tensor]) -> Iterator[None]:
    """Takes slots of state that the block makes away again where nothing was put into them."""
    new = [param for param in params if param not in optimizer.state]
    try:
        yield
    finally:
        for param in new:
            if param in optimizer.state and not optimizer.state[param]:
                del optimizer.state[param]


def check_buffers(state: dict[Any, Group], numbers: list[Any], params: list[Tensor]) -> None:
    """Raises TypeError for a buffer of a saved state that is no tensor, ValueError for one that has
    not the shape of its parameter.

    Args:
        state: what is saved, by the numbers of parameters.
        numbers: those of the parameters, in their order.
        params: the parameters that it is to be loaded for.
    """
    for number, param in zip(numbers, params, strict=False):
        for name in ("momentum_buffer", "residual", "ema"):
            buffer = state.get(number, {}).get(name)
            if buffer is None:
                continue
            where = f"state_dict['state'][{quoted(number)}][{name!r}]"
            if not isinstance(buffer, Tensor):
                raise TypeError(f"{where}: expected a tensor, got {quoted(buffer)}")
            if buffer.shape != param.shape:
                raise ValueError(
                    f"{where}: expected shape {tuple(param.shape)}, got {tuple(buffer.shape)}"
                )
