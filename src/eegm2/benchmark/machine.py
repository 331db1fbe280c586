"""The machine, the versions and the code that a result belongs to."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import eegm2

#: Instruction sets that matter here, by the beginning of their flags.
INSTRUCTIONS = ("avx", "fma", "sse4", "amx", "f16c", "neon", "asimd", "sve")
LIBRARIES = ("torch", "numpy", "numba", "braindecode", "torchaudio")


def machine() -> dict[str, Any]:
    """Return processor, cores, instruction sets, memory and system."""
    import psutil

    from eegm2.benchmark.suites import available_cores

    model, flags = _processor()
    return {
        "processor": model,
        "cores": available_cores(),
        "instructions": sorted(flag for flag in flags if flag.startswith(INSTRUCTIONS)),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> tuple[str, set[str]]:
    model, flags = platform.processor() or platform.machine(), set()
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "model name":
            model = value
        elif key in ("flags", "Features"):
            flags = set(value.split())
    return model, flags


def load() -> float | None:
    """Return the average number of busy processes over the last minute, where the system says."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def code() -> dict[str, Any]:
    """Return versions, the commit of a git checkout, and a digest of this package's source."""
    from eegm2.training.checkpoint import provenance

    found = provenance()
    versions = dict(found["versions"])
    for name in LIBRARIES:
        try:
            versions.setdefault(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {"versions": versions, "commit": found["commit"], "source_sha256": source_digest()}


@functools.cache
def source_digest() -> str:
    """Return the SHA-256 of the package's Python files, in the order of their names."""
    root, digest = Path(eegm2.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()
