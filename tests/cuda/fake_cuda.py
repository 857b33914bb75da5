"""A _cuda module without CUDA: it notes what it is to launch, and answers what it is told to.

Launchers and structs are those that `_core` was compiled with.
"""

from __future__ import annotations

import ctypes
import sys
import types
from collections.abc import Callable
from ctypes import c_char_p, c_int, c_size_t, c_void_p
from typing import Any

import numpy as np

from subgrad_fast._core import testing


def struct(name: str) -> np.dtype:
    """A struct of csrc/cuda/api.h with those of its fields that tests need."""
    rows = [row for row in testing.cuda_fields() if row[0] == name]
    _, sizes, names, formats, offsets = map(list, zip(*rows, strict=True))
    spec = {"names": names, "formats": formats, "offsets": offsets, "itemsize": sizes[0]}
    return np.dtype(spec)  # type: ignore[call-overload]


DENSE_TENSOR = struct("DenseTensor")
DENSE_ROW = struct("DenseGroup")
DENSE_OPTIONS = struct("CudaDenseOptions")
GATHER_ARRAY = struct("GatherArray")
DEVICE_INFO = struct("CudaDeviceInfo")

# Addresses are numbers, 0 for null.
LAUNCHERS = {
    name: ctypes.CFUNCTYPE(*(np.ctypeslib.as_ctypes_type(np.dtype(f)) for f in formats))
    for name, formats in testing.cuda_launchers().items()
}


class Api(ctypes.Structure):
    """CudaApi of csrc/cuda/api.h."""

    _fields_ = (("version", c_char_p), ("architectures", c_char_p), *LAUNCHERS.items())


def api_of(module: types.ModuleType) -> Api:
    """The launchers of a real _cuda module, to be called without the bindings."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = c_void_p, (ctypes.py_object, c_char_p)
    return Api.from_address(get(module.api, b"subgrad_fast.cuda_api"))


def structs(dtype: np.dtype, *values: tuple[Any, ...]) -> np.ndarray:
    """Structs to be given to a launcher: what has no value is zero."""
    made = np.zeros(len(values), dtype)
    for i, value in enumerate(values):
        made[i] = value
    return made


def structs_at(address: int, dtype: np.dtype, count: int = 1) -> np.ndarray:
    """What a launcher is given a pointer to."""
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return np.frombuffer(memory, dtype)


class FakeCuda:
    """Install it before the first array on a device is met. `count_error` may be changed later.

    `launches` has the name, device, stream and further arguments of every launch.
    """

    def __init__(
        self,
        version: str,
        *,
        driver: int = 13000,
        devices: int = 2,
        count_error: int = 0,
        broken_device: int = -1,
        launch_error: int = 0,
    ) -> None:
        self.launches: list[dict[str, Any]] = []
        self.count_error = count_error
        errors = (count_error, launch_error, 209)
        self.texts = {e: ctypes.create_string_buffer(f"error {e}".encode()) for e in errors}

        def driver_version(out: int) -> int:
            c_int.from_address(out).value = driver
            return 0

        def device_count(out: int) -> int:
            c_int.from_address(out).value = devices
            return self.count_error

        def device_info(device: int, out: int) -> int:
            structs_at(out, DEVICE_INFO)[:] = (b"Fake", 9, 0)
            return 0

        def scratch_bytes(*arguments: int) -> int:
            c_size_t.from_address(arguments[-1]).value = 512
            return 0

        def launcher(name: str) -> Callable[..., int]:
            def launch(device: int, stream: int, *arguments: int) -> int:
                note: dict[str, Any] = {"name": name, "device": device, "stream": stream}
                note["arguments"] = arguments
                if name == "dense_step":
                    tensors, count, rows, _ = arguments
                    note["params"] = structs_at(tensors, DENSE_TENSOR, count)["param"].tolist()
                    note["lr"] = structs_at(rows, DENSE_ROW)["params.lr"][0]
                self.launches.append(note)
                return launch_error

            return launch

        functions = {name: launcher(name) for name in LAUNCHERS} | {
            "driver_version": driver_version,
            "device_count": device_count,
            "device_info": device_info,
            "check_device": lambda device: 209 if device == broken_device else 0,
            "error_text": lambda error: ctypes.addressof(self.texts[error]),
            "select_bytes": scratch_bytes,
            "threshold_bytes": scratch_bytes,
        }
        self.api = Api(
            version.encode(),
            b"90",
            **{name: kind(functions[name]) for name, kind in LAUNCHERS.items()},
        )

    def install(self) -> FakeCuda:
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, (c_void_p, c_char_p, c_void_p)
        module = types.ModuleType("subgrad_fast._cuda")
        self.name = b"subgrad_fast.cuda_api"  # the capsule keeps the pointer
        module.api = new(ctypes.addressof(self.api), self.name, None)  # type: ignore[attr-defined]
        module.fake = self  # type: ignore[attr-defined]  # as long as the module lives
        sys.modules[module.__name__] = module
        return self
