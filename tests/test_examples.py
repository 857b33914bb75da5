"""The examples: each runs as a program would, and ends where it says it does."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("matplotlib")

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def examples_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def example(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.mark.parametrize("seed", range(3))
def test_minibatch_regression(
    seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = example("minibatch_regression")
    plot = tmp_path / "loss.png"
    runs = module.main(["--seed", str(seed), "--plot", str(plot)])
    assert set(runs) >= {1, 8, 64}
    for size, (ours, numpys) in runs.items():
        assert ours.steps == numpys.steps == 30 * -(-2000 // size)
        assert ours.distance < module.BOUND
        assert ours.losses[-1] < 0.12 < 2 < ours.losses[0]
        assert abs(ours.line[0] - 2) < 0.05
        assert abs(ours.line[1] - 1) < 0.05
    assert plot.read_bytes().startswith(PNG)
    assert "batch size   1, 60000 steps" in capsys.readouterr().out


def test_the_bound_is_not_met_by_itself(tmp_path: Path) -> None:
    """The control: one epoch of large batches is too few steps."""
    module = example("minibatch_regression")
    runs = module.main(["--epochs", "1", "--plot", str(tmp_path / "loss.png")])
    assert runs[512][0].distance > 10 * module.BOUND


@pytest.mark.parametrize("seed", range(5))
def test_xor_network(seed: int, tmp_path: Path) -> None:
    plot = tmp_path / "loss.png"
    scores = example("xor_network").main(["--seed", str(seed), "--plot", str(plot)])
    assert scores["XOR"].accuracy > 0.98
    uniform = scores.pop("1:20 uniform")
    assert uniform.recall < 0.7
    for name in ("1:20 weighted", "1:20 class-balanced"):
        assert scores[name].recall > 0.8
        assert scores[name].recall > uniform.recall + 0.2
        assert scores[name].accuracy > 0.85
    assert plot.read_bytes().startswith(PNG)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_the_examples_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 150


@pytest.mark.parametrize("name", ["minibatch_regression", "xor_network"])
def test_the_examples_need_no_torch(name: str, tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(EXAMPLES)!r}); sys.modules['torch'] = None\n"
        f"import {name}; {name}.main([])"
    )
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True, timeout=120
    )
    assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)
