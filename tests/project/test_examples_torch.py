"""The examples on MNIST: what they claim of accuracies, as means over three seeds."""

from __future__ import annotations

import copy
import importlib
import statistics
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests import ROOT

torch = pytest.importorskip("torch")
pytest.importorskip("mlxtend")
pytest.importorskip("matplotlib")

pytestmark = pytest.mark.torch


EXAMPLES = ROOT / "examples"
PNG = b"\x89PNG\r\n\x1a\n"
MEAN = statistics.fmean


@pytest.fixture(autouse=True)
def examples_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def example(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_tiny_gradient_transfer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = example("tiny_gradient_transfer")
    plot, threads = tmp_path / "accuracy.png", torch.get_num_threads()
    runs = module.main(["--densities", "0.01", "0.005", "0.001", "--plot", str(plot)])
    accuracy = {key: MEAN(run.accuracy for run in of) for key, of in runs.items()}
    assert all(len(of) == 3 for of in runs.values())
    dense = accuracy[module.DENSE]
    assert dense > 0.9
    feedback, dropping = module.FEEDBACK, module.DROPPING
    for density in (0.01, 0.001):
        with_feedback, without = accuracy[density, feedback], accuracy[density, dropping]
        assert with_feedback > dense - module.TOLERANCE
        # The control: dropped, the small gradients are missed.
        assert without < with_feedback - {0.01: 0.004, 0.001: 0.02}[density]
        for method in (feedback, dropping):
            for run in runs[density, method]:
                assert run.touched == pytest.approx(density, abs=1e-5)  # one weight of 101,125
    assert accuracy[0.001, dropping] < dense - 2 * module.TOLERANCE
    # Weights take turns if what they wait for is kept; if it is dropped, the same few always win.
    for kept, dropped in zip(runs[0.001, feedback], runs[0.001, dropping], strict=True):
        assert dropped.changed < 0.1 < 0.2 < kept.changed
    # A support that is chosen well does much with the same few.
    assert accuracy[0.01, module.SUPPORT] > dense - module.TOLERANCE
    assert accuracy[0.005, module.SUPPORT] > dense - 1.5 * module.TOLERANCE
    assert accuracy[module.LAST_LAYER] < accuracy[0.005, module.SUPPORT] - 5 * module.TOLERANCE
    for run in runs[0.01, module.SUPPORT]:
        assert run.changed <= 1011.5 / 101_125  # a mean in float32
    assert plot.read_bytes().startswith(PNG)
    assert "0.1% dropping the rest" in capsys.readouterr().out
    assert torch.get_num_threads() == threads


def test_autoencoder_transfer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "digits.png"
    runs = example("autoencoder_transfer").main(["--plot", str(plot)])
    assert all(len(of) == 3 for of in runs.values())
    scratch, pretrained = (
        {name: MEAN(runs[name, start]) for name in ("SGD", "ThresholdSGD")}
        for start in ("from scratch", "pre-trained")
    )
    assert min(scratch.values()) > 0.85  # it is no straw man
    assert pretrained["SGD"] > scratch["SGD"] + 0.003
    assert pretrained["ThresholdSGD"] > scratch["ThresholdSGD"] + 0.01
    assert pretrained["ThresholdSGD"] > scratch["SGD"]
    assert plot.read_bytes().startswith(PNG)
    assert "ThresholdSGD  pre-trained" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["SGD", "ThresholdSGD"])
@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_layers_keep_their_bits(name: str, frozen: bool) -> None:
    """And the others learn; so does the first, the control, if it is not frozen."""
    module, mnist5k = example("autoencoder_transfer"), example("mnist5k")
    torch.manual_seed(0)
    classifier = torch.nn.Sequential(module.new_encoder(), module.new_head())
    classifier[0][0].requires_grad_(not frozen)
    before = copy.deepcopy(classifier.state_dict())
    (data,) = mnist5k.split(range(10), [5], seed=0)
    with mnist5k.one_thread():
        module.fine_tune(classifier, (name, "pre-trained"), data, epochs=1, seed=0)
    after: dict[str, Any] = classifier.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    first = {"0.0.weight", "0.0.bias"}
    assert moved >= {"0.2.weight", "1.2.weight"}
    assert moved.isdisjoint(first) if frozen else "0.0.weight" in moved


def test_parts_share_no_image() -> None:
    mnist5k = example("mnist5k")
    parts = mnist5k.split(range(5, 10), [300, 200], seed=1)
    assert [part.images.shape for part in parts] == [(1500, 1, 28, 28), (1000, 1, 28, 28)]
    for part, count in zip(parts, (300, 200), strict=True):
        assert part.labels.bincount().tolist() == [count] * 5
    images = torch.cat([part.images for part in parts]).flatten(1)
    originals = torch.from_numpy(mnist5k.load()[0][2500:]).flatten(1)
    # Together they are all there are of 5-9, so none is in both.
    assert torch.equal(images.unique(dim=0), originals.unique(dim=0))
    again, other = (mnist5k.split(range(5, 10), [300], seed)[0] for seed in (1, 2))
    assert torch.equal(again.images, parts[0].images)
    assert not torch.equal(other.images, parts[0].images)
