"""The rules on who may use whom (docs/design.md), checked on the sources and the built objects.

Every checker returns a list of findings. It is run twice: on this repository, where the list must
be empty, and on small bad examples, where it must not be.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

CSRC = ROOT / "csrc"
PACKAGE = ROOT / "python" / "subgrad_fast"


# --- C++: includes ------------------------------------------------------------------------------

# layer -> the layers it may include
MAY_INCLUDE = {
    "core": {"core"},
    "rules": {"core", "rules"},
    "samplers": {"core", "samplers"},
    "cpu": {"core", "rules", "samplers", "cpu"},
    "cuda": {"core", "rules", "samplers", "cuda"},
    "bindings": {"core", "rules", "samplers", "cpu", "cuda", "bindings"},
}

# From outside, a layer is used through its plain headers only.
INNER_PARTS = re.compile(r"cpu/(simd/.*|.*\.inl)|cuda/.*\.(cu|cuh)")

# header -> the one place where it may be included
CONFINED = {
    r"Python\.h|pybind11/.*|(.*/)?dlpack\.h": "bindings/",
    r"\w+intrin\.h|arm_\w+\.h": "cpu/simd/",
    r"cuda(_\w+)?\.h|cooperative_groups.*|cub/.*|thrust/.*": "cuda/",
    r"torch/.*|ATen/.*|c10/.*": "nowhere",
}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
CXX_SUFFIXES = {".h", ".inl", ".cpp", ".cu", ".cuh"}


def include_findings(csrc: Path) -> list[str]:
    """What is wrong with the #include lines of all C++ and CUDA files under `csrc`."""
    findings = []
    for file in sorted(f for f in csrc.rglob("*") if f.suffix in CXX_SUFFIXES):
        here = file.relative_to(csrc).as_posix()
        layer = here.partition("/")[0]
        if layer not in MAY_INCLUDE:
            findings.append(f"{here}: {layer} is no layer")
            continue
        for quoted, angled in INCLUDE.findall(file.read_text(encoding="utf-8")):
            for pattern, place in CONFINED.items():
                if re.fullmatch(pattern, quoted or angled) and not here.startswith(place):
                    findings.append(f"{here}: {quoted or angled} belongs to {place}")
            if not quoted:
                continue
            if not (csrc / quoted).is_file():
                findings.append(f'{here}: "{quoted}" is no file under csrc/')
                continue
            target = quoted.partition("/")[0]
            if target not in MAY_INCLUDE[layer]:
                findings.append(f"{here}: {layer} must not include {quoted}")
            elif target != layer and INNER_PARTS.fullmatch(quoted):
                findings.append(f"{here}: {quoted} is private to {target}")
    return findings


def test_includes_point_downward() -> None:
    assert len(list(CSRC.rglob("*.h"))) > 5, "the sources were not found"
    assert include_findings(CSRC) == []


@pytest.mark.parametrize(
    ("path", "line", "finding"),
    [
        ("core/a.h", '#include "rules/b.h"', "core must not include rules/b.h"),
        ("rules/a.h", '#include "cpu/b.h"', "rules must not include cpu/b.h"),
        ("cpu/a.h", '#include "bindings/b.h"', "cpu must not include bindings/b.h"),
        ("cpu/a.h", '#include "cuda/b.h"', "cpu must not include cuda/b.h"),
        ("bindings/a.h", '#include "cpu/simd/b.h"', "cpu/simd/b.h is private to cpu"),
        ("bindings/a.h", '#include "cpu/b.inl"', "cpu/b.inl is private to cpu"),
        ("core/a.h", '#include "core/gone.h"', "is no file under csrc/"),
        ("extra/a.h", "#include <cstdint>", "extra is no layer"),
        ("cpu/a.cpp", "#include <Python.h>", "belongs to bindings/"),
        ("core/a.h", "#include <pybind11/numpy.h>", "belongs to bindings/"),
        ("cpu/a.h", '#include "bindings/dlpack.h"', "cpu must not include bindings/dlpack.h"),
        ("cpu/dense.inl", "  #  include <immintrin.h>", "belongs to cpu/simd/"),
        ("core/a.h", "#include <arm_neon.h>", "belongs to cpu/simd/"),
        ("rules/a.h", "#include <cuda_fp16.h>", "belongs to cuda/"),
        ("bindings/a.cpp", "#include <cuda_runtime.h>", "belongs to cuda/"),
        ("bindings/a.cpp", "#include <torch/extension.h>", "belongs to nowhere"),
    ],
)
def test_a_bad_include_is_found(tmp_path: Path, path: str, line: str, finding: str) -> None:
    for name in ("rules/b.h", "cpu/b.h", "cpu/b.inl", "cpu/simd/b.h", "cuda/b.h", "bindings/b.h"):
        write(tmp_path / name, "#include <cstdint>\n")
    write(tmp_path / "bindings/dlpack.h", "")
    assert include_findings(tmp_path) == []
    write(tmp_path / path, f"// comment\n{line}\n")
    assert any(finding in found for found in include_findings(tmp_path))


# --- Python: imports ----------------------------------------------------------------------------

# A module may import those before it and those beside it, never those after it.
PYTHON_LAYERS = [
    {"_core"},
    {"_openmp"},
    {"_arrays"},
    {"_arguments"},
    {
        "chosen",
        "clip",
        "dense",
        "memory",
        "rows",
        "runtime",
        "select",
        "sparsify",
        "threshold",
        "sampling",
        "loading",
    },
    {"data", "optim", "distributed"},
    {"bench"},
    {"__init__"},
    {"__main__", "_demo", "_info", "_pages"},
]
RANK = {module: rank for rank, layer in enumerate(PYTHON_LAYERS) for module in layer}
MAY_IMPORT_TORCH = {"data", "optim", "distributed", "bench", "_demo"}


def imported_modules(tree: ast.AST) -> set[str]:
    """Dotted names that the code can import, `subgrad_fast.x` for relative ones."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "subgrad_fast" if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            if module == "subgrad_fast":
                names.update(f"{module}.{alias.name}" for alias in node.names)
            else:
                names.add(module)
    return names


def import_findings(package: Path) -> list[str]:
    """What is wrong with the imports of the modules in `package`."""
    findings = []
    for file in sorted(package.rglob("*.py")):
        # The files of a folder are together the module of its name.
        here = file.relative_to(package).parts[0].removesuffix(".py")
        if here not in RANK:
            findings.append(f"{file.name}: in no layer")
            continue
        for name in sorted(imported_modules(ast.parse(file.read_text(encoding="utf-8")))):
            top, _, rest = name.partition(".")
            if top == "torch" and here not in MAY_IMPORT_TORCH:
                findings.append(f"{file.name}: must not import {name}")
            module = rest.partition(".")[0] if top == "subgrad_fast" else ""
            rank = RANK.get(module or "__init__", RANK["__init__"])
            if top == "subgrad_fast" and rank > RANK[here]:
                findings.append(f"{file.name}: must not import {name}")
    return findings


def test_imports_point_downward() -> None:
    assert (PACKAGE / "__init__.py").is_file(), "the package was not found"
    assert import_findings(PACKAGE) == []


@pytest.mark.parametrize(
    ("name", "line", "finding"),
    [
        ("dense.py", "import torch", "must not import torch"),
        ("dense.py", "def f():\n    from torch.nn import Linear", "must not import torch.nn"),
        ("_arrays.py", "from .dense import x", "must not import subgrad_fast.dense"),
        ("_arrays.py", "from . import dense", "must not import subgrad_fast.dense"),
        ("optim.py", "import subgrad_fast", "must not import subgrad_fast"),
        (
            "__init__.py",
            "from subgrad_fast.__main__ import x",
            "must not import subgrad_fast.__main__",
        ),
        ("helpers.py", "", "in no layer"),
        ("helpers/__init__.py", "", "in no layer"),
        ("sampling/inner.py", "import torch", "must not import torch"),
    ],
)
def test_a_bad_import_is_found(tmp_path: Path, name: str, line: str, finding: str) -> None:
    write(tmp_path / "_arrays.py", "from . import _core\nimport numpy\n")
    write(tmp_path / "dense.py", "from ._arrays import x\nfrom subgrad_fast import _core\n")
    write(tmp_path / "optim.py", "import torch\nfrom .dense import y\n")
    assert import_findings(tmp_path) == []
    write(tmp_path / name, line + "\n")
    assert any(finding in found for found in import_findings(tmp_path))


def modules_after(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after running `code`."""
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return {name.partition(".")[0] for name in ran.stdout.split()}


def test_importing_the_package_does_not_import_torch() -> None:
    modules = modules_after("import subgrad_fast")
    assert "subgrad_fast" in modules
    assert "torch" not in modules


@pytest.mark.torch
def test_an_import_of_torch_would_be_seen() -> None:
    assert "torch" in modules_after("import subgrad_fast.optim")


# --- Objects: weak symbols ----------------------------------------------------------------------

elf_only = pytest.mark.skipif(sys.platform != "linux", reason="reads ELF symbol tables with nm")

TWICE = "template <class T> T twice(T x) { return x + x; } template int twice(int);"

# Data, no code: the address of the C++ exception handler, the same in every object.
HARMLESS = {"DW.ref.__gxx_personality_v0"}


def escaping_symbols(object_file: Path, isa: str) -> list[str]:
    """Weak symbols defined in `object_file` whose name does not mention its ISA namespace.

    The linker keeps one copy of a weak symbol. If that were the one compiled with AVX-512 flags,
    other code would run it on processors without AVX-512.
    """
    table = subprocess.run(
        ["nm", "--defined-only", "--format=posix", object_file],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    symbols = [line.split()[:2] for line in table.splitlines()]
    # In a mangled name an identifier follows its length: subgrad::isa_avx2:: is N7subgrad8isa_avx2.
    namespace = f"{len(isa)}{isa}"
    return sorted(
        name
        for name, kind in symbols
        if kind in {"W", "V", "u"} and namespace not in name and name not in HARMLESS
    )


def isa_objects() -> dict[str, Path]:
    """ISA name -> its newest object that an installation from this checkout has built."""
    found = ROOT.glob("build/*-*-*/**/isa_*.cpp.o")
    by_age = sorted(found, key=lambda file: file.stat().st_mtime)
    return {file.name.partition(".")[0]: file for file in by_age}


@elf_only
def test_no_weak_symbol_escapes_its_isa_namespace() -> None:
    objects = isa_objects()
    assert "isa_portable" in objects, "no objects under build/: install from this checkout first"
    escaping = {isa: escaping_symbols(file, isa) for isa, file in objects.items()}
    assert not any(escaping.values()), escaping


@elf_only
@pytest.mark.parametrize(
    ("line", "escapes"),
    [
        ("template <class T> struct X { static T f(); };", []),
        (TWICE, ["twice"]),
        ("template <class T> T zero = 0; template int zero<int>;", ["zero"]),
        ("inline int once() { return 1; } int (*pointer)() = once;", ["once"]),
        (f"namespace subgrad {{ inline namespace isa_avx2 {{ {TWICE} }} }}", []),
        (f"namespace subgrad {{ inline namespace isa_avx512 {{ {TWICE} }} }}", ["twice"]),
    ],
)
def test_an_escaping_symbol_is_found(tmp_path: Path, line: str, escapes: list[str]) -> None:
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    assert compiler, "no C++ compiler"
    write(tmp_path / "isa_avx2.cpp", line + "\n")
    command = [compiler, "-std=c++17", "-O0", "-c", "isa_avx2.cpp", "-o", "isa_avx2.o"]
    subprocess.run(command, check=True, cwd=tmp_path)
    found = escaping_symbols(tmp_path / "isa_avx2.o", "isa_avx2")
    assert len(found) == len(escapes)
    assert all(name in symbol for name, symbol in zip(escapes, found, strict=True))


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
