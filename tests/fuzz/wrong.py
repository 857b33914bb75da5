"""Wrong arguments of every kind: types, lengths, dtypes, numbers, and objects that lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from tests.fuzz.life import LEFT_OUT, Lie, Life

# --- objects that lie -----------------------------------------------------------------------------


class ShortList(list):
    """A list that claims to be empty."""

    def __len__(self) -> int:
        return 0


class LongTuple(tuple):  # noqa: SLOT001
    """A tuple that claims to be long."""

    def __len__(self) -> int:
        return 1000


class RaisingList(list):
    """A list whose elements cannot be had."""

    def __iter__(self) -> Any:
        raise Lie("iter")

    def __getitem__(self, _: Any) -> Any:
        raise Lie("getitem")


class NoCapsule:
    """Claims to be a producer of DLPack and hands over something else."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __dlpack__(self, *_: Any, **__: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def __dlpack_device__(self) -> Any:
        return (1, 0)


class NoDevice(NoCapsule):
    """... and is on no device that anybody knows."""

    def __dlpack_device__(self) -> Any:
        return (77, -3)


class NoArray:
    """Claims to convert to an array and has a length."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __array__(self, *_: Any, **__: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def __len__(self) -> int:
        return 5


class Unshaped(np.ndarray):
    """An array whose shape is a lie to whoever asks in Python."""

    @property
    def shape(self) -> Any:  # type: ignore[override]
        return (3, 1, 4)


class Unwilling(torch.Tensor):
    """A tensor that refuses every function."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise Lie(str(func))


class NoNumber:
    """Raises where a number is wanted of it."""

    def __float__(self) -> float:
        raise Lie("float")

    def __index__(self) -> int:
        raise Lie("index")

    def __bool__(self) -> bool:
        raise Lie("bool")


# --- single values --------------------------------------------------------------------------------

NUMBERS: list[Callable[[], Any]] = [
    lambda: None,
    lambda: math.nan,
    lambda: math.inf,
    lambda: -math.inf,
    lambda: -1,
    lambda: -1e-300,
    lambda: 1e300,
    lambda: 2**63,
    lambda: 2**64,
    lambda: -(2**63) - 1,
    lambda: 10**400,
    lambda: "0.1",
    lambda: b"1",
    lambda: 1j,
    lambda: [0.1],
    lambda: True,
    object,
    NoNumber,
    lambda: np.float16(0.5),
    lambda: np.int8(-3),
    lambda: np.zeros(2),
    lambda: np.datetime64("2020-01-01"),
    lambda: torch.tensor(0.5),
    lambda: torch.zeros(2),
    lambda: torch.tensor(1j),
]


def number(life: Life) -> Any:
    """Something in place of a number; some of it may do as one."""
    return life.pick(NUMBERS)()


def freed(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A view whose memory is freed; its address is not null."""
    whole = torch.ones(8 + math.prod(shape), dtype=dtype)
    part = whole[8:].view(shape)
    whole.untyped_storage().resize_(0)
    return part


def _used_capsule() -> Any:
    capsule = torch.ones(3).__dlpack__()
    torch.utils.dlpack.from_dlpack(capsule)
    return capsule


def _sparse(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.zeros(shape).to_sparse()


ARRAYS: dict[str, Callable[[np.ndarray], Any]] = {
    "none": lambda _: None,
    "string": lambda _: "array",
    "number": lambda _: 3.0,
    "object": lambda _: object(),
    "list": lambda x: np.asarray(x, np.float64).tolist(),
    "bytes": lambda x: bytes(x.size),
    "integers": lambda x: np.ones(x.shape, np.int64),
    "bool": lambda x: np.ones(x.shape, bool),
    "complex": lambda x: np.ones(x.shape, np.complex64),
    "objects": lambda x: np.full(x.shape, None),
    "times": lambda x: np.zeros(x.shape, "M8[s]"),
    "swapped": lambda x: np.ones(x.shape, ">f4"),
    "record": lambda x: np.zeros(x.shape, [("a", "f4"), ("b", "i1")]),
    "long double": lambda x: np.ones(x.shape, np.longdouble),
    "masked": lambda x: np.ma.masked_all(x.shape, np.float32),
    "longer": lambda x: np.ones((*x.shape[:-1], x.shape[-1] + 1) if x.ndim else 2, np.float32),
    "deeper": lambda x: np.ones((*x.shape, 1), np.float32),
    "scalar": lambda _: np.ones((), np.float32),
    "expanded": lambda x: np.broadcast_to(np.float32(1), x.shape),
    "read-only": lambda x: _frozen(np.ones(x.shape, x.dtype)),
    "unshaped": lambda x: np.ones(x.shape, np.float32).view(Unshaped),
    "tensor of integers": lambda x: torch.ones(x.shape, dtype=torch.int32),
    "complex tensor": lambda x: torch.ones(x.shape, dtype=torch.complex64),
    "conjugated": lambda x: torch.ones(x.shape, dtype=torch.complex64).conj(),
    "negated": lambda x: torch.ones(x.shape, dtype=torch.complex64).conj().imag,
    "sparse": lambda x: _sparse(x.shape),
    "meta": lambda x: torch.ones(x.shape, device="meta"),
    "expanded tensor": lambda x: torch.ones(()).expand(x.shape),
    "freed": lambda x: freed(x.shape),
    "unwilling": lambda x: torch.ones(x.shape).as_subclass(Unwilling),
    "no capsule": lambda _: NoCapsule(7),
    "raising capsule": lambda _: NoCapsule(Lie("dlpack")),
    "used capsule": lambda _: NoCapsule(_used_capsule()),
    "no device": lambda _: NoDevice(Lie("dlpack")),
    "no array": lambda _: NoArray(Lie("array")),
    "bad array": lambda _: NoArray("x"),
}


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def array(life: Life, like: np.ndarray) -> Any:
    """Something in place of an array of this shape and dtype; some of it may do as one."""
    name = life.pick([name for name in ARRAYS if name not in LEFT_OUT])
    life.note(f"  wrong: {name}")
    return ARRAYS[name](like)


# --- lists of arrays ------------------------------------------------------------------------------


def _lies() -> Iterator[Any]:
    raise Lie("next")
    yield


LISTS: dict[str, Callable[[list[Any]], Any]] = {
    "none": lambda _: None,
    "empty": lambda _: [],
    "shorter": lambda arrays: arrays[:-1],
    "longer": lambda arrays: [*arrays, arrays[-1]] if arrays else [np.ones(1, np.float32)],
    "twice": lambda arrays: [*arrays[:-1], arrays[0]] if arrays else [],
    "set": lambda arrays: {id(a) for a in arrays},
    "dict": lambda arrays: dict(enumerate(arrays)),
    "nested": lambda arrays: [arrays],
    "number": lambda _: 5,
    "text": lambda _: "params",
    "short list": ShortList,
    "long tuple": LongTuple,
    "raising list": RaisingList,
    "iterator": iter,
    "raising iterator": lambda _: _lies(),
    "type": lambda _: np.ndarray,
}


def arrays(
    life: Life, given: Sequence[Any], views: Sequence[np.ndarray], others: Sequence[Any]
) -> Any:
    """A list of arrays with something wrong, such as an element that is one of `others`."""
    changed = list(given)
    if not changed or life.chance(0.3):
        name = life.pick([name for name in LISTS if name not in LEFT_OUT])
        life.note(f"  wrong list: {name}")
        return LISTS[name](changed)
    at = life.rng.randrange(len(changed))
    if others and life.chance(0.2):
        life.note(f"  wrong: element {at} is another's")
        changed[at] = life.pick(others)
    else:
        changed[at] = array(life, views[at])
    return changed
