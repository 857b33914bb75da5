"""Counts the instructions of the hot calls, and compares them with the figures that are kept.

    python -m benchmarks.instructions            # compares; the exit status says whether all hold
    python -m benchmarks.instructions --write    # keeps what is counted

Time says little on a busy machine; the number of instructions is the same to a few in ten thousand
whatever else runs. It depends on compilers and versions instead, so these are kept with the
figures, and where they are others nothing is compared, and a line says so. Valgrind knows no
AVX-512, so the kernels that are counted are those of AVX2 (or the portable ones).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import subgrad_fast as sf

HERE = Path(__file__).resolve().parent
KEPT = HERE / "counts.json"
LIMIT = 0.03
"""How much a count may differ from the figure that is kept, as a share of it."""
Counts = dict[str, int]


def isa() -> str:
    """The kernels that valgrind can run."""
    return next(name for name in sf.available_isas() if name != "avx512")


def circumstances() -> dict[str, str]:
    """What a count depends on."""
    build = sf.build_info()
    valgrind = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True)
    return {
        "machine": platform.machine(),
        "isa": isa(),
        "compiler": str(build["compiler"]),
        "build_type": str(build["build_type"]),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "libc": " ".join(platform.libc_ver()),
        "valgrind": valgrind.stdout.strip(),
    }


def missing() -> str | None:
    """What counting needs and this machine has not."""
    for tool in ("valgrind", "cc"):
        if shutil.which(tool) is None:
            return f"there is no {tool}"
    asked = "#include <valgrind/callgrind.h>\n"
    command = ["cc", "-fsyntax-only", "-x", "c", "-"]
    if subprocess.run(command, input=asked, capture_output=True, text=True, check=False).returncode:
        return "there are no headers of valgrind"
    return None


def per_call(totals: dict[str, int]) -> Counts:
    """Instructions of one call, from the totals of few calls and of many, by 'name|calls'."""
    by_name: dict[str, dict[int, int]] = {}
    for key, total in totals.items():
        name, _, calls = key.rpartition("|")
        by_name.setdefault(name, {})[int(calls)] = total
    each = {}
    for name, found in sorted(by_name.items()):
        few, many = sorted(found)
        each[name] = round((found[many] - found[few]) / (many - few))
    nothing = each.pop("nothing")
    return {name: instructions - nothing for name, instructions in each.items()}


def totals_in(folder: Path) -> dict[str, int]:
    """The totals of callgrind's dumps, by the names that they were dumped under."""
    found = {}
    for file in folder.glob("dump.*"):
        text = file.read_text(encoding="utf-8", errors="replace")
        name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
        total = re.search(r"^totals: (\d+)", text, re.MULTILINE)
        if name and total:
            found[name.group(1)] = int(total.group(1))
    return found


def counted() -> Counts:
    """Run the calls under callgrind."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        marks = folder / "marks.so"
        compile_marks = ["cc", "-O2", "-shared", "-fPIC", "-o", marks, HERE / "marks.c"]
        subprocess.run(compile_marks, check=True)
        environment = {
            **os.environ,
            "SUBGRAD_FAST_ISA": isa(),
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0",
        }
        command = [
            *("valgrind", "--tool=callgrind", "--instr-atstart=no", "--collect-atstart=no"),
            *(f"--callgrind-out-file={folder}/dump", "-q"),
            *(sys.executable, "-m", "benchmarks.instructions.calls", str(marks)),
        ]
        subprocess.run(command, check=True, env=environment, cwd=HERE.parents[1])
        return per_call(totals_in(folder))


def compared(kept: Counts, now: Counts) -> list[tuple[str, bool]]:
    """A line for each call, and whether it holds."""
    lines = []
    for name in {**kept, **now}:
        if name not in kept or name not in now:
            lines.append((f"{name}: {'not kept' if name in now else 'not counted'}", False))
            continue
        change = (now[name] - kept[name]) / max(kept[name], 1)
        holds = abs(now[name] - kept[name]) <= LIMIT * kept[name]
        verdict = "" if holds else f", more than {LIMIT:.0%} apart"
        text = f"{name}: {now[name]:,} instructions, kept {kept[name]:,} ({change:+.1%}){verdict}"
        lines.append((text, holds))
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Count, and keep or compare. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions")
    parser.add_argument("--write", action="store_true", help="keep the counts")
    write = parser.parse_args(arguments).write
    if reason := missing():
        print(f"instructions: SKIPPED, {reason}")
        return 0
    here = circumstances()
    kept: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
    there = kept.get("circumstances", {})
    if not write and there != here:
        differing = [
            f"{k} {here[k]} (kept: {there.get(k)})" for k in here if here[k] != there.get(k)
        ]
        print(f"instructions: SKIPPED, the figures that are kept are of other {differing}")
        return 0
    now = counted()
    if write:
        text = json.dumps({"circumstances": here, "instructions": now}, indent=1)
        KEPT.write_text(f"{text}\n", encoding="utf-8")
        return 0
    lines = compared(kept["instructions"], now)
    for text, _ in lines:
        print(f"instructions: {text}")
    if not all(holds for _, holds in lines):
        print("instructions: if this is meant, `make instructions-write` keeps the new counts")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
