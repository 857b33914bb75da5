"""Embeddings that take dense steps late: their rows catch up when they are read or stepped."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Embedding, EmbeddingBag, Module
from torch.nn.modules.module import register_module_forward_pre_hook

from subgrad_fast._arguments import flag, one_of
from subgrad_fast._core import Turns
from subgrad_fast._core.rows import RowStep
from subgrad_fast.optim.averages import Averaging
from subgrad_fast.rows import RowHistory

SparseRows = Literal["lazy", "dense"]


class Table:
    """A parameter whose rows may lack steps."""

    def __init__(self, param: Tensor) -> None:
        self.history = RowHistory(len(param))
        self.buffer: Tensor | None = None  # the momentum that those steps move
        self.renormed = False  # its module scales rows down when it reads them
        self._left_as: tuple[int, int] = (0, 0)

    def catch_up(self, param: Tensor, rows: Tensor | None = None) -> None:
        """Rows take what they lack: these, or all."""
        with torch.no_grad():
            self.history.catch_up(param.detach(), self.buffer, rows)
        self.leave(param)

    def leave(self, param: Tensor) -> None:
        """What the parameter is now is of our making."""
        self._left_as = param.data_ptr(), param._version

    def written(self, param: Tensor) -> bool:
        """Whether somebody else has written it while rows lacked steps."""
        now = param.data_ptr(), param._version
        return self.history.pending and not self.renormed and now != self._left_as


class LateRows(Averaging):
    """What an optimizer does whose row-sparse gradients mean dense steps: a base of `SGD`."""

    _turns: Turns  # of the threads that step, load, or read rows
    _sparse_rows: SparseRows = "lazy"
    _check_reads: bool = True
    _tables: dict[Tensor, Table]
    _modules: weakref.WeakSet[Module]  # that read the parameters, and whose state is known of

    def _choose_rows(self, sparse_rows: SparseRows, check_reads: bool) -> None:
        """Takes the arguments of the constructor. Raises TypeError or ValueError by their names."""
        self._sparse_rows = one_of("sparse_rows", sparse_rows, "lazy", "dense")
        self._check_reads = flag("check_reads", check_reads)

    def _watch(self, params: Iterable[Tensor]) -> None:
        """From now on, modules that read rows of these have them catch up first."""
        if self._sparse_rows == "dense":
            _watch(self, params)

    def materialize(self) -> None:
        """Has all rows take the steps that they lack (``sparse_rows="dense"``).

        Embeddings call it for the rows that they read, and `state_dict`, the embedding's and the
        optimizer's, for all. Call it before anything else reads or writes a table's weight or its
        momentum. It costs a pass over the tables, and up to a thousand steps of rows in registers.

        Raises:
            RuntimeError: somebody has written a table that lacked steps (see `check_reads`).
        """
        with self._turns:
            for param, table in self._tables.items():
                self._check_unwritten(param, table)
                table.catch_up(param)

    def catch_up(self, param: Tensor, rows: Tensor) -> None:
        """Has some rows of a table take the steps that they lack, as ``Embedding`` does.

        Args:
            param: the table.
            rows: on the CPU, int32 or int64, of any shape, with repetition.

        Raises:
            RuntimeError: somebody has written the table while it lacked steps.
            ValueError: a row does not exist.
        """
        table = self._tables.get(param)
        if table is None:
            return
        with self._turns:
            self._check_unwritten(param, table)
            if table.history.pending:
                table.catch_up(param, rows.detach().reshape(-1))

    def _settle(self) -> None:
        self.materialize()
        super()._settle()

    def _read(self, module: Module, param: Tensor, numbers: Any) -> None:
        """Rows that a module is about to read catch up."""
        if module not in self._modules:
            self._modules.add(module)
            known: Any = module
            known.register_state_dict_pre_hook(_CatchUp(self))
            known.register_load_state_dict_pre_hook(_CatchUp(self))
        table = self._tables.get(param)
        if table is None:
            return
        with self._turns:
            table.renormed = getattr(module, "max_norm", None) is not None
            self._check_unwritten(param, table)
            plain = type(numbers) is Tensor and numbers.device.type == "cpu"
            if not plain or numbers.dtype not in (torch.int32, torch.int64):
                table.catch_up(param)
            elif _within(numbers, len(param)):
                self.catch_up(param, numbers)

    def _before_step(self) -> None:
        """Tables that have dense gradients now have been read whole."""
        for param, table in self._tables.items():
            grad = param.grad
            if not table.history.pending or grad is None or grad.layout is torch.sparse_coo:
                continue
            if self._check_reads:
                raise RuntimeError(
                    f"sparse_rows: the gradient of the table of shape {tuple(param.shape)} is "
                    "dense, so all of its rows have been read, and some lacked steps; call "
                    "optimizer.materialize() before that, or pass check_reads=False"
                )
            table.catch_up(param)

    def _histories(self, params: list[Tensor], buffers: list[Tensor]) -> list[RowHistory]:
        """Those of parameters that are about to be stepped with these buffers, if any."""
        if self._sparse_rows == "lazy":
            return []
        histories = []
        for i, param in enumerate(params):
            buffer = buffers[i] if buffers else None
            if param not in self._tables:
                self._tables[param] = Table(param)
            table = self._tables[param]
            self._check_unwritten(param, table)
            if table.buffer is not buffer:
                table.catch_up(param)
                table.buffer = buffer
            histories.append(table.history)
        return histories

    def _left(self, params: list[Tensor], *, averaged: bool) -> None:
        """Parameters have been stepped on their rows; averages are taken of whole tables."""
        for param in params:
            table = self._tables.get(param)
            if table is not None and averaged:
                table.catch_up(param)
            elif table is not None:
                table.leave(param)

    def _check_named(self, params: list[Tensor], step: RowStep) -> None:
        """Raises RuntimeError where a gradient names a row that lacked steps when it was read."""
        if not self._check_reads:
            return
        index, row = step.first_lacking()
        if index >= 0:
            raise RuntimeError(
                f"sparse_rows: row {row} of the table of shape {tuple(params[index].shape)} has a "
                "gradient and lacked steps, so it was not read by Embedding or EmbeddingBag; call "
                "optimizer.materialize() before it is read, or pass check_reads=False"
            )

    def _check_unwritten(self, param: Tensor, table: Table) -> None:
        if self._check_reads and table.written(param):
            raise RuntimeError(
                f"sparse_rows: the table of shape {tuple(param.shape)} was written while rows "
                "lacked steps; call optimizer.materialize() before, or pass check_reads=False"
            )

    def _refuse_rows(self, params: Iterable[Tensor]) -> None:
        """Raises TypeError for a row-sparse gradient that torch's code would step its own way."""
        for param in params:
            grad = param.grad
            sparse = grad is not None and grad.layout is not torch.strided
            if sparse and self._sparse_rows == "dense":
                raise TypeError(
                    f'sparse_rows: "dense" cannot step the table of shape {tuple(param.shape)} of '
                    f"{param.dtype} on {param.device}; it is for tables on the CPU whose rows are "
                    "contiguous, outside transforms. Use sparse=False in the embedding"
                )


def _within(numbers: Tensor, rows: int) -> bool:
    """Whether all rows exist; else it is the embedding that says so."""
    if numbers.numel() == 0:
        return True
    low, high = torch.aminmax(numbers)
    return int(low) >= 0 and int(high) < rows


class _CatchUp:
    """A hook of a module: all rows catch up before its state is read or written.

    It belongs to the optimizer: a copy of the module, or one that is pickled, has one that does
    nothing.
    """

    def __init__(self, optimizer: LateRows | None = None) -> None:
        self._optimizer = None if optimizer is None else weakref.ref(optimizer)

    def __call__(self, *_: Any) -> None:
        optimizer = None if self._optimizer is None else self._optimizer()
        if optimizer is not None:
            optimizer.materialize()

    def __reduce__(self) -> tuple[Any, ...]:
        return _CatchUp, ()


# By the parameter's id; an optimizer keeps its parameters alive.
_readers: weakref.WeakValueDictionary[int, LateRows] = weakref.WeakValueDictionary()
_handles: list[Any] = []  # of the hook below, while anybody needs it


def _watch(optimizer: LateRows, params: Iterable[Tensor]) -> None:
    for param in params:
        _readers[id(param)] = optimizer
    if not _handles:
        _handles.append(register_module_forward_pre_hook(_before_forward))


@torch._disable_dynamo  # type: ignore[attr-defined]  # it looks at what is there when it is called
def _before_forward(module: Module, args: tuple[Any, ...]) -> None:
    if not _readers:
        while _handles:
            _handles.pop().remove()
    elif isinstance(module, Embedding | EmbeddingBag):
        optimizer = _readers.get(id(module.weight))
        if optimizer is not None:
            optimizer._read(module, module.weight, args[0] if args else None)
