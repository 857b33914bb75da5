"""The dense step on a device: the bits of every instruction set of the CPU, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast._core import testing
from tests.bits import assert_same_bits
from tests.cases import (
    COMBINATIONS,
    DTYPES,
    L1_RULES,
    RULES,
    around_16_bit_values,
    every_isa,
    special_arrays,
)
from tests.cuda.machines import Gpu

EVERY_RULE = [*RULES, *({"lr": 0.1, "l1": 3.0, **rule} for rule in L1_RULES)]
TILE = 2048  # elements that a block takes at once, of any types


def step_and_check(gpu: Gpu, w, g, m, rule, what: str, offsets=(0, 0, 0)) -> None:
    on_w, on_g = gpu.array(w, offsets[0]), gpu.array(g, offsets[1])
    on_m = None if m is None else gpu.array(m, offsets[2])
    sf.sgd_step(on_w, on_g, on_m, **rule)
    for isa in every_isa():
        want_w, want_m = w.copy(), None if m is None else m.copy()
        sf.sgd_step(want_w, g, want_m, **rule)
        assert_same_bits(gpu.numpy(on_w), want_w, f"{what} param against {isa}")
        if m is not None:
            assert_same_bits(gpu.numpy(on_m), want_m, f"{what} momentum against {isa}")
    assert gpu.numpy(on_g).tobytes() == g.tobytes(), f"{what}: the gradient has changed"


def operands(combination: tuple[str, str, str], n: int, seed: int = 0) -> list[np.ndarray]:
    return special_arrays(combination, n, np.random.default_rng((seed, n)))


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_every_rule_and_dtype(gpu: Gpu, combination: tuple[str, str, str]) -> None:
    w, g, m = operands(combination, 41)
    for i, rule in enumerate(EVERY_RULE):
        momentum = m if rule["momentum"] else None
        offsets = (0, 0, 0) if i % 2 else (1, 1, 1)  # in packs, and element by element
        step_and_check(gpu, w, g, momentum, rule, f"{combination} {rule}", offsets)


def row_of(rule: dict[str, Any]) -> tuple[str, str, bool, str]:
    """The row of kSgdRows that a step with such arguments needs."""
    decay = "decoupled" if rule.get("decoupled_weight_decay") else "coupled"
    buffer = "set" if rule["first_step"] else "accumulate"
    return (
        decay if rule["weight_decay"] else "none",
        buffer if rule["momentum"] else "none",
        rule["nesterov"],
        "l1" if rule.get("l1") else "none",
    )


def rows_without(rules: list[dict[str, Any]]) -> set[tuple[str, str, bool, str]]:
    """The rows of kSgdRows that none of these steps needs."""
    rows = testing.sgd_rules()
    assert len({*rows}) == len(rows) > 20
    return {*rows} - {row_of(rule) for rule in rules}


def test_every_rule_of_the_table_is_in_the_grid() -> None:
    assert rows_without(EVERY_RULE) == set()
    # The control: without the rules with l1, all that have l1 are missing.
    assert len(rows_without(RULES)) == 15
    assert {row[3] for row in rows_without(RULES)} == {"l1"}


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_every_length(gpu: Gpu, combination: tuple[str, str, str]) -> None:
    rule = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
    lengths = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 255, 256, 257, 1023, 1024, 1025]
    for n in [*lengths, TILE - 1, TILE, TILE + 1, 2 * TILE + 9]:
        step_and_check(gpu, *operands(combination, n), rule, f"{combination} n={n}")


@pytest.mark.parametrize(
    "combination",
    [
        ("float32", "float32", "float32"),
        ("float32", "float16", "float32"),
        ("bfloat16", "bfloat16", "bfloat16"),
        ("bfloat16", "float32", "float32"),
        ("float64", "float64", "float64"),
    ],
    ids="-".join,
)
def test_every_alignment(gpu: Gpu, combination: tuple[str, str, str]) -> None:
    rule = {"lr": 0.05, "momentum": 0.9}
    w, g, m = operands(combination, 37)
    for operand in range(3):
        for offset in range(9):
            offsets = tuple(offset if i == operand else 0 for i in range(3))
            step_and_check(gpu, w, g, m, rule, f"{combination} at {offsets}", offsets)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_16_bit_value_converts(gpu: Gpu, dtype: str) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(DTYPES[dtype])
    step_and_check(gpu, np.zeros(every.size, np.float32), every, None, {"lr": 1.0}, "read")
    values = around_16_bit_values(DTYPES[dtype])
    zeros = np.zeros(values.size, DTYPES[dtype])
    step_and_check(gpu, zeros, values, None, {"lr": 1.0, "maximize": True}, "written")


def test_many_tensors_of_many_types(gpu: Gpu) -> None:
    rng = np.random.default_rng(5)
    rule = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}
    # More than fit into a small list, and more than fit into a large one.
    names = [("float32", "float32", "float32")] * 800 + [
        COMBINATIONS[i % 23] for i in range(23 * 9)
    ]
    tensors = [operands(c, int(rng.integers(0, 20)), i) for i, c in enumerate(names)]
    tensors += [operands(("float32", "float32", "float32"), n) for n in (5000, 3, 20000)]
    on = [[gpu.array(x) for x in tensor] for tensor in tensors]
    sf.sgd_step(*zip(*on, strict=True), **rule)
    sf.sgd_step(*zip(*tensors, strict=True), **rule)
    for i, (got, want) in enumerate(zip(on, tensors, strict=True)):
        for operand, x, y in zip(("param", "grad", "momentum"), got, want, strict=True):
            assert_same_bits(gpu.numpy(x), y, f"{operand} {i}")


def test_chunks_of_several_tiles(gpu: Gpu) -> None:
    # The interpreter is told of one multiprocessor, so that tiles are joined to chunks early.
    n = 70 * TILE + 5
    w, g, m = operands(("float32", "bfloat16", "float32"), n)
    step_and_check(gpu, w, g, m, {"lr": 0.1, "momentum": 0.9}, "chunks")


def test_first_step_does_not_read_the_momentum(gpu: Gpu) -> None:
    w, g = np.ones(100, np.float32), np.ones(100, np.float32)
    m = gpu.array(np.full(100, np.nan, np.float32))
    sf.sgd_step(gpu.array(w), gpu.array(g), m, lr=0.1, momentum=0.9, first_step=True)
    assert_same_bits(gpu.numpy(m), g)
    # The control: an accumulating step does read it.
    m = gpu.array(np.full(100, np.nan, np.float32))
    sf.sgd_step(gpu.array(w), gpu.array(g), m, lr=0.1, momentum=0.9)
    assert np.isnan(gpu.numpy(m)).all()


def test_without_momentum_the_buffers_are_left_alone(gpu: Gpu) -> None:
    w, g, m = (gpu.array(np.full(20, x, np.float32)) for x in (1, 1, 7))
    sf.sgd_step(w, g, m, lr=0.5)
    assert (gpu.numpy(m) == 7).all() and (gpu.numpy(w) == 0.5).all()


def test_a_gradient_may_be_its_own_parameter(gpu: Gpu) -> None:
    values = np.arange(5000, dtype=np.float32)
    w = gpu.array(values)
    sf.sgd_step(w, w, lr=0.25)
    sf.sgd_step(values, values, lr=0.25)
    assert_same_bits(gpu.numpy(w), values)


def test_a_plan_is_held_between_steps(gpu: Gpu) -> None:
    w, g, m = operands(("float32", "float32", "float32"), 3000)
    step = sf.FusedSGD([gpu.array(w)], lr=0.1)  # the plan knows no momentum yet
    step([gpu.array(g)])
    step.lr = 0.01
    step([gpu.array(g)])
    for lr in (0.1, 0.01):
        sf.sgd_step(w, g, lr=lr)
    assert_same_bits(gpu.numpy(step.params[0]), w)


def test_a_one_ulp_error_is_seen(gpu: Gpu) -> None:
    w, g = np.ones(9, np.float32), np.ones(9, np.float32)
    on_w = gpu.array(w)
    sf.sgd_step(on_w, gpu.array(g), lr=0.1)
    sf.sgd_step(w, g, lr=0.1)
    w[4] = np.nextafter(w[4], np.float32(2))
    with pytest.raises(AssertionError, match="1 of 9 elements differ, by up to 1 ULPs"):
        assert_same_bits(gpu.numpy(on_w), w)


@pytest.mark.slow
def test_more_than_2_to_31_elements(gpu: Gpu) -> None:
    if gpu.emulated:
        pytest.skip("the interpreter would take an hour")
    n = 2**31 + 1000
    w = gpu.array(np.ones(n, DTYPES["bfloat16"]))
    sf.sgd_step(w, w, lr=0.5)
    got = gpu.numpy(w).view(np.uint16)
    assert got[0] == np.float32(0.5).view(np.uint32) >> 16
    assert int((got != got[0]).sum()) == 0
