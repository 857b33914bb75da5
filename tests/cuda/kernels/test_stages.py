"""Steps with stages on a device: the bits of the CPU, and nothing that the host waits for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
import subgrad_fast.dense.fused
from tests.bits import assert_same_bits
from tests.cases import COMBINATIONS, DTYPES, special_arrays
from tests.cuda.device_arrays import DeviceArray
from tests.cuda.machines import FULL, Gpu

RULE = {"lr": 0.1, "momentum": 0.9, "dampening": 0.25, "weight_decay": 0.01}
STAGES: list[dict[str, Any]] = [
    {"grad_scale": 3.0},
    {"max_norm": 0.5},
    {"max_norm": 0.5, "max_norm_scope": "tensor", "grad_scale": -8.0, "maximize": True},
    {"clip_value": 0.3},
    {"max_norm": 2.0, "clip_value": 0.01, "grad_scale": 7.0, "ema_decay": 0.9},
    {"ema_decay": 0.25},
    {"ema_decay": 0.9, "first_step": True},
    {"skip_nonfinite": True, "max_norm": 1e9, "first_step": True, "nesterov": True, "dampening": 0},
]


def average_like(w: np.ndarray) -> np.ndarray:
    wide = np.float64 if w.dtype == np.float64 else np.float32
    return np.linspace(-1, 1, w.size, dtype=wide).reshape(w.shape)


def finite(combination: tuple[str, str, str], n: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng((seed, n))
    return [rng.standard_normal(n).astype(DTYPES[name]) for name in combination]


def step_and_check(gpu: Gpu, tensors: list[list[np.ndarray]], offset: int = 0, **how: Any) -> Any:
    """Steps (w, g, m) tensors on the device and on the CPU; the norm."""
    w, g, m = (list(x) for x in zip(*tensors, strict=True))
    e = [average_like(x) for x in w] if "ema_decay" in how else None
    on = [None if xs is None else [gpu.array(x, offset) for x in xs] for xs in (w, g, m, e)]
    want = [None if xs is None else [x.copy() for x in xs] for xs in (w, g, m, e)]
    waited = DeviceArray.reads
    norm = sf.sgd_step(*on[:3], ema=on[3], **how)
    assert DeviceArray.reads == waited, "the host has waited"
    with np.errstate(all="ignore"):
        norm_there = sf.sgd_step(*want[:3], ema=want[3], **how)
    assert (norm is None) == (norm_there is None)
    if norm is not None:
        assert_same_bits(np.array([float(norm)]), np.array([norm_there]), f"norm {how}")
    for name, got, wanted in zip(("param", "grad", "momentum", "ema"), on, want, strict=True):
        for i, (x, y) in enumerate(zip(got or [], wanted or [], strict=True)):
            assert_same_bits(gpu.numpy(x), y, f"{name} {i} {how}")
    return norm_there


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_every_stage_and_dtype(gpu: Gpu, combination: tuple[str, str, str]) -> None:
    for i, stages in enumerate(STAGES):
        tensors = [finite(combination, n, i) for n in (41, 70)]
        step_and_check(gpu, tensors, i % 2, **{**RULE, **stages})


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values_go_through_stages(gpu: Gpu, dtype: str) -> None:
    for how in ({"clip_value": 1.0, "ema_decay": 0.5}, {"max_norm": 1.0}, {"grad_scale": 2.0}):
        tensors = [special_arrays((dtype,) * 3, 70, np.random.default_rng(1))]
        step_and_check(gpu, tensors, **RULE, **how)


@pytest.mark.parametrize(
    "combination",
    [("float32",) * 3, ("bfloat16",) * 3, ("float16", "float32", "float32"), ("float64",) * 3],
    ids="-".join,
)
def test_averages_of_every_length_and_alignment(
    gpu: Gpu, combination: tuple[str, str, str]
) -> None:
    for n in (1, 3, 4, 5, 7, 8, 9, 1023, 1024, 1025, 2047, 2049, 4105):
        step_and_check(gpu, [finite(combination, n, 0)], **RULE, ema_decay=0.9, clip_value=0.5)
    w, g, m = finite(combination, 40, 1)
    for offset in range(5):  # of the average alone
        e = average_like(w)
        on_w, on_e = gpu.array(w), gpu.array(e, offset)
        sf.sgd_step(on_w, gpu.array(g), gpu.array(m), **RULE, ema=on_e, ema_decay=0.9)
        want = w.copy()
        sf.sgd_step(want, g, m.copy(), **RULE, ema=e, ema_decay=0.9)
        assert_same_bits(gpu.numpy(on_w), want)
        assert_same_bits(gpu.numpy(on_e), e, f"at {offset}")


def test_more_tensors_than_a_launch_takes(gpu: Gpu) -> None:
    for count in (60, 420):
        names = [("float32",) * 3] * count + COMBINATIONS[:9]
        tensors = [finite(c, 3 + i % 9, i) for i, c in enumerate(names)]
        for scope in ("global", "tensor"):
            how = {"max_norm": 0.7, "max_norm_scope": scope, "clip_value": 0.4, "ema_decay": 0.5}
            step_and_check(gpu, tensors, **RULE, **how)
        if not FULL:
            break


def test_one_wide_gradient_makes_the_coefficient_wide(gpu: Gpu) -> None:
    narrow, wide = finite(("float32",) * 3, 90, 0), finite(("float64",) * 3, 9, 1)
    for scope in ("global", "tensor"):
        for tensors in ([narrow], [narrow, wide]):
            step_and_check(gpu, tensors, **RULE, max_norm=0.37, max_norm_scope=scope)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_step_is_skipped_on_the_device(gpu: Gpu, bad: float) -> None:
    tensors = [finite(("float32",) * 3, n, n) for n in (50, 3000)]
    tensors[1][1][2999] = bad
    for how in ({}, {"max_norm": 1.0, "ema_decay": 0.5, "first_step": True}):
        on = [[gpu.array(x) for x in t] for t in tensors]
        e = [gpu.array(average_like(t[0])) for t in tensors]
        averages = e if how else None
        norm = sf.sgd_step(*zip(*on, strict=True), ema=averages, **RULE, skip_nonfinite=True, **how)
        assert not np.isfinite(float(norm))
        for got, was in zip(on, tensors, strict=True):
            for x, y in zip(got, was, strict=True):
                assert gpu.numpy(x).tobytes() == y.tobytes()
        for x, t in zip(e, tensors, strict=True):
            assert_same_bits(gpu.numpy(x), average_like(t[0]))


@pytest.fixture
def new_arrays(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Momentum and averages of the interpreter's arrays, which no library makes."""

    def zeros_like(array: Any, dtype: str | None = None) -> Any:
        if not isinstance(array, DeviceArray):
            return made(array, dtype)
        return gpu.array(np.zeros(array.shape, dtype or array.dtype))

    made = subgrad_fast.dense.fused.zeros_like
    monkeypatch.setattr(subgrad_fast.dense.fused, "zeros_like", zeros_like)


def fused(params: list[Any], **how: Any) -> sf.FusedSGD:
    return sf.FusedSGD(params, **{**RULE, "max_norm": 2.0, "ema_decay": 0.5, **how})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("new_arrays")
def test_the_device_counts_the_steps_that_were_taken(gpu: Gpu, dtype: str) -> None:
    start = finite((dtype,) * 3, 300, 3)[:2]
    on = fused([gpu.array(x) for x in start], skip_nonfinite=True)
    want = fused([x.copy() for x in start], skip_nonfinite=True)
    waited = DeviceArray.reads
    norms = []
    for i in range(7):
        grads = finite((dtype,) * 3, 300, 10 + i)[:2]
        if i in (0, 1, 4):  # the first ones, and one later
            grads[1][7] = np.inf
        on([gpu.array(g) for g in grads])
        want(grads)
        norms.append((on.grad_norm, want.grad_norm))
    assert DeviceArray.reads == waited, "the host has waited"
    for got, wanted in norms:
        assert_same_bits(np.array([float(got)]), np.array([wanted]))
    for name in ("params", "momentum_buffers", "ema"):
        for x, y in zip(getattr(on, name), getattr(want, name), strict=True):
            assert_same_bits(gpu.numpy(x), y, name)
    assert on._plan.first_step is want._plan.first_step is False
    assert on._plan.averaged == want._plan.averaged == 4
    assert DeviceArray.reads > waited  # the control: these numbers are on the device


@pytest.mark.usefixtures("new_arrays")
def test_a_step_that_was_skipped_leaves_the_first_one_to_the_next(gpu: Gpu) -> None:
    start, bad = np.ones(9, np.float32), np.full(9, np.nan, np.float32)
    on = fused([gpu.array(start)], skip_nonfinite=True)
    on([gpu.array(bad)])
    assert on._plan.first_step and on._plan.averaged == 0
    assert_same_bits(gpu.numpy(on.params[0]), start)
    # Steps that cannot be skipped are counted too.
    want = fused([start.copy()])
    on.skip_nonfinite = False
    for step, put in ((on, gpu.array), (want, np.copy)):
        step([put(start)])
        step([put(start)])
        assert not step._plan.first_step and step._plan.averaged == 2
    for name in ("params", "momentum_buffers", "ema"):
        assert_same_bits(gpu.numpy(getattr(on, name)[0]), getattr(want, name)[0], name)


@pytest.mark.usefixtures("new_arrays")
def test_an_average_may_begin_later_than_the_momentum(gpu: Gpu) -> None:
    start = finite(("float32",) * 3, 50, 0)[0]
    on, want = (
        fused([put(start)], skip_nonfinite=True, ema_decay=None) for put in (gpu.array, np.copy)
    )
    for i in range(5):
        g = finite(("float32",) * 3, 50, i)[1]
        if i == 2:
            on.ema_decay = want.ema_decay = 0.5
            g[4] = np.nan
        on([gpu.array(g)])
        want([g])
    for name in ("params", "momentum_buffers", "ema"):
        assert_same_bits(gpu.numpy(getattr(on, name)[0]), getattr(want, name)[0], name)


@pytest.mark.usefixtures("new_arrays")
def test_a_schedule_of_the_average_follows_what_was_taken(gpu: Gpu) -> None:
    start = finite(("float32",) * 3, 20, 0)[0]
    asked: dict[str, list[int]] = {"device": [], "host": []}
    steps = {}
    for name, put in (("device", gpu.array), ("host", np.copy)):

        def decay(n: int, seen: list[int] = asked[name]) -> float:
            seen.append(n)
            return n / (n + 3)

        steps[name] = fused([put(start)], skip_nonfinite=True, ema_decay=decay)
        for i in range(5):
            g = finite(("float32",) * 3, 20, i)[1]
            if i in (0, 2):
                g[3] = np.nan
            steps[name]([put(g)])
    assert asked["device"] == asked["host"]
    assert_same_bits(gpu.numpy(steps["device"].ema[0]), steps["host"].ema[0])


def test_gradients_in_several_places_share_no_norm(gpu: Gpu) -> None:
    if not gpu.emulated:
        pytest.skip("needs arrays that claim to be elsewhere")
    host, g = np.ones(4, np.float32), np.full(4, 2, np.float32)
    there = gpu.array(host)
    needs = r"grads: a norm, or a step that they may stop, .* on cpu and cuda:0"
    for how in ({"max_norm": 1.0}, {"skip_nonfinite": True}):
        with pytest.raises(ValueError, match=needs):
            sf.sgd_step([host, there], [g, gpu.array(g)], lr=0.5, **how)
    assert (host == 1).all() and (gpu.numpy(there) == 1).all()
    sf.sgd_step([host, there], [g, gpu.array(g)], lr=0.5, grad_scale=4.0, clip_value=0.25)
    assert (host == 0.875).all() and (gpu.numpy(there) == 0.875).all()
