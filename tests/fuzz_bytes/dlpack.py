"""DLPack's structs, and producers that fill them in as they please."""

from __future__ import annotations

import ctypes
from typing import Any


class DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class Managed(ctypes.Structure):
    _fields_ = (
        ("tensor", DLTensor),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


class Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", DLTensor),
    )


Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype = ctypes.py_object
new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, Destructor]


class Loan:
    """A capsule of a struct, and how often it was destroyed."""

    def __init__(self, struct: ctypes.Structure, name: bytes) -> None:
        self.struct = struct
        self.name = name  # the capsule keeps its address
        self.destroyed = 0
        self._destructor = Destructor(self._destroy)

    def _destroy(self, _: int) -> None:
        self.destroyed += 1

    def capsule(self) -> Any:
        return new_capsule(ctypes.addressof(self.struct), self.name, self._destructor)


class ProducerError(Exception):
    """What a producer raises of its own."""


class Producer:
    """Answers what it was told to; an exception is raised."""

    def __init__(self, device: Any, answers: list[Any]) -> None:
        self.device = device
        self.answers = answers  # one after the other, the last one again and again

    def __dlpack_device__(self) -> Any:
        return _given(self.device)

    def __dlpack__(self, **options: Any) -> Any:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return _given(answer)


def _given(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer.capsule() if isinstance(answer, Loan) else answer
