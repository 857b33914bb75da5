"""benchmarks/exchange: what its page says of figures, and that it runs without root."""

from __future__ import annotations

import copy
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT

pytestmark = pytest.mark.torch
pytest.importorskip("torch")
pytest.importorskip("mlxtend")

PLAIN, OURS, POWER = "no hook", "`sparse_hook`, 1%", "`powerSGD_hook`, rank 1"


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.exchange.table")


def result(ours_ms: float, accuracy: float) -> dict[str, Any]:
    """Of two ranks, behind a link where no hook takes 1.6 s and PowerSGD 50 ms."""
    times = {PLAIN: 1600.0, POWER: 50.0, OURS: ours_ms}
    entries = {name: {"median_ns": ms * 1e6, "sent_bytes": 5e5} for name, ms in times.items()}
    return {
        "quick": False,
        "loopback": None,
        "machine": {"cpu": "a processor", "cores": 2, "device": None},
        "build": {"isa": "avx2", "compiler": "one"},
        "versions": {"torch": "2.13.0"},
        "iterations": [300],
        "seeds": 1,
        "target": {
            "limit": "100 Mbit/s", "method": OURS, "peer": PLAIN, "times": 8.0, "points": 0.5
        },
        "worlds": [
            {
                "world": 2,
                "parameters": 5_300_000,
                "times": {"100 Mbit/s": entries},
                "accuracy": {"300": {PLAIN: [0.93], POWER: [0.93], OURS: [accuracy]}},
            }
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ours_ms", "accuracy", "verdict"),
    [(65.0, 0.926, "met"), (65.0, 0.924, "**missed**"), (300.0, 0.93, "**missed**")],
)
def test_a_target_is_met_by_time_and_accuracy(
    table: Any, ours_ms: float, accuracy: float, verdict: str
) -> None:
    (line,) = (t for t in table.figures(result(ours_ms, accuracy)).split("\n") if "asked" in t)
    assert line.endswith(f": {verdict}.")


def test_every_length_of_training_counts(table: Any) -> None:
    figures = result(65.0, 0.924)
    (world,) = figures["worlds"]
    world["accuracy"]["940"] = {PLAIN: [0.94], POWER: [0.94], OURS: [0.94]}
    text = table.figures(figures)
    assert "0.6 points less accurate after 300, 0.0 points more accurate after 940 iter" in text
    assert "**missed**" in text and "accuracy after 940" in text


def test_the_page_says_by_how_much_powersgd_is_ahead(table: Any) -> None:
    text = table.figures(result(65.0, 0.926))
    assert f"beside {POWER}: {OURS}: 1.30 times its time, -0.4 points after 300." in text
    assert "24.6" in text and "0.500 MB" in text and "92.6%" in text


def test_figures_without_accuracy_or_limit(table: Any) -> None:
    figures = copy.deepcopy(result(65.0, 0.926))
    figures["worlds"][0]["accuracy"] = {}
    text = table.figures(figures)
    assert "points" not in text and "24.6 times the iterations" in text
    assert text.split("\n")[-2].endswith(": met.")
    figures |= {"loopback": "this is not root", "quick": True}
    assert "**Ranks talked by loopback, without a limit** (this is not root)." in (
        table.figures(figures)
    )


def test_another_user_is_told_that_it_takes_root(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = importlib.import_module("benchmarks.exchange.network")
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    assert network.missing() == "this is not root"
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None if name == "tc" else name)
    assert network.missing() == "there is no tc"
    assert network.Network().limits == [] and network.Network().interface == "lo"


@pytest.mark.slow
def test_it_runs_on_loopback(tmp_path: Path) -> None:
    arguments = ["--quick", "--loopback", "--worlds", "2", "--hidden", "8"]
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.exchange", *arguments, "--json", tmp_path / "x.json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "Ranks talk by loopback, without a limit: it was asked for." in ran.stderr
    (world,) = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["worlds"]
    assert list(world["times"]) == ["no limit"] and len(world["times"]["no limit"]) == 7
