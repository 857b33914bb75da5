"""Puts faults into a copy of the CUDA sources, one at a time: the tests must find each.

    python tools/cuda_mutants.py [name ...]

Every mutant is compiled to PTX for one architecture and run by the interpreter, as `make test-cuda`
does (run that first: it builds the interpreter). Exits with 1 if a mutant survives.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from cuda_mutants_sparse import MUTANTS as SPARSE_MUTANTS  # noqa: E402
from cuda_sessions import INNER, session  # noqa: E402

WORK = ROOT / "build" / "mutants"
SOURCE = WORK / "src"


@dataclass
class Mutant:
    name: str
    file: str  # below csrc/
    right: str
    wrong: str
    tests: tuple[str, ...] = ("",)  # below tests/cuda/: what could find it


DENSE = "cuda/dense.cu"
LISTS = "cuda/lists.cuh"
MUTANTS = [
    Mutant("lost-barrier", DENSE, "  __syncthreads();\n", ""),
    Mutant("alignment-not-checked", DENSE, "s.packed = packed(", "s.packed = true || packed("),
    Mutant(
        "momentum-alignment-not-checked",
        DENSE,
        "         aligned_to(t.momentum, lanes * size_of(types.momentum));",
        "         true;",
    ),
    Mutant(
        "pack-read-behind-the-end",
        DENSE,
        "i + u * stride < end ? i + u * stride : i",
        "i + u * stride",
    ),
    Mutant(
        "pack-written-behind-the-end",
        DENSE,
        "if (i + u * stride >= end) continue;",
        "if (i + u * stride > end) continue;",
    ),
    Mutant("rest-forgotten", DENSE, "work.template step<1>(in_packs, n);", ""),
    Mutant(
        "chunk-overruns-its-tensor",
        DENSE,
        "min(std::int64_t{list.chunk}, s.n - begin)",
        "list.chunk",
    ),
    Mutant("packs-stepped-twice", DENSE, "i += packs * stride", "i += stride"),
    Mutant("chunk-of-another-block", DENSE, "{block - list.first_block[i]}", "{block}"),
    Mutant(
        "search-off-by-one", LISTS, "first_block[middle] <= block", "first_block[middle] < block"
    ),
    Mutant("last-chunk-forgotten", DENSE, "n + list.chunk - 1) /", "n + list.chunk - 2) /"),
    Mutant("row-of-another-tensor", DENSE, "list.rows[s.row]", "list.rows[0]"),
    Mutant("rule-of-another-tensor", LISTS, "if (rule < middle)", "if (rule <= middle)"),
    Mutant("momentum-always-written", DENSE, "if (segment.writes_momentum) pack_at", "pack_at"),
    Mutant("momentum-not-read", DENSE, "if (segment.reads_momentum) {", "if (false) {"),
    Mutant("found-inf-ignored", DENSE, "*options.found_inf != 0.0f", "*options.found_inf > 1.0f"),
    Mutant("scale-not-inverted", DENSE, "C(1) / C(*options.grad_scale)", "C(*options.grad_scale)"),
    Mutant("rate-on-the-device-ignored", DENSE, "if (row.lr != nullptr) params.lr = *row.lr;", ""),
    Mutant("last-list-not-launched", DENSE, "return launches.run();", "return cudaSuccess;"),
    Mutant("rows-of-the-last-list", DENSE, "list_.count = rows_ = 0;", "list_.count = 0;"),
    Mutant("rounded-toward-zero", "core/convert.h", "cvt.rn.bf16.f32", "cvt.rz.bf16.f32"),
    *(
        Mutant(f"sparse-{name}", *change, tests=("test_select_cuda.py", "test_sparse_cuda.py"))
        for name, *change in SPARSE_MUTANTS
    ),
]


def run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=WORK, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{command}\n{done.stdout}{done.stderr}")


def prepare() -> None:
    """A copy of the sources, configured. Its build directory is kept for the next time."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    for name in ("CMakeLists.txt", "pyproject.toml"):
        shutil.copy2(ROOT / name, SOURCE)
    shutil.copytree(ROOT / "csrc", SOURCE / "csrc")
    pybind11 = subprocess.check_output([sys.executable, "-m", "pybind11", "--cmakedir"], text=True)
    definitions = {
        "SUBGRAD_CUDA": "ON",
        "SUBGRAD_CUDA_EMULATED": "ON",
        "CMAKE_CUDA_ARCHITECTURES": "90-virtual",
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.strip(),
    }
    run(
        "cmake",
        "-G",
        "Ninja",
        "-S",
        "src",
        "-B",
        ".",
        *(f"-D{k}={v}" for k, v in definitions.items()),
    )


def build() -> Path:
    run("cmake", "--build", ".", "--target", "_cuda_emulated")
    [module] = WORK.glob("_cuda_emulated.*")
    return module


def survives(mutant: Mutant) -> bool:
    file = SOURCE / "csrc" / mutant.file
    text = file.read_text(encoding="utf-8")
    if mutant.right not in text:
        sys.exit(f"{mutant.name}: its place in {mutant.file} was not found")
    file.write_text(text.replace(mutant.right, mutant.wrong), encoding="utf-8")
    try:
        ran = session(build(), "90", "random", *(str(INNER / test) for test in mutant.tests))
    finally:
        file.write_text(text, encoding="utf-8")
    reason = [
        line
        for line in (ran.stderr + ran.stdout).splitlines()
        if line.startswith(("ptxemu:", "E  "))
    ]
    found = ran.returncode != 0
    print(
        f"{mutant.name:32} {'found' if found else 'SURVIVES'}  {reason[0][:120] if reason else ''}"
    )
    return not found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only these")
    wanted = parser.parse_args().names
    mutants = [m for m in MUTANTS if not wanted or m.name in wanted]
    if shutil.which("nvcc") is None:
        print("cuda-mutants: SKIPPED, there is no nvcc on this machine")
        return 0
    prepare()
    # The control: without a fault the tests pass.
    ran = session(build(), "90", "random", str(INNER))
    if ran.returncode != 0:
        sys.exit(f"the tests fail without any fault:\n{ran.stdout}{ran.stderr}")
    survivors = sum(survives(m) for m in mutants)
    print(f"cuda-mutants: {len(mutants) - survivors} of {len(mutants)} found")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
