"""How many warps of a kernel fit a multiprocessor at once, by the architectures' published limits.

The limits are those of the CUDA C++ Programming Guide, "Technical Specifications per Compute
Capability"; in what units registers and shared memory are handed out is in `cuda_occupancy.h` of
the CUDA toolkit, with which tests/cuda/test_report.py compares this.
"""

from __future__ import annotations

from dataclasses import dataclass

WARP = 32
PARTITIONS = 4
"""Of a multiprocessor: each has a quarter of the registers, for its own warps."""
REGISTER_UNIT = 256
"""Registers are handed out to a warp in multiples of this."""


@dataclass(frozen=True)
class Limits:
    """What one multiprocessor holds."""

    registers: int
    warps: int
    blocks: int
    shared_bytes: int
    reserved_shared_bytes: int
    """Of every block's shared memory, for the system."""
    shared_unit_bytes: int


LIMITS = {
    "75": Limits(65536, 32, 16, 64 * 1024, 0, 256),
    "90": Limits(65536, 64, 32, 228 * 1024, 1024, 128),
    "120": Limits(65536, 48, 24, 100 * 1024, 1024, 128),
}


def round_up(n: int, unit: int) -> int:
    return -(-n // unit) * unit


def resident_blocks(limits: Limits, threads: int, registers: int, shared_bytes: int) -> int:
    """How many blocks fit. `shared_bytes` is what the kernel asks for, without what is reserved."""
    warps = round_up(threads, WARP) // WARP
    a_warps_registers = round_up(registers * WARP, REGISTER_UNIT)
    by_registers = limits.registers // PARTITIONS // a_warps_registers * PARTITIONS // warps
    by_shared = limits.blocks
    if a_blocks_shared := round_up(
        shared_bytes + limits.reserved_shared_bytes, limits.shared_unit_bytes
    ):
        by_shared = limits.shared_bytes // a_blocks_shared
    return min(limits.blocks, limits.warps // warps, by_registers, by_shared)


def occupancy(limits: Limits, threads: int, registers: int, shared_bytes: int) -> float:
    """Resident warps as a share of those that a multiprocessor has room for."""
    warps = round_up(threads, WARP) // WARP
    return resident_blocks(limits, threads, registers, shared_bytes) * warps / limits.warps
