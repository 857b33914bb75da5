"""tools/cuda_report.py: its arithmetic on published examples, and what it must refuse."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import cuda_report
from kernels import count, objects, page
from kernels.launches import KERNELS
from kernels.occupancy import LIMITS, Limits, occupancy, resident_blocks

V100 = Limits(65536, 64, 32, 96 * 1024, 0, 256)


@pytest.mark.parametrize(("threads", "blocks", "share"), [(128, 12, 0.75), (320, 4, 0.625)])
def test_the_best_practices_guides_example(threads: int, blocks: int, share: float) -> None:
    # CUDA C++ Best Practices Guide, "Calculating Occupancy": 37 registers on a device of 7.0.
    assert resident_blocks(V100, threads, 37, 0) == blocks
    assert occupancy(V100, threads, 37, 0) == share


@pytest.mark.parametrize(
    ("arch", "threads", "registers", "shared", "share"),
    [
        ("75", 256, 64, 0, 1.0),  # 64 registers are what fills an older one's half
        ("90", 256, 64, 0, 0.5),
        ("90", 256, 32, 0, 1.0),
        ("90", 256, 33, 0, 0.75),  # a warp's registers come by 256
        ("120", 256, 64, 0, 32 / 48),
        ("120", 256, 40, 0, 1.0),
        ("75", 32, 16, 0, 0.5),  # the number of blocks
        ("90", 256, 32, 100 * 1024, 0.25),  # shared memory: two blocks
        ("90", 256, 32, 113 * 1024, 0.25),
        ("90", 256, 32, 113 * 1024 + 1, 0.125),  # with what is reserved, one
        ("75", 1024, 64, 0, 1.0),
        ("75", 1024, 65, 0, 0.0),  # cannot be launched
    ],
)
def test_occupancy(arch: str, threads: int, registers: int, shared: int, share: float) -> None:
    assert occupancy(LIMITS[arch], threads, registers, shared) == share


NVIDIAS = r"""
#include <cstdio>
#include <cstring>
#include <cuda_occupancy.h>
int main() {
  int major, minor, registers, warps, blocks, shared, reserved, threads, used, asked;
  while (std::scanf("%d %d %d %d %d %d %d %d %d %d", &major, &minor, &registers, &warps, &blocks,
                    &shared, &reserved, &threads, &used, &asked) == 10) {
    cudaOccDeviceProp p;
    std::memset(&p, 0, sizeof p);
    p.computeMajor = major;
    p.computeMinor = minor;
    p.maxThreadsPerBlock = 1024;
    p.maxThreadsPerMultiprocessor = 32 * warps;
    p.regsPerBlock = p.regsPerMultiprocessor = registers;
    p.warpSize = 32;
    p.sharedMemPerBlock = 48 * 1024;
    p.sharedMemPerMultiprocessor = shared;
    p.sharedMemPerBlockOptin = shared - reserved;
    p.reservedSharedMemPerBlock = reserved;
    p.numSms = 1;
    cudaOccFuncAttributes a;
    std::memset(&a, 0, sizeof a);
    a.maxThreadsPerBlock = 1024;
    a.numRegs = used;
    a.sharedSizeBytes = asked;
    a.partitionedGCConfig = PARTITIONED_GC_OFF;
    a.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    a.maxDynamicSharedSizeBytes = 0;
    cudaOccDeviceState state;
    cudaOccResult result;
    if (cudaOccMaxActiveBlocksPerMultiprocessor(&result, &p, &a, &state, threads, 0)) return 1;
    std::printf("%d\n", result.activeBlocksPerMultiprocessor);
  }
}
"""


def cuda_headers() -> Path | None:
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    homes += [str(Path(nvcc).resolve().parents[1])] if nvcc else []
    found = (Path(home, "include") for home in homes if home)
    return next((d for d in found if (d / "cuda_occupancy.h").is_file()), None)


def test_occupancy_is_what_nvidias_header_says(tmp_path: Path) -> None:
    headers = cuda_headers()
    if headers is None:
        pytest.skip("no CUDA headers on this machine")
    (tmp_path / "occupancy.cpp").write_text(NVIDIAS)
    compiler = os.environ.get("CXX", "c++")
    subprocess.run(
        [compiler, "-w", "-isystem", headers, "occupancy.cpp", "-o", "occupancy"],
        cwd=tmp_path,
        check=True,
    )
    asked, expected = [], []
    for arch, limits in LIMITS.items():
        for threads in (32, 64, 96, 128, 256, 320, 512, 1024):
            for registers in (16, 24, 32, 33, 40, 48, 63, 64, 65, 96, 128, 168, 255):
                for shared in (0, 28, 1024, 9000, 16 * 1024, 48 * 1024):
                    asked.append(
                        f"{arch[:-1]} {arch[-1]} {limits.registers} {limits.warps} "
                        f"{limits.blocks} {limits.shared_bytes} {limits.reserved_shared_bytes} "
                        f"{threads} {registers} {shared}"
                    )
                    expected.append(resident_blocks(limits, threads, registers, shared))
    said = subprocess.check_output([tmp_path / "occupancy"], input="\n".join(asked), text=True)
    differing = [
        (question, ours, theirs)
        for question, ours, theirs in zip(asked, expected, map(int, said.split()), strict=True)
        if ours != theirs
    ]
    assert differing == []


# --- Objects ------------------------------------------------------------------------------------

SASS = """\
	.section	.nv.info,"",@"SHT_CUDA_INFO"
	.align	4
	//----- nvinfo : EIATTR_REGCOUNT
	.align		4
        /*0000*/ 	.byte	0x04, 0x2f
        /*0002*/ 	.short	(.L_1 - .L_0)
	.align		4
.L_0:
        /*0004*/ 	.word	index@(_Z4stepv)
        /*0008*/ 	.word	0x00000030

	//----- nvinfo : EIATTR_FRAME_SIZE
	.align		4
        /*0010*/ 	.word	index@($__internal_45_$__slowpath)
        /*0014*/ 	.word	0x00000000
	//----- nvinfo : EIATTR_FRAME_SIZE
        /*0010*/ 	.word	index@(_Z4stepv)
        /*0014*/ 	.word	0x00000010
	.section	.nv.info._Z4stepv,"",@"SHT_CUDA_INFO"
	//----- nvinfo : EIATTR_MAX_THREADS
	.align		4
        /*00b4*/ 	.byte	0x04, 0x05
        /*00b6*/ 	.short	(.L_377 - .L_376)
.L_376:
        /*00b8*/ 	.word	0x00000080
        /*00bc*/ 	.word	0x00000002
        /*00c0*/ 	.word	0x00000001
	.section	.text._Z4stepv,"ax",@progbits
        /*0070*/                   LDG.E R2, desc[UR6][R2.64] ;
        /*0080*/                   LDG.E.128 R4, desc[UR6][R2.64] ;
        /*0090*/                   LDG.E.128.CONSTANT R4, desc[UR6][R2.64] ;
        /*00a0*/                   LDG.E.EF.128 R4, desc[UR6][R2.64] ;
        /*00b0*/              @!P0 STG.E.128 desc[UR6][R2.64], R4 ;
        /*00c0*/                   LDS.128 R4, [R2] ;
        /*00d0*/                   STL [R1], R4 ;
        /*00e0*/                   LDL.64 R4, [R1] ;
	.section	.nv.shared._Z4stepv,"aw",@nobits
	.align	4
.nv.shared._Z4stepv:
	.zero		1052
"""


def test_a_cubin_is_read() -> None:
    assert objects.kernels_in(SASS, "90") == [
        objects.Compiled("_Z4stepv", "90", 48, 16, 2, 28, 256, 3, 1)
    ]


def fat_binary(*entries: tuple[int, int, int, bytes]) -> bytes:
    """Of (kind, architecture, flags, data)."""
    layout = "<HHIQ12xI8xQ16x"
    packed = b"".join(
        struct.pack(layout, kind, 0x101, 64, len(data), arch, flags) + data
        for kind, arch, flags, data in entries
    )
    return objects.FATBIN_MAGIC + struct.pack("<HHQ", 1, 16, len(packed)) + packed


def test_an_object_is_taken_apart() -> None:
    elf = b"\x7fELF"
    first = fat_binary((2, 75, 0, elf + b"a"), (1, 90, 0, b".version 9.0"), (2, 90, 0, elf + b"b"))
    image = b"\x00" * 7 + first + b"....." + fat_binary((2, 120, 0, elf + b"c"))
    found = [*objects.cubins(image)]
    assert found == [("75", elf + b"a"), ("90", elf + b"b"), ("120", elf + b"c")]
    with pytest.raises(ValueError, match="the cubin for sm_90 is compressed"):
        [*objects.cubins(fat_binary((2, 90, 0x2000, b"?")))]


@pytest.mark.parametrize(
    ("readable", "parts"),
    [
        ("probe()", ("probe", "")),
        ("subgrad::(anonymous namespace)::probe()", ("probe", "")),
        (
            "void subgrad::(anonymous namespace)::f<22, subgrad::(anonymous namespace)::L<8> >(C)",
            ("f", "22, L<8>"),
        ),
        ("void f<(subgrad::DType)1, float>(float const*, int)", ("f", "(DType)1, float")),
        ("void f<subgrad::isa_portable::P>(subgrad::isa_portable::P)", ("f", "P")),
    ],
)
def test_names_are_shortened(readable: str, parts: tuple[str, str]) -> None:
    assert objects.split(readable) == parts


def test_statistics_are_added_up() -> None:
    line = (
        "ptxemu-stats kernel={} grid=4,1,1 block=64,2,1 warp_instructions=9 "
        "lane_efficiency=1.0000 global_bytes={} global_sectors={} sector_efficiency=1.0000\n"
    )
    text = line.format("a", 320, 10) + line.format("b", 4, 1) + line.format("a", 32, 2)
    assert count.launches_in(text) == {"a": (352, 12, 128), "b": (4, 1, 128)}


# --- Findings -----------------------------------------------------------------------------------

GOOD = [objects.Compiled("k", arch, 48, 0, 0, 28, 512, 6, 4) for arch in LIMITS]
COUNTED = [count.Counted("k", arch, 1000, 20_000, 20_000, 625, 256) for arch in LIMITS]


def line(
    dense: bool = True,
    compiled: list[objects.Compiled] = GOOD,
    counted: list[count.Counted] = COUNTED,
) -> page.Line:
    return page.Line("step", "f32", dense, dense, compiled, counted)


def test_a_good_kernel_has_no_findings() -> None:
    assert page.findings([line(), line(dense=False, counted=[])]) == []
    text = page.markdown([line()], {"step": "A step."}, ["nvcc 1"])
    assert "FAILED" not in text
    assert re.search(r"`f32` .* 48 .* 100% / 62% / 83% .* 6 \+ 4 .* 20 \(20\) .* 100.0% ", text)
    assert text.index("Nothing here was run or timed on a GPU") < 100


@pytest.mark.parametrize(
    ("bad", "finding"),
    [
        ({"frame_bytes": 8}, "step<f32> for 90: 8 bytes and 0 accesses of local memory"),
        ({"local_accesses": 1}, "0 bytes and 1 accesses of local memory"),
        ({"loads_16": 0}, "no 16-byte loads"),
        ({"stores_16": 0}, "no 16-byte stores"),
    ],
)
def test_a_bad_object_is_found(bad: dict[str, int], finding: str) -> None:
    compiled = [dataclasses.replace(c, **bad) if c.arch == "90" else c for c in GOOD]
    (found,) = page.findings([line(compiled=compiled)])
    assert finding in found
    assert found in page.markdown([line(compiled=compiled)], {}, [])


@pytest.mark.parametrize(
    ("bad", "finding"),
    [
        ({"sectors": 658}, "step<f32> for 120: 95.0% of the fetched sectors is used"),
        ({"requested_bytes": 20_004}, "20004 bytes moved, 20000 needed"),
    ],
)
def test_bad_traffic_is_found(bad: dict[str, int], finding: str) -> None:
    counted = [dataclasses.replace(n, **bad) if n.arch == "120" else n for n in COUNTED]
    (found,) = page.findings([line(counted=counted)])
    assert finding in found
    # Of the others, that fetch what their data say, it is not asked.
    assert page.findings([line(counted=counted, dense=False)]) == []


def test_a_spill_is_found_in_every_kernel() -> None:
    assert page.findings(
        [line(compiled=[dataclasses.replace(GOOD[0], frame_bytes=8)], dense=False)]
    )


def test_a_dense_kernel_must_be_counted() -> None:
    assert page.findings([line(counted=[])]) == ["step<f32>: its memory traffic was not counted"]
    assert "not counted" in page.markdown([line(counted=[], dense=False)], {}, [])


# --- the table of work ----------------------------------------------------------------------------

KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\([^()]*\)\s+)?(\w+)\(")


def test_every_kernel_has_a_row() -> None:
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "csrc/cuda").rglob("*.cu*")]
    kernels = {name for source in sources for name in KERNEL.findall(source)}
    assert kernels - cuda_report.LEFT_OUT == KERNELS.keys()
    # The control: what is left out is a kernel too, and would be missed.
    assert kernels > KERNELS.keys()
