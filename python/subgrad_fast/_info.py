"""What is installed and how it runs: for people as lines, for programs as one mapping."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

Facts = dict[str, Any]
SAID_ABOVE = {
    *("version", "isa", "isas", "cuda", "threads", "threads_decided_by", "adaptive", "loops_alone"),
    *("cpu_affinity", "cpu_quota", "huge_pages"),
}
"""What the lines say of `build_info()` in their own words; the rest stands as it is."""

DECIDED_BY = {
    "OpenMP": "OpenMP's setting (OMP_NUM_THREADS, torch.set_num_threads)",
    "set_num_threads": "subgrad_fast.set_num_threads",
    "fork": "fork(): a child has no threads of its parent",
}
"""Who decides on the number of threads, in words."""


def attempt(name: str) -> ModuleType | str:
    """Import a module. Returns it, or the error in its own words."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        return f"{type(error).__name__}: {error}"


def library() -> Facts:
    """How the library was built and how it runs."""
    core = importlib.import_module("subgrad_fast._core")
    import subgrad_fast as sf

    return {
        "version": sf.__version__,
        "path": str(Path(core.__file__ or "").parent),
        "forced_isa": os.environ.get("SUBGRAD_FAST_ISA"),
        "available_isas": [*sf.available_isas()],
        "build": dict(sf.build_info()),
        "cuda": dict(core.cuda.info()),
    }


def facts() -> tuple[Facts, int]:
    """All that is known, and 1 if the library itself does not run, else 0."""
    status = 0
    try:
        found = {"subgrad_fast": library()}
    except (ImportError, OSError, ValueError) as error:
        found = {"subgrad_fast": {"error": f"{type(error).__name__}: {error}"}}
        status = 1
    found["python"] = {"version": platform.python_version(), "path": sys.executable}
    found["system"] = {"name": platform.system(), "machine": platform.machine()}
    for name in ("numpy", "torch"):
        module = attempt(name)
        if isinstance(module, str):
            found[name] = {"error": module}
            continue
        found[name] = {"version": str(module.__version__)}
        if name == "torch":
            fast = hasattr(module.Tensor, "__dlpack_c_exchange_api__")
            found[name]["tensors_by"] = (
                "DLPack exchange API" if fast else "data_ptr() and attributes"
            )
    return found, status


def cuda_text(cuda: Facts) -> str:
    """Say which kernels there are, and what they run on or why not."""
    if cuda["architectures"] is None:
        return f"not available: {cuda['problem']}"
    driver = f"driver for CUDA {cuda['driver']}" if cuda["driver"] else "no driver"
    devices = ", ".join(cuda["devices"]) or f"no device: {cuda['problem']}"
    return f"built for {cuda['architectures']}; {driver}; {devices}"


def threads_text(build: Facts) -> str:
    """Say how many threads there are, who says so, and whether all are always used."""
    adaptive = "loops that lose by them go alone" if build["adaptive"] else "used whatever it costs"
    decided_by = DECIDED_BY[build["threads_decided_by"]]
    return f"{build['threads']}, decided by {decided_by}; {adaptive}"


def processors_text(build: Facts) -> str:
    """Say how many processors the process may use."""
    known = "unknown" if build["cpu_affinity"] is None else build["cpu_affinity"]
    limit = build["cpu_quota"]
    quota = "no quota" if limit is None else f"a quota of {limit:g} processors' time"
    return f"{known} by the affinity mask; {quota}"


def huge_pages_text(build: Facts) -> str:
    """Say what SUBGRAD_FAST_HUGE_PAGES and the kernel say."""
    path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    try:
        words = path.read_text(encoding="ascii").split()
    except OSError:
        words = []
    policy = next((word.strip("[]") for word in words if word.startswith("[")), "unknown")
    return f"{build['huge_pages']}; the kernel's policy: {policy}"


def library_lines(own: Facts) -> list[tuple[str, object]]:
    """The library's facts, a label and a sentence each."""
    if "error" in own:
        return [("subgrad_fast", f"does not run: {own['error']}")]
    build = own["build"]
    forced = " (forced by SUBGRAD_FAST_ISA)" if own["forced_isa"] is not None else ""
    return [
        ("subgrad_fast", f"{own['version']} ({own['path']})"),
        ("ISA", f"{build['isa']}{forced}; available: {', '.join(own['available_isas'])}"),
        ("threads", threads_text(build)),
        ("processors", processors_text(build)),
        ("huge pages", huge_pages_text(build)),
        ("CUDA", cuda_text(own["cuda"])),
        *((key, value) for key, value in build.items() if key not in SAID_ABOVE),
    ]


def lines(found: Facts) -> list[tuple[str, object]]:
    """All facts, a label and a sentence each."""
    python, numpy, torch = (found[name] for name in ("python", "numpy", "torch"))
    said = [
        *library_lines(found["subgrad_fast"]),
        ("python", f"{python['version']} ({python['path']})"),
        ("numpy", numpy.get("version") or numpy["error"]),
        ("torch", torch.get("version") or torch["error"]),
    ]
    if "tensors_by" in torch:
        said.append(("torch tensors by", torch["tensors_by"]))
    return said
