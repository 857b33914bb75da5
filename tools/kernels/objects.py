"""What nvcc made of the kernels: read from the object files of the build, by way of nvdisasm."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kernels.occupancy import LIMITS

FATBIN_MAGIC = struct.pack("<I", 0xBA55ED50)
ELF = 2  # kind of an entry; 1 is PTX


@dataclass(frozen=True)
class Compiled:
    """One kernel for one architecture."""

    name: str  # as the linker knows it
    arch: str
    registers: int
    frame_bytes: int  # of each thread, in local memory
    local_accesses: int  # instructions that read or write local memory
    shared_bytes: int  # static, without what the system reserves
    threads: int  # the most that a block may have: 1024 if the kernel has no launch bounds
    loads_16: int
    stores_16: int

    @property
    def spills(self) -> bool:
        """Arrays that could not be kept in registers count too: they are as slow."""
        return self.frame_bytes > 0 or self.local_accesses > 0


def cubins(image: bytes) -> Iterator[tuple[str, bytes]]:
    """(architecture, cubin) of every fat binary in an object file."""
    at = image.find(FATBIN_MAGIC)
    while at >= 0:
        header_bytes, data_bytes = struct.unpack_from("<HQ", image, at + 6)
        entry, end = at + header_bytes, at + header_bytes + data_bytes
        while entry < end:
            kind, header_bytes, size = struct.unpack_from("<H2xIQ", image, entry)
            (arch,) = struct.unpack_from("<I", image, entry + 28)
            (flags,) = struct.unpack_from("<Q", image, entry + 40)
            data = image[entry + header_bytes : entry + header_bytes + size]
            if kind == ELF:
                if flags & 0xE000 or not data.startswith(b"\x7fELF"):
                    raise ValueError(f"the cubin for sm_{arch} is compressed: use --no-compress")
                yield str(arch), data
            entry += header_bytes + size
        at = image.find(FATBIN_MAGIC, end)


def disassemble(nvdisasm: Path, cubin: bytes, file: Path) -> str:
    """SASS and attributes as text; `file` is written on the way."""
    file.write_bytes(cubin)
    return subprocess.check_output([nvdisasm, file], text=True)


ATTRIBUTE = re.compile(r"//----- nvinfo : (EIATTR_\w+)")
NAMED_WORD = re.compile(r"index@\(([^)]*)\)\s*/\*\w+\*/\s*\.word\s+(0x[0-9a-f]+)")
WORD = re.compile(r"\.word\s+(0x[0-9a-f]+)")
LOCAL = re.compile(r"\b(LDL|STL)\b")
LOAD_16 = re.compile(r"\bLDG\.E(\.\w+)*\.128\b")
STORE_16 = re.compile(r"\bSTG\.E(\.\w+)*\.128\b")


def sections(text: str) -> Iterator[tuple[str, str]]:
    """(name, text) of the sections that nvdisasm has printed."""
    parts = re.split(r"^\s*\.section\s+([^,\s]+)", text, flags=re.MULTILINE)
    yield from zip(parts[1::2], parts[2::2], strict=True)


def attributes(section: str) -> Iterator[tuple[str, str]]:
    """(name, text) of the attributes in a section named .nv.info."""
    parts = ATTRIBUTE.split(section)
    yield from zip(parts[1::2], parts[2::2], strict=True)


def kernels_in(text: str, arch: str) -> list[Compiled]:
    """The kernels in what nvdisasm has printed of one cubin."""
    registers: dict[str, int] = {}
    frames: dict[str, int] = {}
    threads: dict[str, int] = {}
    shared: dict[str, int] = {}
    code: dict[str, str] = {}
    for section, body in sections(text):
        if section == ".nv.info":
            for attribute, value in attributes(body):
                if attribute in ("EIATTR_REGCOUNT", "EIATTR_FRAME_SIZE"):
                    table = registers if attribute == "EIATTR_REGCOUNT" else frames
                    table.update((name, int(word, 16)) for name, word in NAMED_WORD.findall(value))
        elif section.startswith(".nv.info."):
            for attribute, value in attributes(body):
                if attribute == "EIATTR_MAX_THREADS":
                    x, y, z = (int(word, 16) for word in WORD.findall(value)[:3])
                    threads[section.removeprefix(".nv.info.")] = x * y * z
        elif section.startswith(".nv.shared."):
            sizes = re.findall(r"\.zero\s+(\d+)", body)
            shared[section.removeprefix(".nv.shared.")] = sum(map(int, sizes))
        elif section.startswith(".text."):
            code[section.removeprefix(".text.")] = body
    reserved = LIMITS[arch].reserved_shared_bytes
    return [
        Compiled(
            name,
            arch,
            registers[name],
            frames.get(name, 0),
            len(LOCAL.findall(sass)),
            max(0, shared.get(name, 0) - reserved),
            threads.get(name, 1024),
            len(LOAD_16.findall(sass)),
            len(STORE_16.findall(sass)),
        )
        for name, sass in code.items()
    ]


SCOPE = re.compile(r"\b(subgrad|isa_\w+)::")


def demangled(names: list[str]) -> dict[str, tuple[str, str]]:
    """Linker's name -> (kernel, template arguments), both without namespaces."""
    text = subprocess.check_output(["c++filt"], input="\n".join(names), text=True)
    return {
        name: split(readable)
        for name, readable in zip(names, text.splitlines(), strict=True)
        if readable
    }


def split(readable: str) -> tuple[str, str]:
    """`void ns::f<1, ns::List<2> >(ns::List<2>)` -> (`f`, `1, List<2>`)."""
    short = SCOPE.sub("", readable.replace("(anonymous namespace)::", "")).removeprefix("void ")
    name = re.match(r"\w+", short)
    if name is None:
        raise ValueError(f"{readable!r} is no function")
    depth, begin = 0, name.end()
    for at in range(begin, len(short)):
        depth += {"<": 1, ">": -1}.get(short[at], 0)
        if depth == 0:
            return name[0], short[begin + 1 : at].strip() if at > begin else ""
    return name[0], ""
