"""The report as Markdown, and what is wrong with the kernels in it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kernels.count import SECTOR, Counted
from kernels.objects import Compiled
from kernels.occupancy import LIMITS, occupancy

BANDWIDTH = 3.35e12  # bytes a second
LEAST_EFFICIENCY = 0.95

INTRODUCTION = """\
# The CUDA kernels in figures

**Nothing here was run or timed on a GPU.** `make cuda-report` writes this page on a machine without
one: from the object files that nvcc makes (disassembled by nvdisasm), and from what an interpreter
of their PTX (`extern/ptxemu`) counts. Times are estimates from byte counts, not measurements.

Where a cell has three figures they are for compute capability 7.5, 9.0 and 12.0, in this order; one
figure is the same for all three.

- **threads** of a block, as it is launched; **registers** of a thread; **shared**: bytes of static
  shared memory of a block; **occupancy**: the share of a multiprocessor's warps that then fit at
  once, by the limits below
- **local**: bytes of a thread's registers or arrays that were spilled to memory. It must be 0.
- **16 bytes**: load and store instructions in SASS that move 16 bytes a thread; narrower ones are
  for narrower operands and for what does not fill or is not aligned to 16 bytes
- **bytes**: asked for by all threads, per element, on aligned operands, and in brackets the least
  that the algorithm must move (each operand read or written once). What all threads of a block ask
  for, such as the tile they work on, counts for each of them.
- **sectors**: the share of the fetched 32-byte sectors that a thread asked for, without any cache.
  It must be 95% or more for dense kernels; above 100%, threads share what is fetched.
- **estimate**: microseconds for a million elements if the fetched sectors moved at {bandwidth:.2f}
  TB/s, the published bandwidth of an H100 SXM (HBM3). No kernel was timed. Caches make a real one
  faster where sectors are fetched again; arithmetic (orders, draws) and all else make it slower.
"""

LIMITS_TABLE = """\
## Limits

Of one multiprocessor, from the CUDA C++ Programming Guide, "Technical Specifications per Compute
Capability"; units of allocation from the toolkit's `cuda_occupancy.h`.
"""


@dataclass
class Line:
    """What has one name in the report: one kernel, for all architectures and sizes of lists."""

    kernel: str
    title: str
    dense: bool = False
    wide_stores: bool = False
    compiled: list[Compiled] = field(default_factory=list)
    counted: list[Counted] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.kernel}<{self.title}>" if self.title else self.kernel

    @property
    def threads(self) -> int:
        """Of a block: what it is launched with, or the most that it may be."""
        return max(figure.threads for figure in self.counted or self.compiled)

    def on(self, arch: str) -> list[Compiled]:
        return [c for c in self.compiled if c.arch == arch]


def findings(lines: Iterable[Line]) -> list[str]:
    """What a kernel must not be."""
    found = []
    for line in lines:
        for c in line.compiled:
            if c.spills:
                found.append(
                    f"{line.name} for {c.arch}: {c.frame_bytes} bytes and {c.local_accesses} "
                    "accesses of local memory"
                )
            if line.dense and not c.loads_16:
                found.append(f"{line.name} for {c.arch}: no 16-byte loads")
            if line.dense and line.wide_stores and not c.stores_16:
                found.append(f"{line.name} for {c.arch}: no 16-byte stores")
        if not line.dense:
            continue
        if not line.counted:
            found.append(f"{line.name}: its memory traffic was not counted")
        for n in line.counted:
            if n.efficiency < LEAST_EFFICIENCY:
                found.append(
                    f"{line.name} for {n.arch}: {n.efficiency:.1%} of the fetched sectors is used"
                )
            if n.requested_bytes > n.minimum_bytes:
                found.append(
                    f"{line.name} for {n.arch}: {n.requested_bytes} bytes moved, "
                    f"{n.minimum_bytes} needed"
                )
    return [*dict.fromkeys(found)]  # the sizes of a list often have the same fault


def merged(figures: Sequence[str]) -> str:
    """Three figures, or one where they are the same."""
    return figures[0] if len({*figures}) == 1 else " / ".join(figures)


def cells(line: Line) -> list[str]:
    """The line in the table: of several sizes of lists the worst."""

    def each(figure: str) -> str:
        return merged([str(max(getattr(c, figure) for c in line.on(arch))) for arch in LIMITS])

    def warps(arch: str) -> str:
        limits = LIMITS[arch]
        least = min(
            occupancy(limits, line.threads, c.registers, c.shared_bytes) for c in line.on(arch)
        )
        return f"{least:.0%}"

    def wide(arch: str) -> str:
        instances = line.on(arch)
        return f"{min(c.loads_16 for c in instances)} + {min(c.stores_16 for c in instances)}"

    memory = ["not counted", "", ""]
    if line.counted:
        worst = max(line.counted, key=lambda n: n.requested_bytes / n.elements)
        per_element = worst.requested_bytes / worst.elements
        fetched = max(SECTOR * n.sectors / n.elements for n in line.counted)
        memory = [
            f"{per_element:.4g} ({worst.minimum_bytes / worst.elements:.4g})",
            f"{min(n.efficiency for n in line.counted):.1%}",
            f"{fetched * 1e6 / BANDWIDTH * 1e6:.2f}",
        ]
    return [
        f"`{line.title or line.kernel}`",
        str(line.threads),
        each("registers"),
        merged([warps(arch) for arch in LIMITS]),
        each("frame_bytes"),
        each("shared_bytes"),
        merged([wide(arch) for arch in LIMITS]),
        *memory,
    ]


HEADER = (
    "kernel",
    "threads",
    "registers",
    "occupancy",
    "local",
    "shared",
    "16 bytes",
    "bytes",
    "sectors",
    "estimate, µs",
)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown, padded to be legible as plain text too."""
    lines = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def limits_rows() -> list[list[str]]:
    names = {
        "registers": "registers",
        "warps": "warps",
        "blocks": "blocks",
        "shared_bytes": "shared memory, bytes",
        "reserved_shared_bytes": "of it reserved in each block",
        "shared_unit_bytes": "handed out in multiples of",
    }
    return [
        [title, *(f"{getattr(limits, name):,}" for limits in LIMITS.values())]
        for name, title in names.items()
    ]


def markdown(lines: Sequence[Line], about: Mapping[str, str], versions: Sequence[str]) -> str:
    """The page. `about` has what is said of each kernel."""
    found = findings(lines)
    parts = [INTRODUCTION.format(bandwidth=BANDWIDTH / 1e12)]
    if found:
        parts.append("**FAILED:**\n\n" + "".join(f"- {finding}\n" for finding in found))
    for kernel in dict.fromkeys(line.kernel for line in lines):
        rows = [cells(line) for line in lines if line.kernel == kernel]
        said = f"{textwrap.fill(about[kernel], 100)}\n\n" if about.get(kernel) else ""
        parts.append(f"## `{kernel}`\n\n{said}{table(HEADER, rows)}\n")
    header = ["", *(f"{arch[:-1]}.{arch[-1]}" for arch in LIMITS)]
    parts.append(f"{LIMITS_TABLE}\n{table(header, limits_rows())}\n")
    parts.append("Made by " + ", ".join(versions) + ".\n")
    return "\n".join(parts)
