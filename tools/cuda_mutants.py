"""Puts faults into a copy of the CUDA sources, one at a time: the tests must find each.

    python tools/cuda_mutants.py [name ...]

Every mutant is compiled to PTX for one architecture and run by the interpreter, as `make test-cuda`
does. Exits with 1 if a mutant survives.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path
from subprocess import CompletedProcess

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from mutants import Mutant, clip, dense, loading, sampling, stages, threshold  # noqa: E402

from tests.cuda.sessions import INNER, session  # noqa: E402

# One level lower than the build that the tests take their kernels from.
WORK = ROOT / "build" / "mutants" / "build"
SOURCE = ROOT / "build" / "mutants" / "src"

KERNELS = (dense, clip, stages, sampling, loading, threshold)  # the modules of tools/mutants/


def run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=WORK, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{command}\n{done.stdout}{done.stderr}")


def prepare() -> None:
    """A copy of the sources, configured. Its build directory is kept for the next time.

    The copies are new files, so that what was built of the last fault is built again.
    """
    shutil.rmtree(SOURCE, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    WORK.mkdir(exist_ok=True)
    for name in ("CMakeLists.txt", "pyproject.toml"):
        shutil.copy2(ROOT / name, SOURCE)
    for name in ("csrc", "cmake", "extern/ptxemu/src"):
        shutil.copytree(ROOT / name, SOURCE / name, copy_function=shutil.copy)
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
        "../src",
        "-B",
        ".",
        *(f"-D{k}={v}" for k, v in definitions.items()),
    )


def build() -> Path:
    run("cmake", "--build", ".", "--target", "_cuda_emulated")
    [module] = WORK.glob("_cuda_emulated.*")
    return module


def test(module: Path, *names: str) -> CompletedProcess[str]:
    """Runs those files of tests/cuda/kernels/. A kernel that would never end is stopped."""
    files = [str(INNER / name) for name in names]
    return session(module, "90", "random", *files, PTXEMU_LIMIT=str(10**8))


def survives(mutant: Mutant, tests: tuple[str, ...]) -> bool:
    started = time.monotonic()
    file = SOURCE / "csrc" / mutant.file
    text = file.read_text(encoding="utf-8")
    if mutant.right not in text:
        sys.exit(f"{mutant.name}: its place in {mutant.file} was not found")
    file.write_text(text.replace(mutant.right, mutant.wrong), encoding="utf-8")
    try:
        ran = test(build(), *tests)
    finally:
        file.write_text(text, encoding="utf-8")
    # Found is what fails a test or ends the session by a signal, as the interpreter does; other
    # statuses say that pytest had nothing to run.
    if ran.returncode > 1:
        sys.exit(f"{mutant.name}: the tests did not run:\n{ran.stdout}{ran.stderr}")
    found = ran.returncode != 0
    said = (ran.stderr + ran.stdout).splitlines()
    reason = next((line for line in said if line.startswith(("ptxemu:", "E  "))), "")
    verdict = "found" if found else "SURVIVES"
    seconds = time.monotonic() - started
    print(f"{mutant.name:32} {verdict:8} {seconds:4.0f} s  {reason[:110]}", flush=True)
    return not found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only these")
    wanted = parser.parse_args().names
    mutants = [
        (mutant, kernel.TESTS)
        for kernel in KERNELS
        for mutant in kernel.MUTANTS
        if not wanted or mutant.name in wanted
    ]
    if unknown := {*wanted} - {mutant.name for mutant, _ in mutants}:
        sys.exit(f"cuda-mutants: there is no {', '.join(sorted(unknown))}")
    if shutil.which("nvcc") is None:
        print("cuda-mutants: SKIPPED, there is no nvcc on this machine")
        return 0
    prepare()
    # The control: without a fault the tests pass.
    ran = test(build(), *sorted({name for _, tests in mutants for name in tests}))
    if ran.returncode != 0:
        sys.exit(f"the tests fail without any fault:\n{ran.stdout}{ran.stderr}")
    survivors = sum(survives(mutant, tests) for mutant, tests in mutants)
    print(f"cuda-mutants: {len(mutants) - survivors} of {len(mutants)} found")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
