"""Subclasses of NumPy's array: what has a mask is refused, all others are their memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast import _core
from tests.border.public_calls import Call, calls, fused
from tests.border.wrong_arguments import attempt

WORDS = f": {_core.MASKED_ARRAY}"


class Masked(np.ndarray):
    """A mask as other libraries have it (astropy's, for one)."""

    @property
    def mask(self) -> np.ndarray:
        return np.zeros(self.shape, bool)


class Tagged(np.ndarray):
    """No mask, and nothing else that changes what the elements mean."""

    tag = "mine"


def masked(array: np.ndarray) -> np.ndarray:
    hidden = np.zeros(array.shape, bool)
    hidden.flat[0] = True
    return np.ma.masked_array(array, mask=hidden)


MASKS = {
    "some are masked": masked,
    "none is": lambda a: np.ma.masked_array(a, mask=np.ma.nomask),
    "hard": lambda a: np.ma.masked_array(a, mask=False, hard_mask=True),
    "of another library": lambda a: a.view(Masked),
}


def replaced(value: Any, change: Any) -> Iterator[Any]:
    """An argument with one of the arrays in it changed, in each way that there is."""
    if isinstance(value, np.ndarray):
        yield change(value)
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            for other in replaced(part, change):
                yield type(value)([*value[:i], other, *value[i + 1 :]])
    elif isinstance(value, dict):
        for key, part in value.items():
            for other in replaced(part, change):
                yield {**value, key: other}


def with_arrays() -> list[Call]:
    def has_array(call: Call) -> bool:
        return any(True for v in call.arguments().values() for _ in replaced(v, masked))

    return [call for call in calls() if has_array(call)]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("call", with_arrays(), ids=str)
def test_masked_arrays_are_refused_everywhere_in_the_same_words(call: Call, mask: str) -> None:
    arguments = call.arguments()
    for name, value in arguments.items():
        for other in replaced(value, MASKS[mask]):
            given = {**call.arguments(), name: other}
            error = attempt(call, **given)
            assert isinstance(error, TypeError), (name, error)
            assert str(error).endswith(WORDS), (name, error)


def test_so_they_are_in_lists_and_on_the_way() -> None:
    x, good = masked(np.ones(4, np.float32)), np.ones(4, np.float32)
    with pytest.raises(TypeError, match=re.escape(f"params[1]{WORDS}")):
        sf.sgd_step([good, x], [good, good], lr=0.5)
    with pytest.raises(TypeError, match=re.escape(f"grads[0]{WORDS}")):
        fused()([x])
    with pytest.raises(TypeError, match=re.escape(f"params[0]{WORDS}")):
        sf.Mask([x])
    with pytest.raises(TypeError, match=re.escape(f"x[1]{WORDS}")):
        sf.Mask(good).apply([x])
    assert (good == 1).all()
    loader = sf.BatchLoader(good, [masked(np.array([0, 1]))])
    with pytest.raises(TypeError, match=re.escape(f"sampler{WORDS}")):
        next(iter(loader))
    assert (x.data == 1).all()


def test_states_with_masked_arrays_change_nothing() -> None:
    step = fused()
    before = repr(step.state_dict())
    state = fused().state_dict()
    for name in ("momentum_buffers", "ema"):
        wrong = {**state, name: [masked(state[name][0])]}
        with pytest.raises(TypeError, match=re.escape(f"state['{name}'][0]{WORDS}")):
            step.load_state_dict(wrong)
    assert repr(step.state_dict()) == before


OTHERS = {
    "matrix": np.matrix,
    "memmap": lambda a: a.view(np.memmap),
    "tagged": lambda a: a.view(Tagged),
    "recarray": lambda a: a.view(np.recarray),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("kind", OTHERS)
def test_other_subclasses_are_taken_as_their_memory(kind: str) -> None:
    change, rng = OTHERS[kind], np.random.default_rng(5)

    def both(work: Any, *shapes: tuple[int, ...]) -> None:
        plain = [rng.standard_normal(s).astype(np.float32) for s in shapes]
        others = [change(a.copy()) for a in plain]
        expected, got = work(*plain), work(*others)
        for a, b in zip(plain, others, strict=True):
            assert np.asarray(b).tobytes() == a.tobytes()
        assert repr(expected) == repr(got)

    shape = (6, 4)
    both(lambda w, g, m: sf.sgd_step(w, g, m, lr=0.5, momentum=0.9), shape, shape, shape)
    both(lambda w, g: sf.FusedSGD(w, lr=0.5, momentum=0.9)(g), shape, shape)
    both(lambda w, g: sf.row_step(w, (np.arange(6), g), lr=0.5), shape, shape)
    both(lambda w, g, r: sf.threshold_step(w, g, r, lr=0.5, density=0.3).kept, shape, shape, shape)
    both(lambda x: sf.select(x, k=3).indices, shape)
    both(lambda x: sf.clip_grad_norm_(x, 1.0), shape)
    both(lambda x: sf.soft_threshold_(x, 0.1), shape)
    both(lambda x: sf.group_soft_threshold_(x, 0.1), shape)
    both(lambda x: sf.Mask(x).density, shape)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_batches_of_a_matrix_are_those_of_its_memory() -> None:
    x = np.arange(12.0).reshape(6, 2)
    for kind in OTHERS.values():
        (batch,) = sf.BatchLoader(kind(x), [[1, 3]])
        assert type(batch) is np.ndarray
        assert (batch == x[[1, 3]]).all()
