"""torch's CPU tensors in a disguise: under the interpreter they say that they are on a GPU.

That is for all tensors of the process, so sessions that import this are sessions of their own.
"""

from __future__ import annotations

import ctypes
import os

import torch

from tests.cuda.device_arrays import (
    ALLOCATE,
    API,
    AS_TENSOR,
    CPU,
    CUDA,
    Device,
    ExchangeAPI,
    capsule,
)

DISGUISED = "SUBGRAD_CUDA_MODULE" in os.environ
DEVICE = "cpu" if DISGUISED else "cuda"
HOST: list[torch.Tensor] = []  # tensors that say the truth, for tests


def is_honest(x: torch.Tensor) -> bool:
    """Whether a tensor says the truth; tests replace it."""
    return any(x is host for host in HOST)


def disguise() -> ExchangeAPI:
    """Makes torch's tensors say that they are on a device, to those who ask by the exchange API."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    theirs = get(torch.Tensor.__dlpack_c_exchange_api__, b"dlpack_exchange_api")
    api = ExchangeAPI.from_buffer_copy(ExchangeAPI.from_address(theirs))
    as_tensor = AS_TENSOR(ctypes.cast(api.as_tensor, ctypes.c_void_p).value)  # not a view of it

    def as_device_tensor(x: object, out: ctypes._Pointer) -> int:
        error = as_tensor(x, out)
        if not is_honest(x):
            out.contents.device = Device(CUDA, 0)
        return int(error)

    their_allocate = ALLOCATE(ctypes.cast(api.allocate, ctypes.c_void_p).value)

    def allocate(prototype: ctypes._Pointer, *others: object) -> int:
        prototype.contents.device = Device(CPU, 0)
        return int(their_allocate(prototype, *others))

    api.allocate = ALLOCATE(allocate)
    api.as_tensor = AS_TENSOR(as_device_tensor)
    api.current_work_stream = API.current_work_stream
    torch.Tensor.__dlpack_c_exchange_api__ = capsule(api)
    return api


KEEP = disguise() if DISGUISED else None
