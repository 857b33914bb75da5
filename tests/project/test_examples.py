"""The examples: each runs as a program would, and ends where it says it does."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests import ROOT

pytest.importorskip("matplotlib")


EXAMPLES = ROOT / "examples"
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
    for fits in runs.values():
        assert set(fits) == {"each by a call", "kept between steps", "NumPy"}
        for found in fits.values():
            assert found.distance < module.BOUND
            assert found.losses[-1] < 0.12 < 2 < found.losses[0]
            assert abs(found.line[0] - 2) < 0.05
            assert abs(found.line[1] - 1) < 0.05
        # The same rows in the same order, and the same steps.
        assert (fits["kept between steps"].line == fits["each by a call"].line).all()
    assert plot.read_bytes().startswith(PNG)
    assert "batch size   1" in capsys.readouterr().out


def test_the_bound_is_not_met_by_itself(tmp_path: Path) -> None:
    """The control: one epoch of large batches is too few steps."""
    module = example("minibatch_regression")
    runs = module.main(["--epochs", "1", "--plot", str(tmp_path / "loss.png")])
    assert runs[512]["each by a call"].distance > 10 * module.BOUND


@pytest.mark.parametrize("seed", range(5))
def test_xor_network(seed: int, tmp_path: Path) -> None:
    plot = tmp_path / "loss.png"
    scores = example("xor_network").main(["--seed", str(seed), "--plot", str(plot)])
    assert scores["XOR"].accuracy > 0.98
    assert all(len(score.recalls) == 8000 // 200 for score in scores.values())
    uniform = scores.pop("1:20 uniform")
    assert uniform.recall < 0.7
    for name in ("1:20 weighted", "1:20 class-balanced"):
        assert scores[name].recall > 0.8
        assert scores[name].recall > uniform.recall + 0.2
        assert scores[name].accuracy > 0.85
    assert plot.read_bytes().startswith(PNG)


def lasso_objective(problem: Any, w: np.ndarray, penalty: float) -> float:
    return float(problem.loss(w) + penalty * np.abs(w).sum())


@pytest.mark.parametrize("seed", range(3))
def test_sparse_regression(seed: int, tmp_path: Path) -> None:
    module = example("sparse_regression")
    plot = tmp_path / "nonzeros.png"
    problem, l1, penalty, l0 = module.main(["--seed", str(seed), "--plot", str(plot)])
    planted = np.flatnonzero(problem.planted)
    assert len(planted) == 20
    for found in (l1, l0):
        assert np.flatnonzero(found.w).tolist() == planted.tolist()
        assert problem.loss(problem.refit(found.w)) < module.EPS
    assert problem.loss(l0.w) < module.EPS
    # Sparsity after each step: never more than k; with the penalty always far from dense.
    assert set(l0.nonzeros) == {20}
    assert max(l1.nonzeros) < 100
    assert plot.read_bytes().startswith(PNG)

    # The same minimum as scikit-learn's, whose objective has the same factors.
    sklearn = pytest.importorskip("sklearn.linear_model")
    theirs = sklearn.Lasso(alpha=penalty, fit_intercept=False, tol=1e-12, max_iter=100_000)
    theirs = theirs.fit(problem.x, problem.y).coef_
    ours = module.fit_l1(problem, penalty, 500, l1.w).w
    np.testing.assert_allclose(
        lasso_objective(problem, ours, penalty),
        lasso_objective(problem, theirs, penalty),
        rtol=1e-10,
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    # The control: one more step from there with another penalty is another minimum.
    other = module.fit_l1(problem, 0.9 * penalty, 500, l1.w).w
    assert np.abs(other - theirs).max() > 1e-2


def test_too_few_weights_do_not_reach_the_bound() -> None:
    """The control: 19 of the 20 are not enough, and without sparsity all weights are in use."""
    module = example("sparse_regression")
    problem = module.make_problem(0)
    assert problem.loss(module.fit_l0(problem, 19, 60).w) > 10 * module.EPS
    dense = module.fit_l1(problem, 0.0, 60, np.zeros(1000))
    assert dense.nonzeros[-1] == 1000


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_the_examples_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 150


NEED_NO_TORCH = ["minibatch_regression", "xor_network", "sparse_regression"]


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        *((name, "matplotlib") for name in NEED_NO_TORCH),
        pytest.param("tiny_gradient_transfer", "mlxtend", marks=pytest.mark.torch),
    ],
)
def test_what_is_missing_is_said_at_once(name: str, missing: str, tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(EXAMPLES)!r}); sys.modules[{missing!r}] = None\n"
        f"import {name}"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert "pip install 'subgrad_fast[examples]'" in ran.stderr
    assert missing in ran.stderr


def test_the_page_lists_all_examples() -> None:
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    shared = {"mnist5k.py", "plots.py"}
    for path in EXAMPLES.glob("*.py"):
        assert f"`{path.name}`" in page or path.name in shared, path.name


@pytest.mark.parametrize("name", NEED_NO_TORCH)
def test_the_examples_need_no_torch(name: str, tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(EXAMPLES)!r}); sys.modules['torch'] = None\n"
        f"import {name}; {name}.main([])"
    )
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True, timeout=120
    )
    assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)
