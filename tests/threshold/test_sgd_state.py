"""optim.ThresholdSGD: what a resumed run needs, and what is refused."""

# ruff: noqa: E402
from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch.nn import Parameter

import subgrad_fast as sf
from subgrad_fast.optim import SGD, ThresholdSGD
from tests.optim.torch_twins import assert_same, give_gradients, parameters, snapshot, train

pytestmark = pytest.mark.torch

SHAPES = ((20, 30), (7,), (3, 4, 5, 5))

SETTINGS: list[dict[str, Any]] = [
    {"density": 0.05, "momentum": 0.9, "nesterov": True},
    {"density": 0.05, "momentum": 0.9, "warmup": 6, "selector": "sampled"},
    {"density": 0.05, "selector": "reused", "warmup": [0.5, 0.2], "warmup_steps": 3},
    {"density": 0.05, "selector": "reused", "scope": "global", "momentum": 0.9},
    {"threshold": 2.0, "momentum": 0.9, "momentum_correction": False, "dampening": 0.1},
    {"density": 0.1, "error_feedback": False, "momentum": 0.5},
]


def gradients(params: list[Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)


@pytest.mark.parametrize("way", ["state_dict", "file", "pickle", "deepcopy"])
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_resume_has_the_bits_of_going_on(setting: dict[str, Any], way: str, tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(3)
        params = parameters(*SHAPES, dtype=dtype)
        optimizer = ThresholdSGD(params, lr=0.1, **setting)
        for step in range(5):
            gradients(params, step)
            optimizer.step()
        others = [Parameter(p.detach().clone()) for p in params]
        if way == "deepcopy":
            others, resumed = copy.deepcopy((params, optimizer))
        elif way == "pickle":
            others, resumed = pickle.loads(pickle.dumps((params, optimizer)))
        else:
            resumed = ThresholdSGD(others, lr=7.0, density=0.9)
            state = optimizer.state_dict()
            if way == "file":
                torch.save(state, tmp_path / "state.pt")
                state = torch.load(tmp_path / "state.pt", weights_only=True)
            resumed.load_state_dict(state)
        for step in range(5, 10):
            for own, stepped in ((params, optimizer), (others, resumed)):
                gradients(own, step)
                stepped.step()
        assert_same(snapshot(others), snapshot(params))
        assert_same(snapshot(resumed.state_dict()), snapshot(optimizer.state_dict()))


def test_a_loaded_state_is_a_copy_and_not_rounded() -> None:
    p = Parameter(torch.zeros(50, dtype=torch.bfloat16))
    optimizer = ThresholdSGD([p], lr=0.1, density=0.1)
    train(optimizer, [p], 2)
    state = optimizer.state_dict()
    q = Parameter(torch.zeros(50, dtype=torch.bfloat16))
    other = ThresholdSGD([q], lr=0.1, density=0.1)
    seen = []
    other.register_load_state_dict_pre_hook(lambda _, loaded: seen.append(loaded))
    other.load_state_dict(state)
    residual = other.state[q]["residual"]
    assert len(seen) == 1
    assert residual.dtype == torch.float32
    assert torch.equal(residual, state["state"][0]["residual"])
    assert residual.data_ptr() != state["state"][0]["residual"].data_ptr()
    # The control: bfloat16 would not have held it.
    assert not torch.equal(residual.bfloat16().float(), residual)


@pytest.mark.parametrize("cls", [torch.optim.SGD, SGD])
def test_a_checkpoint_of_sgd_brings_its_momentum(cls: type[torch.optim.SGD]) -> None:
    params, others = parameters((40,)), parameters((40,))
    dense = cls(params, lr=0.1, momentum=0.9)
    train(dense, params, 2)
    optimizer = ThresholdSGD(others, lr=0.5, density=0.1)
    optimizer.load_state_dict(dense.state_dict())
    assert torch.equal(
        optimizer.state[others[0]]["momentum_buffer"], dense.state[params[0]]["momentum_buffer"]
    )
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert optimizer.param_groups[0]["density"] == 0.1
    train(optimizer, others, 1)


CHILD = """
import sys, signal, os, torch
from torch.nn import Parameter
from subgrad_fast.optim import ThresholdSGD

checkpoint, kill_at, until = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(0)
params = [Parameter(torch.randn(300, 40)), Parameter(torch.randn(40).bfloat16())]
optimizer = ThresholdSGD(params, lr=0.1, momentum=0.9, density=0.02, selector="reused", warmup=8)
step = 0
if os.path.exists(checkpoint):
    saved = torch.load(checkpoint, weights_only=True)
    for p, q in zip(params, saved["params"]):
        p.data.copy_(q)
    optimizer.load_state_dict(saved["optimizer"])
    step = saved["step"]
while step < until:
    generator = torch.Generator().manual_seed(step)
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)
    optimizer.step()
    step += 1
    if step % 5 == 0:
        state = {"params": [p.detach() for p in params], "step": step}
        torch.save(state | {"optimizer": optimizer.state_dict()}, checkpoint + ".new")
        os.replace(checkpoint + ".new", checkpoint)
    if step == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_run_goes_on_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def whole_run() -> None:
        monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "whole"), "0", "20"])
        exec(CHILD, {})

    def run(name: str, kill_at: int) -> int:
        command = [sys.executable, "-c", CHILD, str(tmp_path / name)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(
            [*command, str(kill_at), "20"], check=False, env=environment
        ).returncode

    whole_run()
    assert run("killed", 13) == -signal.SIGKILL
    part = torch.load(tmp_path / "killed", weights_only=True)
    assert part["step"] == 10
    assert run("killed", 0) == 0
    whole, resumed = (
        torch.load(tmp_path / name, weights_only=True) for name in ("whole", "killed")
    )
    assert resumed["step"] == 20
    assert_same(snapshot(resumed), snapshot(whole))
    with pytest.raises(AssertionError):  # the control: the state after 10 steps is another
        assert_same(snapshot(part["params"]), snapshot(whole["params"]))


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "threshold, density, k: expected exactly one of them, got none"),
        ({"density": 0.1, "threshold": 1.0}, "got threshold and density"),
        ({"density": 1.5}, "density: expected a number from 0 to 1, got 1.5"),
        ({"density": float("nan")}, "density: expected a number from 0 to 1"),
        ({"threshold": -1.0}, "threshold: expected a number >= 0, got -1.0"),
        ({"density": 0.1, "selector": "best"}, "selector: expected 'absolute', 'exact'"),
        ({"threshold": 0.1, "selector": "reused"}, "threshold: selector 'reused' takes density"),
        ({"density": 0.1, "selector": sf.Exact(k=3)}, "density: has no meaning beside a selector"),
        ({"density": 0.1, "scope": "layer"}, "scope: expected 'tensor' or 'global', got 'layer'"),
        ({"density": 0.1, "lr": -1.0}, "lr: expected a number >= 0, got -1.0"),
        ({"density": 0.1, "nesterov": True}, "nesterov: needs momentum > 0"),
        ({"density": 0.1, "warmup": -1}, "warmup: expected an integer from 0 to"),
        (
            {"density": 0.1, "warmup": [0.2, 3]},
            r"warmup\[1\]: expected a number from 0 to 1, got 3",
        ),
        ({"density": 0.1, "warmup": 5, "warmup_steps": 0}, "warmup_steps: expected an inte"),
        ({"threshold": 0.1, "warmup": 5}, "warmup: needs a density to end at"),
        ({"density": 0.1, "emit": "int16"}, "emit: expected None, 'int32' or 'int64', got 'int16'"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ThresholdSGD(parameters((3,)), **({"lr": 0.1} | arguments))
    group = {k: v for k, v in arguments.items() if k not in ("emit",)}
    if group and "emit" not in arguments:
        optimizer = ThresholdSGD(parameters((3,)), lr=0.1, density=0.5)
        with pytest.raises(ValueError, match=message):
            optimizer.add_param_group({"params": parameters((3,)), **group})


def test_a_step_that_raises_changes_nothing() -> None:
    for bad, error, message in (
        (torch.zeros(3, 3).to_sparse(), TypeError, r"grads\[1\]: expected a dense tensor"),
        (torch.zeros(3, 3, dtype=torch.int64), TypeError, r"grads\[1\]: expected float32"),
    ):
        params = parameters((3, 3), (3, 3))
        optimizer = ThresholdSGD(params, lr=0.1, momentum=0.9, density=0.5)
        for _ in range(2):
            give_gradients(params)
            before = snapshot([optimizer, [p._version for p in params]])
            params[1].grad_dtype = None
            params[1].grad = bad
            with pytest.raises(error, match=message):
                optimizer.step()
            assert_same(snapshot([optimizer, [p._version for p in params]]), before)
            train(optimizer, params, 1)


def test_k_above_the_size_of_a_tensor_means_all_of_it() -> None:
    def end(selector: sf.Exact) -> Any:
        torch.manual_seed(0)
        params = parameters((100,), (3,))
        optimizer = ThresholdSGD(params, lr=0.1, momentum=0.9, selector=selector)
        train(optimizer, params, 3)
        assert optimizer.last_result is not None
        return optimizer.last_result.kept, snapshot(params[1])

    kept, small = end(sf.Exact(k=10))
    assert kept == [10, 3]
    assert_same(small, end(sf.Exact(density=1.0))[1])


def test_a_model_made_double_in_mid_training_goes_on() -> None:
    """As if its state had been double from then on."""
    ends = []
    for how in ("double()", "a loaded state"):
        torch.manual_seed(0)
        params = parameters((40,), (3, 5))
        optimizer = ThresholdSGD(params, lr=0.1, momentum=0.9, density=0.5)
        train(optimizer, params, 3)
        state = copy.deepcopy(optimizer.state_dict())
        for p in params:
            p.grad = None
            p.data = p.data.double()
        if how == "a loaded state":
            optimizer.load_state_dict(state)
        train(optimizer, params, 3)
        ends.append(snapshot(optimizer))
        for p in params:
            assert optimizer.state[p]["residual"].dtype == torch.float64
    assert_same(*ends)


def test_other_bad_steps() -> None:
    p = Parameter(torch.zeros(4))
    p.grad = torch.ones(4)
    half = Parameter(p.detach()[:2])
    half.grad = torch.ones(2)
    with pytest.raises(ValueError, match=r"params\[1\]: shares memory with params\[0\]"):
        ThresholdSGD([p, half], lr=0.1, density=0.5).step()
    wide = Parameter(torch.zeros(4, dtype=torch.float64))
    wide.grad = torch.ones(4, dtype=torch.float64)
    with pytest.raises(
        TypeError, match=r"scope: params\[0\] is computed in float32 and params\[1\]"
    ):
        ThresholdSGD([p, wide], lr=0.1, density=0.5, scope="global").step()
    ThresholdSGD([p, wide], lr=0.1, density=0.5).step()
    optimizer = ThresholdSGD([p], lr=0.1, density=0.5)
    optimizer.step()
    optimizer.state[p]["residual"] = torch.zeros(5)
    with pytest.raises(ValueError, match=r"residuals\[0\]: expected shape \(4,\) like params\[0\]"):
        optimizer.step()
    optimizer.param_groups[0]["density"] = 2.0
    with pytest.raises(ValueError, match="density: expected a number from 0 to 1"):
        optimizer.step()
