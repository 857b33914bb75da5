"""benchmarks/cuda without a GPU: the rows on the processor, the timing on a clock of ours.

What is left to a GPU is that torch.cuda does what it says. That it is called as it wants to be,
its own signatures decide here.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from tests import ROOT

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from benchmarks.cuda import device as cuda_device  # noqa: E402
from benchmarks.cuda import peers as cuda_peers  # noqa: E402
from benchmarks.cuda import rows as cuda_rows  # noqa: E402
from subgrad_fast.bench import report, run  # noqa: E402
from subgrad_fast.bench.harness import OURS, Contender, run_row  # noqa: E402
from subgrad_fast.bench.sgd import FOREACH, FUSED  # noqa: E402

SMALL = cuda_rows.Sizes([(8, 4), (3,)], [(5,)] * 3, 100, 1000, 300, (64, 4, 16))
DENSE_ROWS = ["resnet50", "many", "one-50m", "graph-resnet50", "graph-many", "bf16"]
OTHER_ROWS = ["top-1%", "threshold-1%", "order-10m", "batches"]


def processor(cache_bytes: int = 300) -> cuda_device.Device:
    """The processor in a GPU's place; a step takes 5 ns there, and a graph is the step itself."""

    def run_block(contender: Contender, steps: int) -> list[int]:
        for _ in range(steps):
            contender.prepare()
            contender.step()
        return [5] * steps

    return cuda_device.Device("cpu", "no GPU at all", cache_bytes, run_block, lambda step: step)


@pytest.fixture
def apex(monkeypatch: pytest.MonkeyPatch) -> None:
    """An apex that has torch's optimizer."""
    module = types.ModuleType("apex.optimizers")
    module.FusedSGD = torch.optim.SGD  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "apex", types.ModuleType("apex"))
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_without_a_gpu_it_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    command = [sys.executable, "-m", "subgrad_fast", "bench", "cuda", "--quick"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("no GPU: ")
    assert "Nothing was measured" in ran.stdout


def test_every_row_is_measured(apex: None, capsys: pytest.CaptureFixture[str]) -> None:
    device = processor()
    subject = cuda_rows.on_device(device, SMALL)
    rows = [replace(row, budget_s=0) for row in subject.rows]
    assert [row.name for row in rows] == DENSE_ROWS + OTHER_ROWS
    measured = [run_row(row, subject, quick=True) for row in rows]
    for row in measured:
        assert {times["median_ns"] for times in row["times"].values()} == {5}
        assert all(comparison["ratio_of_medians"] == 1 for comparison in row["comparisons"])
    dense = {FOREACH, FUSED, cuda_peers.APEX, "ours"}
    assert {*measured[0]["times"]} == dense
    assert all(row["same_bits"] is not None for row in measured[:5])
    machine = {"cpu": "c", "cores": 1, "load_at_start": None, "device": device.name}
    result = {"machine": machine, "build": {"isa": "i", "compiler": "c"}, "versions": {}}
    table = report.markdown({**result, "quick": True, "only": None, "rows": measured})
    assert "no GPU at all; c, 1 cores" in report.where(result)
    assert "| `apex.optimizers.FusedSGD` " in table
    assert "| 5.00 ns " in table


def test_the_command_measures_where_there_is_a_device(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cuda_rows, "no_gpu", lambda: None)
    monkeypatch.setattr(cuda_rows, "gpu", processor)
    monkeypatch.setattr(cuda_rows, "Sizes", lambda: SMALL)
    assert run.main(["cuda", "--quick", "--rows", "many", "--markdown"]) == 0
    printed = capsys.readouterr().out
    assert "| 1000 x 1K float32, as a graph " in printed
    assert "no GPU at all" in printed


@pytest.mark.parametrize("error", [TypeError, ValueError, NotImplementedError])
def test_rows_for_what_takes_no_tensors_of_a_device_are_left_out(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise error("no CUDA tensors")

    for name in ("select", "threshold_step", "Permutation", "BatchLoader"):
        monkeypatch.setattr(cuda_rows.sf, name, refuse)
    names = [row.name for row in cuda_rows.on_device(processor(), SMALL).rows]
    assert names == DENSE_ROWS


def test_an_error_of_another_kind_is_not_hidden() -> None:
    def broken() -> None:
        raise RuntimeError("CUDA error")

    with pytest.raises(RuntimeError, match="CUDA error"):
        cuda_rows.accepted(broken)


@pytest.mark.parametrize(("cache", "sets"), [(0, 1), (210, 1), (211, 2), (4200, 20)])
def test_arrays_take_turns_until_the_cache_is_cold(cache: int, sets: int) -> None:
    device = processor(cache)
    assert device.sets(420) == sets
    for contender in cuda_peers.dense(device, SMALL.model):  # 35 elements of 12 bytes a set
        for _ in range(sets + 1):
            contender.step()
        assert len(contender.results()) == sets * 4
        first, *others = contender.results()[::2][:sets]
        if others:  # stepped once more than the others
            assert abs(first).max() > 1.5 * abs(others[0]).max()


def test_steps_take_turns() -> None:
    ran: list[int] = []
    step = cuda_device.in_turns([lambda i=i: ran.append(i) for i in range(3)])
    for _ in range(7):
        step()
    assert ran == [0, 1, 2, 0, 1, 2, 0]


# --- torch.cuda, by its own signatures ------------------------------------------------------------


class FakeCuda:
    """Stands in for torch.cuda: a device whose clock only steps move, and a note of all calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ms = 0.0
        self.noted: list[str] = []
        real = torch.cuda
        for name in ("synchronize", "current_stream", "current_device", "stream", "graph"):
            self.replace(monkeypatch, name, mock.create_autospec(getattr(real, name)))
        for name in ("Stream", "CUDAGraph", "Event", "get_device_properties"):
            self.replace(monkeypatch, name, mock.create_autospec(getattr(real, name)))
        torch.cuda.synchronize.side_effect = self.note("synchronize")
        torch.cuda.Event.side_effect = self.event
        torch.cuda.CUDAGraph.return_value.replay.side_effect = self.note("replay")
        torch.cuda.graph.return_value.__enter__ = self.note("capture")
        torch.cuda.graph.return_value.__exit__ = self.note("captured")
        torch.cuda.stream.return_value.__enter__ = self.note("side stream")
        torch.cuda.stream.return_value.__exit__ = self.note("back")

    def replace(self, monkeypatch: pytest.MonkeyPatch, name: str, fake: object) -> None:
        monkeypatch.setattr(torch.cuda, name, fake)

    def note(self, text: str) -> Callable[..., None]:
        def noted(*args: object) -> None:
            self.noted.append(text)

        return noted

    def event(self, *, enable_timing: bool) -> Any:
        assert enable_timing, "an event without a time"
        event = mock.create_autospec(REAL_EVENT, instance=True)

        def record(stream: object = None) -> None:
            event.at = self.now_ms

        event.record.side_effect = record
        event.elapsed_time.side_effect = lambda end: end.at - event.at
        return event


REAL_EVENT = torch.cuda.Event


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


def test_events_time_the_step_alone(cuda: FakeCuda) -> None:
    def takes(ms: float) -> None:
        cuda.now_ms += ms

    contender = Contender(OURS, lambda: takes(0.25), lambda: takes(7))
    assert cuda_device.run_block_by_events(contender, 3) == [250_000] * 3
    assert cuda.noted == ["synchronize"]


def test_a_graph_is_captured_after_its_state_was_made(cuda: FakeCuda) -> None:
    replay = cuda_device.captured(lambda: cuda.noted.append("step"))
    replay()
    replay()
    warm = ["side stream", *["step"] * 3, "back"]
    assert cuda.noted == [*warm, "capture", "step", "captured", "replay", "replay"]


def test_the_device_is_described(cuda: FakeCuda) -> None:
    torch.cuda.get_device_properties.return_value = types.SimpleNamespace(
        name="H100", L2_cache_size=50 * 2**20
    )
    device = cuda_device.gpu()
    assert (device.torch_name, device.name) == ("cuda", "GPU H100")
    assert device.sets(12_000_000) == 9


def test_a_wrong_call_would_be_seen(cuda: FakeCuda) -> None:
    with pytest.raises(TypeError):
        torch.cuda.synchronize(1, 2, 3)
    event = torch.cuda.Event(enable_timing=True)
    with pytest.raises(AttributeError, match="elapsed_ms"):
        event.elapsed_ms(event)
    with pytest.raises(TypeError):
        event.elapsed_time()


@pytest.mark.parametrize(
    ("problem", "available", "said"),
    [
        ("there is no CUDA driver", False, "there is no CUDA driver"),
        (None, False, f"torch {torch.__version__} finds none"),
        (None, True, None),
    ],
)
def test_why_there_is_no_gpu(
    problem: str | None, available: bool, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = importlib.import_module("subgrad_fast._core")
    monkeypatch.setattr(cuda_device, "_core", mock.create_autospec(core))
    cuda_device._core.cuda.problem.return_value = problem
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert cuda_device.no_gpu() == said
