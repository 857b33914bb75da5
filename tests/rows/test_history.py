"""Rows that take dense steps late: the bits of `sgd_step` with a gradient of zeros elsewhere."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import subgrad_fast as sf
from subgrad_fast import _core
from tests.bits import assert_same_bits
from tests.cases import COMBINATIONS, DTYPES, L1_RULES, RULE, RULE_IDS, RULES, special_values


def dense(rows: np.ndarray, values: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The gradient as a whole array, values of one row added in their order."""
    wide = np.float64 if w.dtype == np.float64 else np.float32
    whole = np.zeros(w.shape, wide)
    for row in dict.fromkeys(rows.tolist()):
        whole[row] = -0.0
        for value in values[rows == row]:
            with np.errstate(all="ignore"):
                whole[row] += value.astype(wide)
    return whole


class Twins:
    """One table stepped whole, and one on the rows that are named."""

    def __init__(self, w: np.ndarray, m: np.ndarray | None, **history: int) -> None:
        self.whole = w.copy(), None if m is None else m.copy()
        self.late = w.copy(), None if m is None else m.copy()
        self.history = sf.RowHistory(len(w))
        if history:
            self.history._history = _core.rows.RowHistory(len(w), **history)

    def step(self, rows: np.ndarray, values: np.ndarray, **rule: Any) -> None:
        (w, m), (late_w, late_m) = self.whole, self.late
        with_momentum = rule.get("momentum", 0.0) != 0
        sf.sgd_step(w, dense(rows, values, w), m if with_momentum else None, **rule)
        sf.row_step(
            late_w,
            (rows, values),
            late_m if with_momentum else None,
            history=self.history,
            **rule,
        )

    def check(self, rows: np.ndarray | None = None) -> None:
        self.history.catch_up(*self.late, rows=rows)
        at = slice(None) if rows is None else np.unique(rows)
        for late, whole in zip(self.late, self.whole, strict=True):
            if whole is not None and late is not None:
                assert_same_bits(late[at], whole[at])


def batches(count: int, width: int, steps: int, seed: int = 0) -> Iterator[Any]:
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        rows = rng.integers(0, count, rng.integers(0, 7))
        yield rows, rng.standard_normal((len(rows), width)).astype(np.float32)


def table(count: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, width)).astype(np.float32), np.zeros((count, width), "f4")


# --- the bits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=RULE_IDS)
def test_every_rule(isa: str, rule: dict[str, Any]) -> None:
    later = {**rule, "first_step": False}
    w, m = table(12, 5)
    twins = Twins(w, m + 0.5)
    for i, (rows, values) in enumerate(batches(12, 5, 40)):
        twins.step(rows, values, **(rule if i == 0 else later))
        if i % 9 == 8:
            twins.check(rows)
    twins.check()


@pytest.mark.parametrize("rule", L1_RULES, ids=str)
def test_every_rule_with_l1(isa: str, rule: dict[str, Any]) -> None:
    later = {**rule, "first_step": False}
    twins = Twins(*table(12, 5))
    for i, (rows, values) in enumerate(batches(12, 5, 20)):
        twins.step(rows, values, lr=0.1, l1=0.05, **(rule if i == 0 else later))
    twins.check()


@pytest.mark.parametrize("width", [1, 3, 16, 17, 64, 130, 600])
@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_every_dtype(isa: str, combination: tuple[str, str, str], width: int) -> None:
    rng = np.random.default_rng(width)
    w, m = (
        special_values(DTYPES[t], 8 * width, rng).reshape(8, width)
        for t in (combination[0], combination[2])
    )
    twins = Twins(w, m)
    for _ in range(25):
        rows = rng.integers(0, 8, 3)
        values = special_values(DTYPES[combination[1]], 3 * width, rng).reshape(3, width)
        twins.step(rows, values, **RULE, dampening=0.3)
    twins.check()


@given(
    seed=st.integers(0, 999),
    count=st.integers(1, 60),
    width=st.integers(1, 40),
    plan=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.5, 0.9]),  # momentum
            st.sampled_from([0.0, 0.1]),  # decay
            st.booleans(),  # maximize
            st.integers(1, 30),  # steps
            st.sampled_from(["none", "some", "all"]),  # what catches up afterwards
        ),
        max_size=6,
    ),
    threads=st.integers(1, 3),
    most_steps=st.sampled_from([70, 1 << 31]),
)
@settings(max_examples=100, deadline=None)
def test_any_life(
    seed: int, count: int, width: int, plan: list[Any], threads: int, most_steps: int
) -> None:
    rng = np.random.default_rng(seed)
    w, m = table(count, width, seed)
    twins = Twins(w, m, most_steps=most_steps)
    sf.set_num_threads(threads, adaptive=False)
    try:
        for momentum, decay, maximize, steps, catching in plan:
            for i, (rows, values) in enumerate(batches(count, width, steps, seed)):
                lr = 0.1 / (1 + i) if seed % 2 else 0.1
                if momentum == 0.0:  # what moves momentum must not be outstanding
                    twins.check()
                twins.step(
                    rows, values, lr=lr, momentum=momentum, weight_decay=decay, maximize=maximize
                )
            if catching != "none":
                twins.check(None if catching == "all" else rng.integers(0, count, 5))
        twins.check()
    finally:
        sf.set_num_threads(0)
    assert twins.history.lacking() == 0 and not twins.history.pending


def test_thousands_of_steps_with_a_schedule_and_several_tables() -> None:
    rng = np.random.default_rng(0)
    twins = [Twins(*table(n, width, n)) for n, width in ((3000, 4), (50, 7), (1, 3))]
    for step in range(3000):
        rule = {
            **RULE, "lr": 0.05 * (1 + np.cos(step / 500)), "first_step": step == 0,
            "momentum": 0.9 if step < 2000 else 0.8, "grad_scale": 1.0 if step % 3 else 2.0,
            "max_norm": None, "clip_value": 0.1 if step % 2 else None,
        }  # fmt: skip
        grads = []
        for twin in twins:
            count, width = twin.whole[0].shape
            rows = (count * rng.random(4) ** 4).astype(np.int64)
            values = rng.standard_normal((4, width)).astype(np.float32)
            grads.append((rows, values))
            sf.sgd_step(twin.whole[0], dense(rows, values, twin.whole[0]), twin.whole[1], **rule)
        sf.row_step(
            [twin.late[0] for twin in twins],
            grads,
            [twin.late[1] for twin in twins],
            history=[twin.history for twin in twins],
            **rule,
        )
    most = max(twin.history.lacking() for twin in twins)
    assert most > 1000, "else nothing is tested"
    for twin in twins:
        twin.check()


def test_rows_that_are_shared_among_threads() -> None:
    twins = Twins(*table(3, 70_000))
    for rows, values in batches(3, 70_000, 12):
        twins.step(rows % 2, values, **RULE, nesterov=True)
    twins.check()


def test_momentum_that_has_run_down_to_denormals() -> None:
    w, m = table(2, 40)
    twins = Twins(w, m + 1e-38)
    rows = np.zeros(1, np.int64)
    for _ in range(900):
        twins.step(rows, np.zeros((1, 40), np.float32), lr=0.1, momentum=0.9)
    assert 0 < abs(twins.whole[1]).max() < 1e-40
    twins.check()


def test_scales_that_are_not_finite() -> None:
    twins = Twins(*table(4, 5))
    bad = np.full((1, 5), np.inf, np.float32)
    with np.errstate(all="ignore"):
        twins.step(np.array([1]), bad, lr=0.1, max_norm=1.0)  # the coefficient is 0
        twins.check()
        twins.step(np.array([1]), bad * 0, lr=0.1, max_norm=1.0)  # and here it is NaN
        twins.check()
    assert np.isnan(twins.late[0]).all()


def test_a_skipped_step_is_none() -> None:
    twins = Twins(*table(4, 5))
    for value in (1.0, np.nan, 1.0):
        twins.step(np.array([1]), np.full((1, 5), value, "f4"), **RULE, skip_nonfinite=True)
    twins.check()
    assert np.isfinite(twins.late[0]).all()


def test_the_control_lazy_rows_are_others() -> None:
    w, m = table(12, 5)
    twins = Twins(w, m)
    for rows, values in batches(12, 5, 10):
        twins.step(rows, values, **RULE)
        sf.row_step(w, (rows, values), m, **RULE)
    assert (w != twins.whole[0]).any()


# --- what is remembered --------------------------------------------------------------------------


def test_steps_that_leave_rows_alone_are_not_remembered() -> None:
    history = sf.RowHistory(4)
    w, _ = table(4, 5)
    for _ in range(3):
        sf.row_step(w, (np.array([1]), f := np.ones((1, 5), "f4")), lr=0.1, history=history)
    assert not history.pending and history.lacking() == 0
    sf.row_step(w, (np.array([1]), f), lr=0.1, weight_decay=0.1, history=history)
    assert history.pending and history.lacking() == 3 - 1  # of four, one named and one in turn
    assert repr(history) == "RowHistory(4)" and history.rows == 4


def test_no_row_lacks_more_than_a_round() -> None:
    w, m = table(3000, 1)
    history = sf.RowHistory(3000)
    none = np.zeros(0, np.int64), np.zeros((0, 1), np.float32)
    lacking = []
    for _ in range(1200):
        sf.row_step(w, none, m, history=history, **RULE)
        lacking.append(history.lacking())
    # Three rows a step are brought up to date; all others lack the step.
    assert set(lacking) == {3000 - 3}


def test_copies_and_pickles() -> None:
    w, m = table(4, 5)
    history = sf.RowHistory(4)
    for make in (copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))):
        assert make(history).rows == 4
    sf.row_step(w, (np.array([1]), np.ones((1, 5), "f4")), m, history=history, **RULE)
    with pytest.raises(ValueError, match="RowHistory: rows lack steps"):
        copy.copy(history)


# --- errors --------------------------------------------------------------------------------------


def test_errors_leave_everything_as_it_was() -> None:
    w, m = table(4, 5)
    history = sf.RowHistory(4)
    grad = np.array([1]), np.ones((1, 5), np.float32)
    sf.row_step(w, grad, m, history=history, **RULE)
    before = w.copy(), m.copy()
    other = sf.RowHistory(5)
    refused: list[tuple[Any, type, str]] = [
        (lambda: sf.RowHistory(-1), ValueError, "rows: expected an integer from 0"),
        (lambda: sf.RowHistory(2.0), TypeError, "rows: expected an integer"),  # type: ignore[arg-type]
        (lambda: history.catch_up(w), ValueError, "momentum_buffer: needed"),
        (lambda: history.catch_up(w[:3], m[:3]), ValueError, "param: of 4 rows, and the parameter"),
        (lambda: history.catch_up(w, m, [4]), ValueError, "rows: row 4 at position 0 is outside"),
        (lambda: history.catch_up(w, m, [-1]), ValueError, "rows: row -1 at position 0"),
        (lambda: history.catch_up(w, m, [0.5]), TypeError, "rows: expected row numbers"),
        (lambda: history.catch_up(w, w), ValueError, "momentum_buffer: shares memory with param"),
        (lambda: history.catch_up(w.T, m.T), ValueError, "param: expected each row"),
        (
            lambda: sf.row_step(w, grad, m, history=other, **RULE),
            ValueError,
            "history: of 5 rows, and the parameter has 4",
        ),
        (
            lambda: sf.row_step(w, grad, m, history=object(), **RULE),
            TypeError,
            "history: expected a RowHistory, got object",
        ),
        (
            lambda: sf.row_step([w], [grad], [m], history=[history, other], **RULE),
            ValueError,
            "history: expected 1 like params, got 2",
        ),
        (
            lambda: sf.row_step([w, w + 1], [grad, grad], history=[history, history], lr=0.1),
            ValueError,
            r"history\[0\]: rows lack steps that move momentum",
        ),
        (
            lambda: sf.row_step(
                [w, w + 1], [grad] * 2, [m, m + 1], history=[history, history], **RULE
            ),
            ValueError,
            r"history\[1\]: the history of another parameter",
        ),
    ]
    for call, kind, message in refused:
        with pytest.raises(kind, match=message):
            call()
    assert_same_bits(w, before[0])
    assert_same_bits(m, before[1])
    history.catch_up(w, m)


def test_threads_take_turns() -> None:
    w, m = table(2000, 8)
    twins = Twins(w, m)
    every = np.arange(2000)
    for rows, values in batches(2000, 8, 30):
        twins.step(rows, values, **RULE)
    threads = [
        threading.Thread(target=twins.history.catch_up, args=(*twins.late, every[i::2]))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    twins.check()
