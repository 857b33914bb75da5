"""What runs the kernels under test: a GPU, or the PTX interpreter on host memory."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import weakref
from typing import Any

import numpy as np

from subgrad_fast import _core
from tests.cuda.device_arrays import DeviceArray

# Interpreting takes time, so what the architectures have in common is done in full for one.
FULL = os.environ.get("PTXEMU_ARCH", "90") == "90"
GUARD = 256
PATTERN = 0xA5


class Gpu:
    """Puts arrays where kernels can reach them, each between two guards."""

    emulated = False

    def __init__(self) -> None:
        self.guards: list[Any] = []

    def array(self, values: np.ndarray, offset: int = 0) -> Any:
        """A copy of `values`, `offset` elements behind a 256-byte boundary."""
        start = GUARD + offset * values.itemsize
        whole = self.allocate(start + values.nbytes + GUARD)
        whole[:] = PATTERN
        self.guards += [whole[:start], whole[start + values.nbytes :]]
        return self.fill(whole[start : start + values.nbytes], values)

    def check_guards(self) -> None:
        """Raises AssertionError if anything was written around an array."""
        for guard in self.guards:
            assert bool((guard == PATTERN).all()), "written outside an array"

    def allocate(self, nbytes: int) -> Any:
        raise NotImplementedError

    def fill(self, memory: Any, values: np.ndarray) -> Any:
        raise NotImplementedError

    def numpy(self, array: Any) -> np.ndarray:
        raise NotImplementedError


class EmulatedGpu(Gpu):
    """Kernels may touch the bytes of the arrays, and no others: the guards included."""

    emulated = True

    def __init__(self) -> None:
        super().__init__()
        DeviceArray.make_empty = self.empty

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        """Memory full of junk."""
        size = dtype.itemsize * int(np.prod(shape))
        return self.array(np.full(size, PATTERN, np.uint8).view(dtype).reshape(shape))

    def allocate(self, nbytes: int) -> np.ndarray:
        base = np.empty(nbytes + 256, np.uint8)
        start = -base.ctypes.data % 256
        return base[start : start + nbytes]

    def fill(self, memory: np.ndarray, values: np.ndarray) -> DeviceArray:
        if memory.nbytes > 0:
            runtime = ctypes.CDLL("libptxemu.so")
            address = ctypes.c_void_p(memory.ctypes.data)
            assert runtime.cudaHostRegister(address, ctypes.c_size_t(memory.nbytes), 0) == 0
            weakref.finalize(memory.base, runtime.cudaHostUnregister, address)
        array = memory.view(values.dtype).reshape(values.shape)
        array[...] = values
        return DeviceArray(array)

    def numpy(self, array: DeviceArray) -> np.ndarray:
        return array.array

    def address(self, array: DeviceArray) -> int:
        return array.array.ctypes.data


class RealGpu(Gpu):
    """torch's tensors. NumPy has no bfloat16 that torch knows, so bytes are what is copied."""

    def allocate(self, nbytes: int) -> Any:
        import torch

        return torch.empty(nbytes, dtype=torch.uint8, device="cuda")

    def fill(self, memory: Any, values: np.ndarray) -> Any:
        import torch

        flat = np.ascontiguousarray(values).reshape(-1)
        memory.copy_(torch.from_numpy(flat.view(np.uint8)))
        return memory.view(getattr(torch, values.dtype.name)).view(values.shape)

    def numpy(self, array: Any) -> np.ndarray:
        import ml_dtypes
        import torch

        name = str(array.dtype).removeprefix("torch.")
        dtype = np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
        raw = array.detach().contiguous().view(-1).view(torch.uint8).cpu().numpy()
        return raw.view(dtype).reshape(tuple(array.shape))

    def address(self, array: Any) -> int:
        return int(array.data_ptr())


def find_machine() -> type[Gpu] | None:
    """What runs kernels in this process, if anything does.

    It is the interpreter if SUBGRAD_CUDA_MODULE names a _cuda module that was built for it, which
    is loaded here; else the GPU of this machine, if it and torch can be used.
    """
    if path := os.environ.get("SUBGRAD_CUDA_MODULE"):
        spec = importlib.util.spec_from_file_location("subgrad_fast._cuda", path)
        assert spec is not None and spec.loader is not None
        sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[spec.name])
        assert _core.cuda.problem(0) is None, _core.cuda.problem(0)
        return EmulatedGpu
    try:
        import torch
    except ImportError:
        return None
    usable = torch.cuda.is_available() and _core.cuda.problem(0) is None
    return RealGpu if usable else None
