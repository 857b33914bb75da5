"""What crosses the border by itself: producers, buffers, payloads."""

from __future__ import annotations

from typing import Any

import numpy as np

import subgrad_fast as sf
from subgrad_fast import _core
from tests.leaks.families import Call, Families, refused, vectors

family = Families()


class Producer:
    """Hands an array out by DLPack only."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class OldProducer(Producer):
    """... as before DLPack 1.0."""

    def __dlpack__(self) -> Any:  # type: ignore[override]
        return self.array.__dlpack__()


@family
def dlpack_producers() -> Call:
    w, g = vectors(2)
    locked = vectors(1)[0]
    locked.flags.writeable = False
    fixed = refused(ValueError)(lambda: sf.sgd_step(locked, g, lr=0.1))
    integers = refused(TypeError)(lambda: sf.sgd_step(Producer(np.arange(3)), g[:3], lr=0.1))
    return lambda: (
        sf.sgd_step(Producer(w), OldProducer(g), lr=0.1),
        sf.sgd_step(OldProducer(w), g, lr=0.1),
        fixed(),
        integers(),
    )


@family
def own_buffers() -> Call:
    (x,) = vectors(1)

    class Capsule:
        def __init__(self) -> None:
            self.capsule = _core.optimizer.new_buffer(x, True)

        def __dlpack__(self, **_: Any) -> Any:
            return self.capsule

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    return lambda: (np.from_dlpack(Capsule())[0], Capsule())


@family
def exchange() -> Call:
    out, residual = vectors(2, 100)
    indices, values = np.arange(3, dtype=np.int32), np.ones(3, np.float32)
    payload = np.zeros((2, 16 * 8), np.uint8)
    parts = [(indices, values, 0, residual)]
    full = refused(ValueError)(lambda: _core.exchange.pack(payload[0, :8], out, False, parts))
    bad = refused(ValueError)(lambda: _core.exchange.merge(out, payload, [3, 17], False, 0.5))

    def call() -> None:
        for row in payload:
            _core.exchange.pack(row, out, False, parts)
        _core.exchange.merge(out, payload, [3, 3], False, 0.5)
        full()
        bad()

    return call


@family
def what_there_is() -> Call:
    threads = refused(ValueError)(lambda: sf.set_num_threads(-1))
    return lambda: (sf.available_isas(), sf.build_info(), sf.get_num_threads(), threads())
