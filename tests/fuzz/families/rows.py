"""Lives of `row_step`, against the formula in NumPy, row by row."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

import subgrad_fast as sf
from tests.bits import assert_same_bits
from tests.cases import COMBINATIONS
from tests.fuzz import wrong
from tests.fuzz.life import Life
from tests.fuzz.memory import Guarded, Layout
from tests.fuzz.tensors import array, one_or_list, shape_of, spoil, terms, text
from tests.oracles.dense import sgd_rows

_ROWS = Layout(rows_contiguous=True, aligned=True)
_VALUES = Layout(broadcast=True, aligned=True)


def live(life: Life) -> None:
    for _ in range(life.number(10, 20)):
        one_step(life)


def one_step(life: Life) -> None:
    rule = terms(life)
    if life.chance(0.2):
        rule["first_step"] = True
    single = life.chance(0.3)
    w, m, rows, values, grads = [], [], [], [], []
    for _ in range(1 if single else life.pick((1, 2, 3))):
        types = life.pick(COMBINATIONS)
        most = 60 if types[0] == "float64" else 300
        shape = shape_of(life, most, dimensions=(1, 2, 2, 3))
        count = life.number(0, 12) if shape[0] else 0
        w.append(array(life, types[0], shape, _ROWS))
        m.append(array(life, types[2], shape, _ROWS))
        if life.chance(0.3):
            m[-1].view[life.numbers.random(shape[0]) < 0.5] = 0
        numbers = life.numbers.integers(0, max(shape[0], 1), count)
        rows.append(numbers.astype(life.pick((np.int32, np.int64))))
        values.append(array(life, types[1], (count, *shape[1:]), _VALUES))
        grads.append(_gradient(life, rows[-1], values[-1], shape))
    lists: dict[str, Any] = {"params": w}
    if rule.get("momentum"):
        lists["momentum_buffers"] = m
    call: dict[str, Any] = {name: one_or_list(life, f, single) for name, f in lists.items()}
    call["grads"] = grads[0] if single else grads
    call |= rule
    if spoiled := life.chance(0.2):
        if life.chance(0.5):
            _spoil_gradient(life, call, rows, values, w, single)
        else:
            spoil(life, call, lists)
    rule.setdefault("momentum", 0.0)
    want = [
        sgd_rows(np.array(p.view), r, np.array(d.view), np.array(b.view), **rule)
        for p, r, d, b in zip(w, rows, values, m, strict=True)
    ]
    outcome = life.call(
        f"row_step rows={[r.tolist() for r in rows]} {text(call | {'grads': 0}, lists)}",
        partial(sf.row_step, **call),
        memory=values,
        written=[*w, *m],
        spoiled=spoiled,
    )
    if outcome.done and not spoiled:
        for i, (new_w, new_m) in enumerate(want):
            assert_same_bits(np.array(w[i].view), new_w, f"params[{i}]")
            if rule["momentum"]:
                assert_same_bits(np.array(m[i].view), new_m, f"momentum_buffers[{i}]")


def _gradient(life: Life, rows: np.ndarray, values: Guarded, shape: tuple[int, ...]) -> Any:
    """A pair of rows and values, or torch's sparse tensor of them."""
    if isinstance(values.array, torch.Tensor) and life.chance(0.5):
        numbers = torch.from_numpy(rows.astype(np.int64))[None]
        return torch.sparse_coo_tensor(numbers, values.array, shape, check_invariants=False)
    kind = life.pick((np.asarray, torch.from_numpy, np.ndarray.tolist))
    return kind(rows), values.array


def _spoil_gradient(
    life: Life,
    call: dict[str, Any],
    rows: list[np.ndarray],
    values: list[Guarded],
    params: list[Guarded],
    single: bool,
) -> None:
    """Makes the rows or the values of one gradient wrong ones."""
    at = life.rng.randrange(len(rows))
    numbers, good = rows[at], values[at].array
    size = params[at].view.shape[0]
    bad_rows = [
        np.append(numbers, size),
        np.append(numbers, -1)[-len(numbers) :],
        np.full(numbers.shape, size),
        np.full(numbers.shape, 2**62),
        np.full(numbers.shape, -(2**63)),
        numbers.astype(np.float64),
        numbers.astype(np.uint8),
        numbers.astype(bool),
        numbers[None],
        numbers[:-1],
        torch.zeros(len(numbers), device="meta", dtype=torch.int64),
        wrong.array(life, numbers),
        None,
        range(size, size + len(numbers)),
        [1e9] * len(numbers),
    ]
    gradient: Any = life.pick(
        (
            (life.pick(bad_rows), good),
            (life.pick(bad_rows), good),
            (numbers, wrong.array(life, values[at].view)),
            (numbers, params[at].array),
            (numbers,),
            (numbers, good, good),
            wrong.array(life, params[at].view),
            _raw_sparse(size, good),
        )
    )
    life.note(f"  wrong gradient {at}")
    if single:
        call["grads"] = gradient
    else:
        call["grads"] = [*call["grads"][:at], gradient, *call["grads"][at + 1 :]]


def _raw_sparse(size: int, values: Any) -> Any:
    """A sparse tensor whose rows are out of range: torch does not look, when told so."""
    if not isinstance(values, torch.Tensor):
        values = torch.ones(values.shape)
    rows = torch.full((1, values.shape[0]), size + 5)
    shape = (max(size, 1), *values.shape[1:])
    return torch.sparse_coo_tensor(rows, values, shape, check_invariants=False)
