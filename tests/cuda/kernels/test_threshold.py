"""The thresholded step on a device: the bits of every instruction set of the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast import _core
from tests.bits import assert_same_bits
from tests.cases import (
    DTYPES,
    THRESHOLD_MODES,
    THRESHOLD_RULES,
    THRESHOLD_TYPES,
    adversaries,
    every_isa,
    threshold_arrays,
)
from tests.cuda.device_arrays import DeviceArray
from tests.cuda.machines import FULL, Gpu
from tests.oracles.threshold import threshold_step

TILE = 2048  # elements that a block takes at once
Arrays = list[np.ndarray]


def step(many: list[list[Any]], how: dict[str, Any]) -> sf.ThresholdResult:
    w, g, m, v = (list(column) for column in zip(*many, strict=True))
    residuals = v if how.get("error_feedback", True) else None
    return sf.threshold_step(w, g, residuals, m if how.get("momentum") else None, **how)


def step_and_check(
    gpu: Gpu, many: list[Arrays], how: dict[str, Any], what: str, offsets=(0, 0, 0, 0)
) -> None:
    """One step on the device, and on copies by every instruction set."""
    on = [[gpu.array(x, o) for x, o in zip(t, offsets, strict=True)] for t in many]
    got = step(on, how)
    for isa in every_isa():
        twins = [[x.copy() for x in t] for t in many]
        want = step(twins, how)
        where = f"{what} {how} against {isa}"
        assert got.kept == want.kept, where
        np.testing.assert_array_equal(got.thresholds, want.thresholds, err_msg=where)
        for i, (mine, theirs) in enumerate(zip(on, twins, strict=True)):
            names = ("param", "grad", "momentum", "residual")
            for name, a, b in zip(names, mine, theirs, strict=True):
                assert_same_bits(gpu.numpy(a), b, f"{name} {i} {where}")
        for a, b in zip(got.selections or [], want.selections or [], strict=True):
            np.testing.assert_array_equal(gpu.numpy(a.indices), b.indices, err_msg=where)
            assert_same_bits(gpu.numpy(a.values), b.values, where)
        if want.energies is not None:
            np.testing.assert_allclose(got.energies, want.energies, rtol=1e-13, err_msg=where)


@pytest.mark.parametrize("types", THRESHOLD_TYPES, ids="-".join)
def test_every_rule_and_dtype(gpu: Gpu, types: tuple[str, str]) -> None:
    # Types that differ in the gradient's only share the rules among them, which differ in the rest.
    share = 3 if FULL else 6
    rng = np.random.default_rng(1)
    n = 41
    ways: list[dict[str, Any]] = [{"threshold": 0.5}, {"threshold": 0.5, "emit": "int32"}, {"k": 9}]
    each = [[threshold_arrays(types, n, rng)] for _ in ways]
    for i, rule in enumerate(THRESHOLD_RULES[THRESHOLD_TYPES.index(types) % share :: share]):
        for j, (way, many) in enumerate(zip(ways, each, strict=True)):
            offsets = (0, 0, 0, 0) if (i + j) % 2 else (1, 1, 1, 1)
            step_and_check(gpu, many, way | rule, f"{types}", offsets)


@pytest.mark.parametrize("types", THRESHOLD_TYPES[::4], ids="-".join)
def test_every_length(gpu: Gpu, types: tuple[str, str]) -> None:
    rule = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
    for n in (0, 1, 3, 4, 5, 8, 255, 1025, TILE - 1, TILE, TILE + 1, 2 * TILE + 9):
        many = [threshold_arrays(types, n, np.random.default_rng(n))]
        ways: list[dict[str, Any]] = [
            {"threshold": 1.0},
            {"k": n // 3, "emit": "int64"},
            {"threshold": 2.0, "emit": "int32"},
        ]
        for way in ways:
            step_and_check(gpu, many, way | rule, f"{types} n={n}")


@pytest.mark.parametrize("types", [("float32",) * 2, ("bfloat16",) * 2, ("float64",) * 2])
def test_every_alignment(gpu: Gpu, types: tuple[str, str]) -> None:
    many = [threshold_arrays(types, 37, np.random.default_rng(5))]
    for operand in range(4):
        for offset in (1, 2, 4):
            offsets = tuple(offset if i == operand else 0 for i in range(4))
            for way in ({"threshold": 1.0}, {"k": 10, "emit": "int64"}):
                rule = {"lr": 0.1, "momentum": 0.9}
                step_and_check(gpu, many, way | rule, f"at {offsets}", offsets)


@pytest.mark.parametrize("name", adversaries(4))
def test_adversaries(gpu: Gpu, name: str) -> None:
    n = 2 * TILE + 77
    with np.errstate(all="ignore"):
        g = adversaries(n)[name].astype(np.float32)
    w = np.linspace(-1, 1, n, dtype=np.float32)
    many = [[w, g, np.ones(n, np.float32), np.zeros(n, np.float32)]]
    ways: list[dict[str, Any]] = [{"k": k} for k in (0, 1, n // 3, n - 1, n)]
    ways += [{"threshold": x} for x in (0.0, 1.0, np.inf)]
    for i, way in enumerate(ways):
        more = {"emit": "int64"} if i % 2 else {"measure": bool(np.isfinite(g).all())}
        step_and_check(gpu, many, way | more | {"lr": 0.1}, name)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_without_error_feedback(gpu: Gpu, momentum: float) -> None:
    many = [threshold_arrays(("float32", "float32"), 3000, np.random.default_rng(3))]
    for way in ({"threshold": 1.0}, {"k": 40}, {"density": 0.0}, {"k": 40, "emit": "int32"}):
        how = {"lr": 0.1, "momentum": momentum, "error_feedback": False}
        step_and_check(gpu, many, way | how, "no feedback")


@pytest.mark.parametrize("way", [{"threshold": 0.5}, {"density": 0.5}, {"k": 9, "emit": "int64"}])
def test_first_step_reads_neither_residual_nor_momentum(gpu: Gpu, way: dict[str, Any]) -> None:
    many = [threshold_arrays(("float32", "float32"), 3000, np.random.default_rng(4))]
    for array in many[0][2:]:
        array[:] = np.nan
    for mode in THRESHOLD_MODES:
        how = {"lr": 0.1, "momentum": 0.9, "first_step": True, "nesterov": True} | mode
        step_and_check(gpu, many, way | how, "first")


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_many_tensors(gpu: Gpu, scope: str) -> None:
    # More than a list takes, with ties across them, and of several types.
    rng = np.random.default_rng(6)
    types = [t for t in THRESHOLD_TYPES if t[0] != "float64" or scope == "tensor"]
    sizes = [0, 700, TILE + 3, 0, *rng.integers(0, 20, 70), 2 * TILE, 0]
    many = []
    for i, n in enumerate(sizes):
        w, g, m, v = threshold_arrays(types[i % len(types) if n > 20 else 0], n, rng)
        g[:] = rng.integers(-3, 4, n)
        v[:] = rng.integers(-3, 4, n)
        many.append([w, g, m, v])
    rule = {"lr": 0.1, "momentum": 0.9, "scope": scope}
    ways: list[dict[str, Any]] = [{"density": 0.3}, {"density": 0.3, "emit": "int32"}]
    for way in (*ways, {"threshold": 3.0}, {"threshold": 3.0, "emit": "int64"}):
        step_and_check(gpu, many, way | rule, scope)


@pytest.mark.parametrize("selector", ["sampled", "reused"])
def test_estimates_are_exact_here(gpu: Gpu, selector: str) -> None:
    arrays = threshold_arrays(("float32", "float32"), 3000, np.random.default_rng(8))
    twin = [x.copy() for x in arrays]
    on = [gpu.array(x) for x in arrays]
    got = step([on], {"lr": 0.1, "density": 0.1, "selector": selector})
    want = step([twin], {"lr": 0.1, "density": 0.1})
    assert (got.kept, got.thresholds) == (want.kept, want.thresholds)
    assert_same_bits(gpu.numpy(on[0]), twin[0])


def test_measures(gpu: Gpu) -> None:
    rng = np.random.default_rng(9)
    many = [[rng.standard_normal(n).astype(np.float32) for _ in range(4)] for n in (5000, 0, 77)]
    runs = []
    for way in ({"threshold": 1.0}, {"density": 0.1}, {"density": 0.1, "emit": "int64"}):
        how = {"lr": 0.1, "measure": True, **way}
        step_and_check(gpu, many, how, "measured")
        runs.append(step([[gpu.array(x) for x in t] for t in many], how))
        again = step([[gpu.array(x) for x in t] for t in many], how)
        assert again.energies == runs[-1].energies
        assert again.energy_kept == runs[-1].energy_kept
        assert again.residual_norm == runs[-1].residual_norm
    assert runs[1].energies == runs[2].energies


def test_sums_of_many_tiles(gpu: Gpu) -> None:
    # More tiles than a block adds up in a turn.
    n = (258 if FULL else 3) * TILE + 5
    many = [[np.full(n, x, np.float32) for x in (1.0, 0.5, 0.0, 0.0)]]
    many[0][1][::7] = 3.0
    step_and_check(gpu, many, {"lr": 0.1, "measure": True, "threshold": 1.0}, "sums")


def step_by_groups(many: list[list[Any]], kind: str, rows: list[dict], rates: list[Any]) -> None:
    """One step of a tensor for each group of terms, 1.0 or the 300 largest kept."""
    amount = (1.0, None, None) if kind == "absolute" else (None, None, 300)
    call = _core.threshold.Call(0, False)
    for (w, g, m, v), row, rate in zip(many, rows, rates, strict=True):
        call.add(
            [w],
            [g],
            [v],
            [m],
            _core.SgdParams(**row),
            lr=rate,
            momentum_correction=True,
            momentum_masking=True,
            choice=_core.threshold.Choice(kind, *amount),
            together=False,
            first=[False],
            fresh=[False],
            last=[],
        )
    call.run()


@pytest.mark.parametrize("kind", ["absolute", "exact"])
def test_rows_and_learning_rates_on_the_device(gpu: Gpu, kind: str) -> None:
    # More rows than a list takes. Every other rate is on the device, where the number is ignored.
    rng = np.random.default_rng(12)
    many = [threshold_arrays(("float32", "float32"), 700, rng) for _ in range(9)]
    rows: list[dict[str, Any]] = [
        {"lr": 0.1 + i, "momentum": 0.9, "weight_decay": 0.01 * i, "maximize": i % 3 == 0,
         "decoupled_weight_decay": i % 4 == 1}
        for i in range(9)
    ]  # fmt: skip
    rates = [np.float32([0.037 * i]) if i % 2 else None for i in range(9)]
    on = [[gpu.array(x) for x in t] for t in many]
    step_by_groups(on, kind, rows, [r if r is None else gpu.array(r) for r in rates])
    for i, (row, rate) in enumerate(zip(rows, rates, strict=True)):
        lr = row["lr"] if rate is None else float(rate[0])
        way = {"k": 300} if kind == "exact" else {"threshold": 1.0}
        step([many[i]], {**row, **way, "lr": lr})
        for a, b in zip(on[i], many[i], strict=True):
            assert_same_bits(gpu.numpy(a), b, f"row {i}")


@pytest.mark.parametrize("way", [{"threshold": 1.0}, {"density": 0.4}], ids=str)
def test_what_has_no_room_stays(gpu: Gpu, way: dict[str, Any]) -> None:
    types = ("float32", "float32")
    many = [threshold_arrays(types, n, np.random.default_rng(n)) for n in (5000, 90)]
    for mode in THRESHOLD_MODES:
        how: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "emit": "int32", **way, **mode}
        full = step([[gpu.array(x) for x in t] for t in many], how)
        on = [[gpu.array(x) for x in t] for t in many]
        room = 40
        got = step(on, how | {"capacity": room})
        assert got.kept == [min(room, k) for k in full.kept]
        assert got.selections is not None and full.selections is not None
        for i, (w, g, m, v) in enumerate(many):
            a, b, kept = got.selections[i], full.selections[i], got.kept[i]
            indices = gpu.numpy(b.indices)[:kept]
            assert gpu.numpy(a.indices).shape == (room,)
            np.testing.assert_array_equal(gpu.numpy(a.indices)[:kept], indices)
            assert_same_bits(gpu.numpy(a.values)[:kept], gpu.numpy(b.values)[:kept])
            # As a step that keeps just these.
            mask = np.zeros(w.size, bool)
            mask[indices] = True
            want = threshold_step(w, g, m, v, lambda _: mask, lr=0.1, momentum=0.9, **mode)  # noqa: B023
            assert want.m is not None and want.v is not None
            assert_same_bits(gpu.numpy(on[i][0]), want.w)
            assert_same_bits(gpu.numpy(on[i][2]), want.m)
            assert_same_bits(gpu.numpy(on[i][3]), want.v)


def test_the_host_waits_for_nothing_it_was_not_asked_for(gpu: Gpu) -> None:
    if not gpu.emulated:
        pytest.skip("only the stand-in counts")
    arrays = threshold_arrays(("float32", "float32"), 3000, np.random.default_rng(8))

    def reads(**how: Any) -> tuple[int, int]:
        before = DeviceArray.reads
        result = step([[gpu.array(x) for x in arrays]], {"lr": 0.1, "measure": True, **how})
        within = DeviceArray.reads - before
        assert result.density >= 0 and result.energies is not None
        return within, DeviceArray.reads - before - within

    assert reads(threshold=1.0) == (0, 2)
    assert reads(density=0.1) == (0, 2)
    assert reads(k=10, emit="int32", capacity=10) == (0, 2)
    assert reads(k=10, emit="int32") == (1, 2)


def test_a_threshold_on_the_device(gpu: Gpu) -> None:
    for types in (("float32", "float32"), ("float64", "float64")):
        arrays = threshold_arrays(types, 3000, np.random.default_rng(10))
        found = gpu.array(np.array([sf.kth_magnitude(arrays[1], 400)]))
        for more in ({}, {"emit": "int64"}):
            on, twin = [gpu.array(x) for x in arrays], [x.copy() for x in arrays]
            how = {"lr": 0.1, **more}
            got = step([on], how | {"threshold": found})
            want = step([twin], how | {"threshold": float(gpu.numpy(found)[0])})
            assert (got.kept, got.thresholds) == (want.kept, want.thresholds)
            for a, b in zip(on, twin, strict=True):
                assert_same_bits(gpu.numpy(a), b)
    with pytest.raises(ValueError, match="threshold: expected one float64 on cuda:0, got float32"):
        step([on], {"lr": 0.1, "threshold": gpu.array(np.ones(1, np.float32))})
    with pytest.raises(ValueError, match="threshold: is on a device, and the arrays are not"):
        step([twin], {"lr": 0.1, "threshold": found})


def test_what_finds_a_key_goes_into_a_step(gpu: Gpu) -> None:
    # A threshold for two steps, found on the device and never read by the host.
    arrays = threshold_arrays(("float32", "float32"), 3000, np.random.default_rng(11))
    on, twin = [gpu.array(x) for x in arrays], [x.copy() for x in arrays]
    if gpu.emulated:
        found: Any = DeviceArray(sf.kth_magnitude(on[1], 300))
    else:
        found = sf.kth_magnitude(on[1], 300)
    got = step([on], {"lr": 0.1, "threshold": found})
    want = step([twin], {"lr": 0.1, "threshold": sf.kth_magnitude(twin[1], 300)})
    assert (got.kept, got.thresholds) == (want.kept, want.thresholds)
    assert_same_bits(gpu.numpy(on[0]), twin[0])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_is_not_kept_keeps_its_bits(gpu: Gpu, dtype: str) -> None:
    nan = np.uint16(0xFF81 if dtype == "bfloat16" else 0xFC01)  # signalling: conversions change it
    for way in ({"threshold": 1.0}, {"k": 2}):
        w = np.full(16, nan).view(DTYPES[dtype])
        g, v = np.zeros(16, np.float32), np.zeros(16, np.float32)
        g[[2, 9]] = 5.0
        on = gpu.array(w)
        sf.threshold_step(on, gpu.array(g), gpu.array(v), lr=0.1, **way)
        got = gpu.numpy(on).view(np.uint16)
        assert (np.delete(got, [2, 9]) == nan).all()
        assert (got[[2, 9]] != nan).all()  # the control


def test_a_gradient_may_be_its_own_parameter(gpu: Gpu) -> None:
    for way in ({"threshold": 20.0}, {"k": 7}):
        w, v = np.arange(50, dtype=np.float32), np.zeros(50, np.float32)
        on, on_v = gpu.array(w), gpu.array(v)
        sf.threshold_step(on, on, on_v, lr=0.25, **way)
        sf.threshold_step(w, w, v, lr=0.25, **way)
        assert_same_bits(gpu.numpy(on), w)
        assert_same_bits(gpu.numpy(on_v), v)


def test_memory_order(gpu: Gpu) -> None:
    # A transposed parameter is dense, and so is the rest in its order: no report by index, though.
    rng = np.random.default_rng(2)
    flat = [rng.standard_normal((30, 20)).astype(np.float32) for _ in range(3)]
    if not gpu.emulated:
        pytest.skip("arrays of another order are made by the stand-in only")
    on = [DeviceArray(gpu.array(x).array.T) for x in flat]
    twins = [x.copy().T for x in flat]
    sf.threshold_step(*on, lr=0.1, k=50)
    sf.threshold_step(*twins, lr=0.1, k=50)
    for a, b in zip(on, twins, strict=True):
        assert_same_bits(a.array, b)
    with pytest.raises(ValueError, match="emit: on cuda:0 params must be in row-major order"):
        sf.threshold_step(*on, lr=0.1, k=50, emit="int32")
    other = gpu.array(np.zeros((20, 30), np.float32))
    with pytest.raises(ValueError, match="on cuda:0 an array must be contiguous in its parameter"):
        sf.threshold_step(on[0], other, on[2], lr=0.1, k=50)


def test_arguments_are_refused(gpu: Gpu) -> None:
    host = np.ones(4, np.float32)
    x, y, z = (gpu.array(host) for _ in range(3))
    with pytest.raises(ValueError, match=r"grads: expected memory on cuda:0 like params, got cpu"):
        sf.threshold_step(x, host, y, lr=0.1, k=1)
    arrays = [x, host], [y, host.copy()], [z, host.copy()]
    with pytest.raises(ValueError, match=r"scope: one threshold needs one device, .*params\[0\]"):
        sf.threshold_step(*arrays, lr=0.1, k=1, scope="global")
    with pytest.raises(ValueError, match="residuals: expected memory on cuda:0 like params"):
        sf.threshold_step(x, y, host, lr=0.1, k=1)
    with pytest.raises(TypeError, match="residuals: expected float32"):
        sf.threshold_step(x, y, gpu.array(np.ones(4)), lr=0.1, k=1)
    with pytest.raises(ValueError, match="residuals: shares memory with params"):
        sf.threshold_step(x, y, x, lr=0.1, k=1)
    with pytest.raises(ValueError, match="capacity: has a meaning beside emit only"):
        sf.threshold_step(x, y, z, lr=0.1, k=1, capacity=3)
    with pytest.raises(ValueError, match="capacity: has a meaning for arrays on a device only"):
        sf.threshold_step(host, host.copy(), host.copy(), lr=0.1, k=1, emit="int32", capacity=3)
    for array in (x, y, z):
        assert (gpu.numpy(array) == 1).all()
