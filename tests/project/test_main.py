"""`python -m subgrad_fast`, and the benchmarks behind it."""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import subgrad_fast
from subgrad_fast import __main__ as main_module
from subgrad_fast import _core
from tests import ROOT


def run(*arguments: str, program: tuple[str, ...] = ("-m", "subgrad_fast")) -> tuple[int, str, str]:
    """Run the command in the checkout: exit status, standard output, standard error."""
    command = [sys.executable, *program, *arguments]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout, ran.stderr


def facts(printed: str) -> dict[str, str]:
    """What `info` said, by label."""
    pairs = (line.split("  ", 1) for line in printed.splitlines())
    return {label: value.strip() for label, value in pairs}


def test_without_a_command_it_says_what_there_is() -> None:
    status, printed, errors = run()
    assert (status, errors) == (0, "")
    assert printed.startswith("usage: python -m subgrad_fast ")
    for command in ("info", "bench", "demo", "--version"):
        assert command in printed


def test_it_says_its_version() -> None:
    status, printed, errors = run("--version")
    assert (status, errors) == (0, "")
    assert printed == f"subgrad-fast {subgrad_fast.__version__}\n"


def test_the_installed_script_is_the_same_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (script,) = importlib.metadata.entry_points(name="subgrad-fast", group="console_scripts")
    assert script.load() is main_module.main
    monkeypatch.setattr(sys, "argv", ["/usr/bin/subgrad-fast", "info"])
    assert main_module.program() == "subgrad-fast"
    assert script.load()() == 0
    assert subgrad_fast.__version__ in capsys.readouterr().out


def test_output_that_nobody_reads_is_no_error() -> None:
    command = f"{sys.executable} -m subgrad_fast info --json | head -c 1; echo ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    assert ran.stdout.split("{")[1].strip() in {"0", "1"}


def test_info_is_read_by_programs() -> None:
    status, printed, errors = run("info", "--json")
    assert (status, errors) == (0, "")
    said = json.loads(printed)
    own = said["subgrad_fast"]
    assert own["version"] == subgrad_fast.__version__
    assert own["build"]["isa"] == subgrad_fast.build_info()["isa"]
    assert own["available_isas"] == [*subgrad_fast.available_isas()]
    assert own["cuda"] == dict(_core.cuda.info())
    assert said["numpy"]["version"] == np.__version__
    assert said["python"]["path"] == sys.executable


def test_info_says_what_is_installed() -> None:
    status, printed, _ = run("info")
    assert status == 0
    said = facts(printed)
    assert said["subgrad_fast"].startswith(subgrad_fast.__version__)
    assert said["ISA"].startswith(str(subgrad_fast.build_info()["isa"]))
    assert all(isa in said["ISA"] for isa in subgrad_fast.available_isas())
    assert said["numpy"] == np.__version__
    assert re.match(r"\d+, decided by OpenMP's setting .*torch\.set_num_threads", said["threads"])
    assert said["threads"].endswith("; loops that lose by them go alone")
    assert re.match(r"(\d+|unknown) by the affinity mask; (no|a) quota", said["processors"])
    assert re.match(r"(auto|now|off); the kernel's policy: \w+", said["huge pages"])


def test_info_measures_memory() -> None:
    status, printed, errors = run("info", "--memory")
    assert (status, errors) == (0, "")
    said = facts(printed)
    found = r"(\d+%|unknown \(Linux 6.7 tells\)) on huge pages"
    assert re.match(found + r" after 24 steps; [\d.]+ ms a step", said["64 MiB of weights"])
    assert re.match(r"\d+ MiB; " + found, said["use_huge_pages()"])
    assert "optim.keep_memory()" in said["allocator"]


@pytest.mark.parametrize("module", ["subgrad_fast._core", "torch"])
def test_info_quotes_an_import_error(module: str) -> None:
    # What `python -m` does, with one module that cannot be imported.
    broken = (
        f"import runpy, sys; sys.modules['{module}'] = None; sys.argv = ['-m', 'info']; "
        "runpy.run_module('subgrad_fast', run_name='__main__', alter_sys=True)"
    )
    status, printed, errors = run(program=("-c", broken))
    assert errors == ""
    assert f"ModuleNotFoundError: import of {module} halted" in printed
    assert status == (1 if module == "subgrad_fast._core" else 0)
    as_json = broken.replace("'info']", "'info', '--json']")
    again, printed, errors = run(program=("-c", as_json))
    assert (again, errors) == (status, "")
    assert "halted" in json.loads(printed)[module.partition(".")[0]]["error"]


def test_info_quotes_an_unknown_isa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBGRAD_FAST_ISA", "abacus")
    status, printed, errors = run("info")
    assert (status, errors) == (1, "")
    assert "does not run: ValueError: SUBGRAD_FAST_ISA: 'abacus' is unknown" in printed


@pytest.mark.parametrize(
    "arguments", [["no-such-command"], ["info", "--no-such-option"], ["demo", "--epochs", "0"]]
)
def test_a_wrong_command_is_refused(arguments: list[str]) -> None:
    status, _, errors = run(*arguments)
    assert status == 2
    assert "usage: " in errors


# --- Benchmarks ---------------------------------------------------------------------------------


@pytest.mark.torch
def test_bench_measures_a_row(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "bench.json"
    rows = ("--rows", "hot-161x1@1")
    status, printed, errors = run("bench", "dense", "--quick", *rows, "--json", str(path))
    assert status == 0, errors
    assert "| hot: 161 one-element tensors " in printed
    (row,) = json.loads(path.read_text())["rows"]
    assert (row["name"], row["threads"]) == ("hot-161x1", 1)
    assert row["same_bits"] is True
    torchs = {f"`torch.optim.SGD{way}`" for way in ("", "(foreach=True)", "(fused=True)")}
    assert set(row["times"]) == {*torchs, "ours"}
    assert row["comparisons"][0]["ratio_of_medians"] > 0


@pytest.mark.torch
@pytest.mark.parametrize(
    ("arguments", "row"),
    [
        ([], "loop-64@1"),
        (["dense"], "loop-64@1"),
        (["sampling"], "permutation@1"),
        (["loading"], "images-128@1"),
        (["threshold", "select"], "top-1.0%@1"),
        (["rows"], "rows-1m@1"),
        (["sparsify"], "2:4@"),
    ],
)
def test_bench_lists_the_rows_of_the_benchmark_named(arguments: list[str], row: str) -> None:
    status, printed, _ = run("bench", *arguments, "--list")
    assert status == 0
    assert any(name.startswith(row) for name in printed.split())


@pytest.mark.torch
def test_bench_refuses_an_unknown_row() -> None:
    pytest.importorskip("torch")
    status, _, errors = run("bench", "--rows", "no-such-row")
    assert status == 2
    assert "--list" in errors


@pytest.mark.torch
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-subject"], "there is no subject 'no-such-subject'; there are standard, dense, "),
        (["dense", "--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["dense", "select", "--json", "both.json"], "a file keeps one subject"),
    ],
)
def test_bench_refuses_an_unknown_word(arguments: list[str], said: str) -> None:
    pytest.importorskip("torch")
    status, printed, errors = run("bench", *arguments)
    assert (status, printed) == (2, "")
    assert said in errors


@pytest.fixture
def harness() -> Any:
    return importlib.import_module("subgrad_fast.bench.harness")


@pytest.mark.parametrize(("limit", "met"), [(0.5, True), (0.49, False)])
def test_the_harness_sees_who_is_faster(harness: Any, limit: float, met: bool) -> None:
    """Ours takes 1000 ns, the peer 2000, on a clock that only they move."""
    now_ns = 0

    def takes(duration_ns: int) -> None:
        nonlocal now_ns
        now_ns += duration_ns

    contenders = [
        harness.Contender("peer", lambda: takes(2000), lambda: takes(7)),
        harness.Contender(harness.OURS, lambda: takes(1000), lambda: takes(9)),
    ]
    samples = harness.measure(contenders, block=4, budget_s=0, min_rounds=3, clock=lambda: now_ns)
    assert samples == {"peer": [[2000] * 4] * 3, harness.OURS: [[1000] * 4] * 3}
    comparison = harness.compare(samples, harness.Target("peer", limit))
    ratios = ["ratio_of_medians", "ratio_of_minima", "ratio_paired"]
    assert [comparison[name] for name in ratios] == [0.5] * 3
    assert comparison["met"] is met


def test_the_harness_alternates(harness: Any) -> None:
    ran: list[str] = []
    contenders = [harness.Contender(name, lambda n=name: ran.append(n)) for name in ("a", "ours")]
    harness.measure(contenders, block=2, budget_s=0, min_rounds=2, warmup=0)
    assert "".join(name[0] for name in ran) == "aaooaaoo"


def test_the_harness_sees_a_differing_bit(harness: Any) -> None:
    a = np.zeros(9, np.float32)
    for b, same in ((a.copy(), True), (-a, False)):
        contenders = [
            harness.Contender(name, print, results=lambda array=array: [array])
            for name, array in (("peer", a), (harness.OURS, b))
        ]
        assert harness.same_bits(contenders, "peer") is same
    assert harness.same_bits(contenders, "no such peer") is None


def test_resnet50_has_its_parameters(harness: Any) -> None:
    pytest.importorskip("torch")
    workloads = importlib.import_module("subgrad_fast.bench.workloads")
    shapes = workloads.resnet50_shapes()
    assert len(shapes) == 161
    assert sum(int(np.prod(shape)) for shape in shapes) == 25_557_032
    assert sum(len(shape) == 4 for shape in shapes) == 53
    assert sum(map(int, itertools.chain(*shapes[:1]))) == 64 + 3 + 7 + 7
