"""Writes docs/cuda_report.md: registers, occupancy, spills, memory traffic of the CUDA kernels.

    python tools/cuda_report.py          # or `make cuda-report`, which builds what this needs

Needs the objects and the module that `make test-cuda` builds, its interpreter, and nvdisasm. Exits
with 1 if a kernel spills registers, or a dense one fetches what it does not use.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from kernels.count import Counted, count  # noqa: E402
from kernels.launches import KERNELS  # noqa: E402
from kernels.objects import Compiled, cubins, demangled, disassemble, kernels_in  # noqa: E402
from kernels.occupancy import LIMITS  # noqa: E402
from kernels.page import Line, findings, markdown  # noqa: E402

from tests.cuda.sessions import emulated_module  # noqa: E402

PAGE = ROOT / "docs" / "cuda_report.md"
LEFT_OUT = {"probe"}  # empty: it is there to be found


def nvdisasm() -> Path:
    """From PyPI's nvidia-cuda-nvdisasm."""
    return Path(sysconfig.get_path("purelib"), "nvidia", "cu13", "bin", "nvdisasm")


def compiled(build: Path) -> list[Compiled]:
    """All kernels in the objects of a build, for the architectures of the report."""
    found = []
    with tempfile.TemporaryDirectory() as directory:
        for file in sorted(build.glob("CMakeFiles/subgrad_cuda.dir/csrc/cuda/*.cu.o")):
            for arch, cubin in cubins(file.read_bytes()):
                if arch in LIMITS:
                    text = disassemble(nvdisasm(), cubin, Path(directory, "cubin"))
                    found += kernels_in(text, arch)
    if missing := LIMITS.keys() - {c.arch for c in found}:
        sys.exit(f"cuda-report: {build} has no kernels for {', '.join(sorted(missing))}")
    return found


def counted(module: Path) -> list[Counted]:
    """What the kernels of the table move."""
    with ThreadPoolExecutor(2) as pool:
        return [n for some in pool.map(lambda arch: count(module, arch), LIMITS) for n in some]


def lines(all_compiled: Iterable[Compiled], all_counted: Iterable[Counted]) -> list[Line]:
    """One for each name in the report."""
    figures: list[Compiled | Counted] = [*all_compiled, *all_counted]
    names = demangled([*dict.fromkeys(figure.name for figure in figures)])
    found: dict[tuple[str, str], Line] = {}
    for figure in figures:
        kernel, arguments = names[figure.name]
        if kernel in LEFT_OUT:
            continue
        if row := KERNELS.get(kernel):
            title = row.title(arguments)
            new = Line(kernel, title, row.dense, row.wide_stores(title))
        else:
            title = arguments
            new = Line(kernel, title)
        line = found.setdefault((kernel, title), new)
        if isinstance(figure, Compiled):
            line.compiled.append(figure)
        else:
            line.counted.append(figure)
    order = {kernel: number for number, kernel in enumerate(KERNELS)}
    return [
        found[key] for key in sorted(found, key=lambda key: (order.get(key[0], len(order)), key))
    ]


def main() -> int:
    if shutil.which("nvcc") is None:
        print("cuda-report: SKIPPED, there is no nvcc on this machine")
        return 0
    module = emulated_module()
    if module is None:
        sys.exit("cuda-report: the kernels are not built: run `make cuda-report`")
    said = subprocess.check_output(["nvcc", "--version"], text=True)
    version = importlib.metadata.version("nvidia-cuda-nvdisasm")
    all_lines = lines(compiled(module.parent), counted(module))
    versions = [f"nvcc {said.partition(' V')[2].split()[0]}", f"nvdisasm {version}"]
    about = {name: kernel.about for name, kernel in KERNELS.items()}
    PAGE.write_text(markdown(all_lines, about, versions), encoding="utf-8")
    found = findings(all_lines)
    for finding in found:
        print(finding, file=sys.stderr)
    print(f"{PAGE.relative_to(ROOT)}: {len(all_lines)} lines, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
