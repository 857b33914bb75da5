"""Arrays that say they are on a GPU, for kernels that an interpreter runs on host memory.

`DeviceArray` offers the DLPack exchange API as torch's tensors do, so the whole binding path is
taken: device, stream and dtype checks, the list of tensors, the launch.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_int, c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p

import ml_dtypes
import numpy as np

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
STREAM = 0x2  # cudaStreamPerThread: a handle that is not the default


class Device(ctypes.Structure):
    _fields_ = (("type", c_int32), ("id", c_int32))


class DataType(ctypes.Structure):
    _fields_ = (("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16))


class Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = (
        ("data", c_void_p),
        ("device", Device),
        ("ndim", c_int32),
        ("dtype", DataType),
        ("shape", ctypes.POINTER(c_int64)),
        ("strides", ctypes.POINTER(c_int64)),
        ("byte_offset", c_uint64),
    )


class ManagedTensor(ctypes.Structure):
    """DLManagedTensorVersioned."""

    _fields_ = (
        ("major", c_uint32),
        ("minor", c_uint32),
        ("context", c_void_p),
        ("deleter", c_void_p),
        ("flags", c_uint64),
        ("tensor", Tensor),
    )


ALLOCATE = ctypes.PYFUNCTYPE(
    c_int, ctypes.POINTER(Tensor), ctypes.POINTER(c_void_p), c_void_p, c_void_p
)
TO_OBJECT = ctypes.PYFUNCTYPE(c_int, c_void_p, ctypes.POINTER(c_void_p))
AS_TENSOR = ctypes.PYFUNCTYPE(c_int, ctypes.py_object, ctypes.POINTER(Tensor))
WORK_STREAM = ctypes.PYFUNCTYPE(c_int, c_int32, c_int32, ctypes.POINTER(c_void_p))


class ExchangeAPI(ctypes.Structure):
    """DLPackExchangeAPI of version 1, with what a consumer without copies needs."""

    _fields_ = (
        ("major", c_uint32),
        ("minor", c_uint32),
        ("previous", c_void_p),
        ("allocate", ALLOCATE),
        ("from_object", c_void_p),
        ("to_object", TO_OBJECT),
        ("as_tensor", AS_TENSOR),
        ("current_work_stream", WORK_STREAM),
    )


KINDS = {"f": 2, "bfloat16": 4, "i": 0, "u": 1}


class DeviceArray:
    """A NumPy array in a disguise: `array` is its memory, `device` where it claims to be."""

    streams: list[tuple[int, int]] = []  # noqa: RUF012  (device type, number) of every question
    reads = 0  # how often the host has waited for numbers

    def __init__(self, array: np.ndarray, number: int = 0, kind: int = CUDA) -> None:
        self.array = array
        self.number = number
        self.kind = kind
        name = array.dtype.name
        self.code = KINDS[name if name in KINDS else array.dtype.kind]
        self.shape_ = (c_int64 * array.ndim)(*array.shape)
        self.strides_ = (c_int64 * array.ndim)(*(s // array.itemsize for s in array.strides))

    # How new ones are made.
    make_empty: Callable[[tuple[int, ...], np.dtype], DeviceArray]

    # What the package asks of arrays on a device, by torch's names.

    def tolist(self) -> list:
        DeviceArray.reads += 1
        return self.array.tolist()

    def __getitem__(self, i: int) -> np.ndarray:
        return self.array[i : i + 1].reshape(())

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def device(self) -> str:
        return f"cuda:{self.number}" if self.kind != CPU else "cpu"


@AS_TENSOR
def as_tensor(x: DeviceArray, out: ctypes._Pointer) -> int:
    t = out.contents
    t.data = x.array.ctypes.data
    t.device = Device(x.kind, x.number)
    t.ndim = x.array.ndim
    t.dtype = DataType(x.code, 8 * x.array.itemsize, 1)
    t.shape, t.strides, t.byte_offset = x.shape_, x.strides_, 0
    return 0


@WORK_STREAM
def current_work_stream(kind: int, number: int, out: ctypes._Pointer) -> int:
    DeviceArray.streams.append((kind, number))
    out[0] = STREAM
    return 0


MADE: dict[int, tuple[ManagedTensor, DeviceArray]] = {}  # that nobody has taken yet, by address


@ALLOCATE
def allocate(prototype: ctypes._Pointer, out: ctypes._Pointer, context: int, tell: int) -> int:
    wanted = prototype.contents
    kind = {0: "int", 1: "uint", 2: "float", 4: "bfloat"}[wanted.dtype.code]
    name = f"{kind}{wanted.dtype.bits}"
    dtype = np.dtype(ml_dtypes.bfloat16 if kind == "bfloat" else name)
    shape = tuple(wanted.shape[d] for d in range(wanted.ndim))
    made = DeviceArray.make_empty(shape, dtype)
    managed = ManagedTensor(1, 3, None, None, 0)
    as_tensor(made, ctypes.byref(managed.tensor))
    MADE[ctypes.addressof(managed)] = managed, made
    out[0] = ctypes.addressof(managed)
    return 0


@TO_OBJECT
def to_object(address: int, out: ctypes._Pointer) -> int:
    _, made = MADE.pop(address)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))
    out[0] = id(made)
    return 0


API = ExchangeAPI(1, 3, None, allocate, None, to_object, as_tensor, current_work_stream)


def capsule(api: ExchangeAPI) -> object:
    """The capsule in which a type offers its exchange API."""
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, (c_void_p, ctypes.c_char_p, c_void_p)
    return new(ctypes.addressof(api), b"dlpack_exchange_api", None)


DeviceArray.__dlpack_c_exchange_api__ = capsule(API)
