"""DLPack producers that say what is not so: they are refused, or taken at a word that is true."""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import numpy as np

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.fuzz_bytes.dlpack import DLTensor, Loan, Managed, Producer, ProducerError, Versioned
from tests.fuzz_bytes.layouts import FLOATS, Memory
from tests.fuzz_bytes.left_out import LEFT_OUT
from tests.fuzz_bytes.source import Source
from tests.oracles.dense import sgd

# What a consumer may raise: its own refusals, and what Python makes of an answer of no use.
REFUSALS = (TypeError, ValueError, BufferError, IndexError, OverflowError, RuntimeError)
CODES = {"float32": (2, 32), "float64": (2, 64), "float16": (2, 16), "bfloat16": (4, 16)}

NAMES = [b"dltensor", b"dltensor_versioned", b"used_dltensor", b"used_dltensor_versioned", b"x"]


# Lies such as a consumer can see: that a size is too large, or a stride, is none.
LIES = ["lanes", "bits", "code", "device", "size", "ndim", "shape", "data"]


def _lie(tensor: DLTensor, shape: Any, array: np.ndarray, source: Source) -> bool:
    """Makes a description wrong. Returns whether it was; of a scalar some things are always so."""
    lie = source.pick(LIES)
    at = source.below(max(array.ndim, 1))
    if lie in LEFT_OUT or (lie in ("size", "shape") and array.ndim == 0):
        return False
    if lie == "lanes":
        tensor.lanes = source.pick([0, 2, 2**16 - 1])
    elif lie == "bits":
        tensor.bits = source.pick([0, 1, 8, 24, 33, 128])
    elif lie == "code":
        tensor.code = source.pick([0, 1, 3, 5, 6, 7, 17, 255])
    elif lie == "device":
        tensor.device_type = source.pick([2, 4, 7, 10, 0, -1, 13])
    elif lie == "size":
        shape[at] = source.pick([-1, -(2**31), -(2**63)])
    elif lie == "ndim":
        tensor.ndim = source.pick([-1, -(2**31)])
    elif lie == "shape":
        tensor.shape = None
    elif array.size == 0:
        return False
    else:
        tensor.data = None
    return True


def _fill(tensor: DLTensor, array: np.ndarray, source: Source) -> tuple[bool, list[Any]]:
    """Describes an array. Whether that is true, and what must live as long."""
    n = array.ndim
    shape = (ctypes.c_int64 * max(n, 1))(*array.shape)
    strides = (ctypes.c_int64 * max(n, 1))(*(s // array.itemsize for s in array.strides))
    offset = source.pick([0, 8, array.itemsize])
    tensor.data = array.__array_interface__["data"][0] - offset
    tensor.byte_offset = offset
    tensor.device_type, tensor.device_id = 1, 0
    tensor.ndim = n
    tensor.code, tensor.bits = CODES[str(array.dtype)]
    tensor.lanes = 1
    tensor.shape, tensor.strides = shape, strides
    if array.flags.c_contiguous and source.flag():
        tensor.strides = None
    lies = [_lie(tensor, shape, array, source) for _ in range(source.pick([0, 0, 1, 1, 2]))]
    return not any(lies), [shape, strides]


def _answer(array: np.ndarray, source: Source) -> tuple[bool, Loan, list[Any]]:
    """A capsule, whether it says the truth, and whether what it lends may be written."""
    name = source.pick(NAMES) if source.rarely() else source.pick(NAMES[:2])
    struct: Any
    if name.endswith(b"versioned"):
        struct = Versioned(major=1, minor=source.below(4))
        struct.flags = source.pick([0, 0, 0, 1, 2, 3, 4])
        if source.rarely() and "version" not in LEFT_OUT:
            struct.major = source.pick([0, 2, 2**32 - 1])
    else:
        struct = Managed()
    true, alive = _fill(struct.tensor, array, source)
    if name.startswith((b"used", b"x")) or (name == NAMES[1] and struct.major != 1):
        true = False
    return true, Loan(struct, name), alive


def producers(data: bytes) -> None:
    source = Source(data)
    memory = Memory(source)
    dtype = source.pick(FLOATS)
    shape = memory.shape()
    arrays = [memory.array(shape, dtype) for _ in range(2)]
    for i, array in enumerate(arrays):
        if any(s % array.itemsize for s in array.strides):
            arrays[i] = np.ascontiguousarray(array)  # DLPack counts elements
    w, g = arrays
    told, given, loans, alive = [], [], [], []
    for array in arrays:
        true, loan, more = _answer(array, source)
        device: Any = (1, 0)
        answers: list[Any] = [loan]
        if source.rarely():
            device = source.pick(
                [None, (), (2, 0), [1, 0], ("a", 0), 1, (2**40, 0), ProducerError(), (0, 0)]
            )
            true = true and device == [1, 0]
        if source.rarely():
            answers = source.pick([[None], [7], [ProducerError()], [TypeError("old"), loan]])
            true = true and len(answers) == 2
        elif source.rarely():
            answers = [StopIteration()]
            true = False
        told.append(true)
        given.append(Producer(device, answers))
        loans.append(loan)
        alive.append(more)
    true = all(told)
    # The protocol before DLPack 1.0 cannot say that memory is read-only.
    writable = not (loans[0].name == NAMES[1] and loans[0].struct.flags & 1)
    if source.flag():  # one of the two is an array
        which = source.below(2)
        given[which] = arrays[which]
        true = told[1 - which]
        writable = writable if which else arrays[0].flags.writeable
    want = sgd(w.copy(), g.copy(), lr=0.1)[0]
    before = memory.block.copy()
    old = w.copy()
    try:
        sf.sgd_step(given[0], given[1], lr=0.1)
    except (*REFUSALS, ProducerError, StopIteration):
        assert np.array_equal(memory.block, before)
        assert w.tobytes() == old.tobytes()
    else:
        assert true, "a lie was believed"
        assert writable or w.size == 0, "what is lent to be read was written"
        assert_same_bits(w, want)
    del given
    gc.collect(0)
    for loan in loans:
        assert loan.destroyed <= 2
