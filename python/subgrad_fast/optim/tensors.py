"""Which tensors `optim.SGD` steps with the kernels, and what it needs of single ones."""

from __future__ import annotations

import functools
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

EXPANDED = "expanded: its elements share memory"


def has_kernels(device: torch.device) -> bool:
    """Whether ours can run there."""
    if device.type == "cuda":
        return _TELLS_STREAM and _core.cuda.problem(device.index) is None
    return device.type == "cpu"


def is_on_device(tensor: Tensor) -> bool:
    """Whether the host waits where it reads the tensor."""
    return tensor.device.type != "cpu"


@functools.cache
def is_plain(kind: type) -> bool:
    """Whether torch's operations do to tensors of this class what they do to plain ones.

    So it is for ``torch.nn.Parameter`` and all that is made of it without a ``__torch_function__``,
    ``__torch_dispatch__`` or ``grad`` of its own.
    """
    return kind is Tensor or (
        issubclass(kind, Parameter)
        and kind.__torch_function__ is Parameter.__torch_function__
        and kind.__torch_dispatch__ is Parameter.__torch_dispatch__
        and kind.grad is Parameter.grad
    )


def is_usual(optimizer: Optimizer) -> bool:
    """Whether groups and state are kept in lists and dicts, as torch itself keeps them."""
    kept: Any = optimizer
    return (
        isinstance(kept.param_groups, list)
        and isinstance(kept.state, dict)
        and all(map(_is_dict, kept.param_groups))
    )


def has_usual_slots(optimizer: Optimizer, param: Tensor) -> bool:
    """Whether what the state has for a parameter is a dict, if it has anything."""
    return param not in optimizer.state or _is_dict(optimizer.state[param])


def _is_dict(slots: object) -> bool:
    kind = type(slots)
    return issubclass(kind, dict) and (
        kind.__getitem__ is dict.__getitem__ and kind.get is dict.get
    )


def why_not_dense(tensor: Tensor) -> str | None:
    """What a tensor is that the kernels do not cover; None for one that they do."""
    if not is_plain(type(tensor)):
        return f"of the class {type(tensor).__name__}, whose own code torch calls"
    if tensor.layout is not torch.strided:
        return f"of layout {tensor.layout}"
    if not has_kernels(tensor.device):
        return f"on {tensor.device}, for which there are no kernels"
    if tensor.dtype not in _DTYPES:
        return f"of dtype {tensor.dtype}"
    if tensor.is_neg():
        return "a negated view"
    if 0 in tensor.stride():
        return EXPANDED
    if _stands_for_another(tensor):
        return "without memory of its own"
    return None


def is_dense(tensor: Tensor) -> bool:
    return why_not_dense(tensor) is None


def _stands_for_another(tensor: Tensor) -> bool:
    """Whether a plain tensor has no memory: zeros that are not there, or what a transform sees."""
    return (
        tensor._is_zerotensor()
        or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        or torch._is_functional_tensor(tensor)
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


def why_not_covered(
    param: Tensor, buffer: Tensor | None, average: Tensor | None = None
) -> str | None:
    """Why the kernels cannot step `param`, with torch's bits where those are promised."""
    if why := why_not_dense(param):
        return f"the parameter is {why}"
    if average is not None:
        if why := why_not_dense(average):
            return f"the average is {why}"
        if average.device != param.device or average.dtype != average_dtype(param):
            return f"the average is of dtype {average.dtype} on {average.device}"
    if buffer is None:
        return None
    if why := why_not_dense(buffer):
        return f"the momentum buffer is {why}"
    # torch rounds in between where a float64 parameter has a float32 buffer (after model.double()).
    wide = param.dtype in (torch.float32, torch.float64)
    fits = buffer.dtype == param.dtype or (buffer.dtype == torch.float32 and not wide)
    if buffer.device != param.device or not fits:
        return f"the momentum buffer is of dtype {buffer.dtype} on {buffer.device}"
    return None


def is_covered(param: Tensor, buffer: Tensor | None, average: Tensor | None = None) -> bool:
    """Whether the kernels can step `param`."""
    return why_not_covered(param, buffer, average) is None


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
