"""A _cuda module without CUDA: it notes what it is to launch, and answers what it is told to."""

from __future__ import annotations

import ctypes
import sys
import types
from ctypes import (
    POINTER,
    c_bool,
    c_char,
    c_char_p,
    c_double,
    c_int,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any


class SgdParams(ctypes.Structure):
    _fields_ = (
        *((name, c_double) for name in ("lr", "momentum", "dampening", "weight_decay")),
        *((name, c_bool) for name in ("nesterov", "maximize", "decoupled_weight_decay")),
        ("l1", c_double),
    )


class DenseTensor(ctypes.Structure):
    _fields_ = (
        ("param", c_void_p),
        ("grad", c_void_p),
        ("momentum", c_void_p),
        ("n", c_int64),
        ("params_row", c_int),
        ("types_row", c_int),
        ("first", c_bool),
    )


class DenseRow(ctypes.Structure):
    _fields_ = (("params", SgdParams), ("lr", c_void_p))


class DenseOptions(ctypes.Structure):
    _fields_ = (("grad_scale", c_void_p), ("found_inf", c_void_p))


class Permutation(ctypes.Structure):
    _fields_ = (
        ("n", c_uint64),
        ("left_bits", c_int),
        ("right_bits", c_int),
        ("exchange", c_uint64),
        ("key", c_uint32 * 24),
        ("forward", c_uint8 * 64),
        ("backward", c_uint8 * 64),
    )


class RowOrder(ctypes.Structure):
    _fields_ = (
        ("n", c_uint64),
        ("reversed", c_bool),
        ("rows", Permutation),
        *((name, c_uint64) for name in ("block_size", "window", "blocks", "key")),
        *((name, c_uint64) for name in ("short_slot", "missing")),
    )


class GatherArray(ctypes.Structure):
    _fields_ = (
        ("source", c_void_p),
        ("out", c_void_p),
        ("stride", c_int64),
        ("row_bytes", c_int64),
    )


class DeviceInfo(ctypes.Structure):
    _fields_ = (
        ("name", c_char * 256),
        ("major", c_int),
        ("minor", c_int),
        ("multiprocessors", c_int),
    )


ASK = ctypes.CFUNCTYPE(c_int, POINTER(c_int))
INFO = ctypes.CFUNCTYPE(c_int, c_int, POINTER(DeviceInfo))
CHECK = ctypes.CFUNCTYPE(c_int, c_int)
TEXT = ctypes.CFUNCTYPE(c_void_p, c_int)
DENSE = ctypes.CFUNCTYPE(
    c_int, c_int, c_void_p, POINTER(DenseTensor), c_size_t, POINTER(DenseRow), POINTER(DenseOptions)
)
# Scratch memory's bytes, then the launchers, of which a fake notes where they are to run.
SELECT_BYTES = ctypes.CFUNCTYPE(c_int, c_void_p, c_size_t, c_void_p, c_size_t, POINTER(c_size_t))
SELECT_FIND = ctypes.CFUNCTYPE(
    c_int, c_int, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_void_p
)
SELECT_WRITE = ctypes.CFUNCTYPE(
    c_int, c_int, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_int
)
THRESHOLD_BYTES = ctypes.CFUNCTYPE(
    c_int, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, POINTER(c_size_t)
)
THRESHOLD = ctypes.CFUNCTYPE(
    c_int,
    *(c_int, c_void_p, c_void_p, c_size_t, c_void_p),
    *(c_void_p, c_size_t, c_void_p, c_void_p, c_void_p),
)


ORDER = POINTER(RowOrder)
ORDER_RANGE = ctypes.CFUNCTYPE(c_int, c_int, c_void_p, ORDER, c_int64, c_int64, c_void_p, c_int64)
ORDER_LIST = ctypes.CFUNCTYPE(c_int, c_int, c_void_p, ORDER, c_void_p, c_int64)
UNIFORM = ctypes.CFUNCTYPE(c_int, c_int, c_void_p, c_uint64, c_uint64, c_uint64, c_void_p, c_int64)
ALIAS = ctypes.CFUNCTYPE(
    c_int, c_int, c_void_p, c_void_p, c_uint64, c_uint64, c_uint64, c_void_p, c_int64
)
WORDS = ctypes.CFUNCTYPE(c_int, c_int, c_void_p, c_uint64, c_uint64, c_uint64, c_void_p, c_int64)
SEND = ctypes.CFUNCTYPE(c_int, c_int, c_void_p, POINTER(c_int64), c_void_p, c_int64)
GATHER = ctypes.CFUNCTYPE(c_int, c_int, c_void_p, POINTER(GatherArray), c_size_t, c_void_p, c_int64)


class Api(ctypes.Structure):
    """CudaApi of csrc/cuda/api.h."""

    _fields_ = (
        ("version", c_char_p),
        ("architectures", c_char_p),
        ("driver_version", ASK),
        ("device_count", ASK),
        ("device_info", INFO),
        ("check_device", CHECK),
        ("error_text", TEXT),
        ("dense_step", DENSE),
        ("order_range", ORDER_RANGE),
        ("order_indices", ORDER_LIST),
        ("order_positions", ORDER_LIST),
        ("uniform_draws", UNIFORM),
        ("alias_draws", ALIAS),
        ("random_words", WORDS),
        ("send_indices", SEND),
        ("gather", GATHER),
        ("select_bytes", SELECT_BYTES),
        ("select_find", SELECT_FIND),
        ("select_write", SELECT_WRITE),
        ("threshold_bytes", THRESHOLD_BYTES),
        ("threshold_begin", THRESHOLD),
        ("threshold_finish", THRESHOLD),
    )


def api_of(module: types.ModuleType) -> Api:
    """The launchers of a real _cuda module, to be called without the bindings."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = c_void_p, (ctypes.py_object, c_char_p)
    return Api.from_address(get(module.api, b"subgrad_fast.cuda_api"))


class FakeCuda:
    """Install it before the first array on a device is met."""

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
        errors = (count_error, launch_error, 209)
        self.texts = {e: ctypes.create_string_buffer(f"error {e}".encode()) for e in errors}

        def driver_version(out: Any) -> int:
            out[0] = driver
            return 0

        def device_count(out: Any) -> int:
            out[0] = devices
            return count_error

        def device_info(device: int, out: Any) -> int:
            out[0] = DeviceInfo(b"Fake", 9, 0, 132)
            return 0

        def dense_step(
            device: int, stream: int, tensors: Any, count: int, rows: Any, options: Any
        ) -> int:
            self.launches.append(
                {
                    "device": device,
                    "stream": stream,
                    "params": [tensors[i].param for i in range(count)],
                    "lr": rows[0].params.lr,
                }
            )
            return launch_error

        def note(name: str) -> Any:
            def launch(device: int, stream: int, tensors: int, count: int, *others: Any) -> int:
                self.launches.append(
                    {"name": name, "device": device, "stream": stream, "count": count}
                )
                return launch_error

            return launch

        def scratch_bytes(*arguments: Any) -> int:
            arguments[-1][0] = 512
            return 0

        self.api = Api(
            version.encode(),
            b"90",
            ASK(driver_version),
            ASK(device_count),
            INFO(device_info),
            CHECK(lambda device: 209 if device == broken_device else 0),
            TEXT(lambda error: ctypes.addressof(self.texts[error])),
            DENSE(dense_step),
            *(kind(self._noted(name, launch_error)) for name, kind in Api._fields_[8:16]),
            SELECT_BYTES(scratch_bytes),
            SELECT_FIND(note("find")),
            SELECT_WRITE(note("write")),
            THRESHOLD_BYTES(scratch_bytes),
            THRESHOLD(note("begin")),
            THRESHOLD(note("finish")),
        )

    def _noted(self, name: str, error: int) -> Any:
        """A launcher that notes its name, device, stream and last two arguments."""

        def launch(device: int, stream: int, *arguments: Any) -> int:
            note = {"name": name, "device": device, "stream": stream, "last": arguments[-2:]}
            self.launches.append(note)
            return error

        return launch

    def install(self) -> FakeCuda:
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, (c_void_p, c_char_p, c_void_p)
        module = types.ModuleType("subgrad_fast._cuda")
        self.name = b"subgrad_fast.cuda_api"  # the capsule keeps the pointer
        module.api = new(ctypes.addressof(self.api), self.name, None)  # type: ignore[attr-defined]
        module.fake = self  # type: ignore[attr-defined]  # as long as the module lives
        sys.modules[module.__name__] = module
        return self
