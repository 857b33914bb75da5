"""The SGD step on the rows of parameters that a row-sparse gradient names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from subgrad_fast import _core
from subgrad_fast._arguments import flag, integer, quoted
from subgrad_fast._arrays import (
    Array,
    Arrays,
    as_list,
    as_sequence,
    is_torch,
    raw_view,
    torch_tensors,
)
from subgrad_fast.dense import NormScope, clip_options


def any_row_sparse(grads: Sequence[Any]) -> bool:
    """Whether one is what `row_step` takes: (rows, values), or a sparse COO tensor of torch."""
    return any(isinstance(grad, tuple) and len(grad) == 2 for grad in grads) or any(
        tensor.is_sparse for tensor in torch_tensors(grads)
    )


def _as_int64(rows: Array, name: str) -> npt.NDArray[np.int64]:
    if isinstance(rows, list | tuple | range):
        rows = np.asarray(rows, dtype=np.int64 if len(rows) == 0 else None)
    numbers = raw_view(rows, name)
    if numbers.ndim != 1 or numbers.dtype not in (np.int32, np.int64):
        raise TypeError(
            f"{name}: expected row numbers as int32 or int64 in one dimension, "
            f"got {numbers.dtype} of shape {numbers.shape}"
        )
    return np.require(numbers, np.int64, ["C", "A"])


def row_parts(grad: Any, shape: tuple[int, ...], name: str) -> tuple[npt.NDArray[np.int64], Array]:
    """The row numbers and the values of a row-sparse gradient, duplicates as they come.

    Args:
        grad: (rows, values), or a sparse COO tensor of torch.
        shape: the parameter's.
        name: how messages call the gradient.

    Raises:
        TypeError: `grad` is neither, or the rows are not int32 or int64 in one dimension.
        ValueError: a sparse tensor of another shape, or with more than one sparse dimension.
    """
    if not any_row_sparse([grad]):
        raise TypeError(
            f"{name}: expected (rows, values) or a sparse COO tensor, got {type(grad).__name__}"
        )
    if isinstance(grad, tuple):
        rows, values = grad
        return _as_int64(rows, name), values
    if grad.sparse_dim() != 1:
        raise ValueError(
            f"{name}: expected a sparse tensor with one sparse dimension, got {grad.sparse_dim()}"
        )
    if tuple(grad.shape) != tuple(shape):
        raise ValueError(f"{name}: expected shape {tuple(shape)}, got {tuple(grad.shape)}")
    return _as_int64(grad._indices()[0], name), grad._values()


def has_contiguous_rows(array: Array) -> bool:
    """Whether each row of a NumPy array or torch tensor is one run of memory."""
    torchs = is_torch(array)
    strides, run = (array.stride(), 1) if torchs else (array.strides, array.itemsize)
    for stride, size in zip(reversed(strides[1:]), reversed(array.shape[1:]), strict=True):
        if size != 1 and stride != run:
            return False
        run *= size
    return torchs or bool(array.flags.aligned)


def _with_contiguous_rows(values: Array) -> Array:
    """`values`, or a copy where rows are not runs of memory: expanded or transposed ones."""
    if is_torch(values):
        return values if has_contiguous_rows(values) else values.contiguous()
    if isinstance(values, np.ndarray) and not has_contiguous_rows(values):
        return np.array(values, order="C")
    return values


class RowHistory:
    """What the rows of a parameter lack of dense steps, while gradients name only some of them.

    A dense step moves a row without a gradient too, by its momentum and by decay. With a history
    `row_step` leaves those rows for later and notes what the step was; before a row is read,
    `catch_up` has it take the steps that it lacks, with gradients of zero. It then has the bits
    that dense steps would have given it. A few rows are brought up to date with every step, one
    after the other, so that no row lacks more than about a thousand steps.

    Calls of several threads come one after the other. Memory: 4 bytes a row.

    Args:
        rows: how many the parameter has, >= 0. They lack nothing.

    Raises:
        TypeError, ValueError: `rows` is no such number.
    """

    __slots__ = ("_history",)

    def __init__(self, rows: int) -> None:
        self._history = _core.rows.RowHistory(integer("rows", rows, high=2**48))

    @property
    def rows(self) -> int:
        """How many rows the parameter has."""
        return self._history.rows

    @property
    def pending(self) -> bool:
        """Whether any row may lack a step. `catch_up` without rows makes it False."""
        return self._history.pending

    def lacking(self) -> int:
        """How many rows lack a step; looks at each of them."""
        return self._history.lacking()

    def catch_up(
        self, param: Array, momentum_buffer: Array | None = None, rows: Any = None
    ) -> None:
        """Has rows take, in place, the steps that they lack. Call it before they are read.

        Args:
            param: the parameter, as `row_step` takes it.
            momentum_buffer: its buffer; needed if a step that rows lack had momentum.
            rows: which ones, int32 or int64, in any order and with repetition; None for all.

        Raises:
            TypeError: a dtype is not supported.
            ValueError: a shape does not fit, a row does not exist, a buffer is missing, or an array
                is read-only or shares memory with the other. Nothing has been written then.
        """
        numbers = None if rows is None else _as_int64(rows, "rows")
        self._history.catch_up(param, momentum_buffer, numbers)

    def __repr__(self) -> str:
        return f"RowHistory({self.rows})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.pending:
            raise ValueError("RowHistory: rows lack steps; call catch_up() before it is copied")
        return RowHistory, (self.rows,)


def make_row_step(
    params: list[Array],
    grads: list[Any],
    momentum_buffers: list[Array],
    hyper: _core.SgdParams,
    *,
    histories: Sequence[RowHistory] = (),
    single: bool = False,
    first_step: bool = False,
) -> _core.rows.RowStep:
    """A checked step that has written nothing yet; ``run()`` takes it.

    Args:
        params, grads, momentum_buffers: as in `row_step`, in lists; no buffers without momentum.
        hyper: the terms of the step.
        histories: one for each parameter, or none.
        single: messages name the arguments without an index.
        first_step: as in `row_step`.
    """
    rows, values = [], []
    for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
        name = "grads" if single else f"grads[{i}]"
        numbers, value = row_parts(grad, getattr(param, "shape", ()), name)
        rows.append(numbers)
        values.append(_with_contiguous_rows(value))
    lists = params, rows, values, momentum_buffers, [each._history for each in histories]
    return _core.rows.RowStep(*lists, single, hyper, first_step)


def _histories(given: Any, single: bool) -> list[RowHistory]:
    """Those of an argument `history`."""
    histories = [] if given is None else [given] if single else as_list(given)
    for i, each in enumerate(histories):
        if not isinstance(each, RowHistory):
            where = "history" if single else f"history[{i}]"
            raise TypeError(f"{where}: expected a RowHistory, got {quoted(each)}")
    return histories


def row_step(
    params: Arrays,
    grads: Any,
    momentum_buffers: Arrays | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    l1: float = 0.0,
    first_step: bool = False,
    history: RowHistory | Sequence[RowHistory] | None = None,
    grad_scale: float = 1.0,
    max_norm: float | None = None,
    max_norm_scope: NormScope = "global",
    clip_value: float | None = None,
    skip_nonfinite: bool = False,
) -> float | None:
    """Takes one SGD step, in place, on the rows that the gradients name.

    The gradients of a row that is named more than once are added in the order in which they come,
    in float32 (float64 for float64 parameters). Then the row takes one step of `sgd_step`: momentum
    and weight decay act on the rows that are named, when they are named, as in
    ``torch.optim.SparseAdam``. A row of a momentum buffer that is all zeros holds nothing: the
    row's step is then a first step (``m = g``, whatever the dampening). No other row is touched.

    With a `history` it is the dense step instead, for all rows: those that are not named take it
    with a gradient of zero, but later (see `RowHistory`). Read no row before ``catch_up`` then.

    Gradients may be unscaled and clipped on their way, as in `sgd_step`; the values stay as they
    are. A gradient's norm is that of its sums, which is the norm that a COO tensor has once it is
    coalesced.

    The work is in proportion to the gradient's rows, whatever the number of rows of the parameter.
    The results have the same bits for any number of threads and on any instruction set.

    Args:
        params: one array or a sequence of arrays, as in `sgd_step`, of at least one dimension; each
            row ``param[i]`` must be contiguous in memory.
        grads: for each parameter a tuple ``(rows, values)`` or a torch COO tensor with one sparse
            dimension, coalesced or not. `rows`: n row numbers, int32 or int64, in any order and
            with repetition. `values`: an array of shape ``(n, *param.shape[1:])``, of the
            parameter's dtype or float32, bfloat16 or float16; float64 is taken as in `sgd_step`.
        momentum_buffers: as many dense arrays of the parameters' shapes, each of its parameter's
            dtype or float32, zero where nothing is held. Needed if `momentum` is not 0, else
            neither read nor written.
        lr: learning rate, >= 0.
        momentum: momentum factor, >= 0.
        dampening: the share of the gradient that is kept out of the momentum.
        weight_decay: L2 penalty on the rows that are named, >= 0.
        nesterov: Nesterov momentum; needs `momentum` > 0 and `dampening` == 0.
        maximize: go up the gradient.
        decoupled_weight_decay: shrink the rows that are named instead of adding to their gradient.
        l1: L1 penalty on the rows that are named, >= 0.
        first_step: the momentum buffers hold nothing yet: they are set to zero first, all rows.
        history: for each parameter its own, of as many rows.
        grad_scale, max_norm, max_norm_scope, clip_value, skip_nonfinite: as in `sgd_step`, for the
            sums of the rows' gradients.

    Returns:
        The norm of all gradients together, divided by `grad_scale`, where `max_norm` or
        `skip_nonfinite` asks for it (it is not finite where the step was skipped); else None.

    Raises:
        TypeError: a gradient is not row-sparse, or a dtype is not supported.
        ValueError: lengths, shapes or devices do not fit, a row number is negative or too large, an
            array to be written is read-only, has rows that are not contiguous or shares memory with
            another, or a hyper-parameter is out of range. The message names the argument and its
            index. Nothing has been written then.
    """
    hyper = _core.SgdParams(
        lr,
        momentum=momentum,
        dampening=dampening,
        weight_decay=weight_decay,
        nesterov=nesterov,
        maximize=maximize,
        decoupled_weight_decay=decoupled_weight_decay,
        l1=l1,
        max_norm=max_norm,
        clip_value=clip_value,
    )
    options = clip_options(max_norm_scope, False, skip_nonfinite, grad_scale)
    single = not isinstance(params := as_sequence(params), list | tuple)
    histories = _histories(history, single)
    param_list = as_list(params)
    grad_list = [grads] if single else list(grads)
    buffer_list = []
    if momentum != 0.0:
        if momentum_buffers is None:
            raise ValueError("momentum_buffers: needed, since momentum is not 0")
        buffer_list = as_list(momentum_buffers)
    lists: list[tuple[str, list[Any]]] = [("grads", grad_list)]
    lists += [("momentum_buffers", buffer_list)] if momentum != 0.0 else []
    lists += [("history", histories)] if history is not None else []
    for name, given in lists:
        if len(given) != len(param_list):
            raise ValueError(f"{name}: expected {len(param_list)} like params, got {len(given)}")
    step = make_row_step(
        param_list,
        grad_list,
        buffer_list,
        hyper,
        histories=histories,
        single=single,
        first_step=flag("first_step", first_step),
    )
    return step.run(options)
