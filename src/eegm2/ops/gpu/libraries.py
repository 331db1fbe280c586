"""Which of the optional GPU libraries can be used here, and if not, why.

A library is taken only where its release is one we know, its function still takes the arguments we pass, and
the tensors are on a CUDA device in a dtype and size its kernels are made for. Everything else is a reason in
words, shown by ``eegm2 info`` and raised where a caller insisted.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

SMALLEST, LARGEST, MULTIPLE = 16, 256, 16  # d_state and headdim that fill the tiles of tensor cores


@dataclass(frozen=True)
class Library:
    """A function of an optional library.

    Attributes
    ----------
    distributions : tuple of str
        Names under which it may be installed, the more specific first.
    since, below : tuple of int
        Releases from `since` on and before `below` are taken.
    module, function : str
        Where the function is.
    parameters : tuple of str
        What it must accept by name.
    install : str
        How to get it.
    """

    distributions: tuple[str, ...]
    since: tuple[int, ...]
    below: tuple[int, ...]
    module: str
    function: str
    parameters: tuple[str, ...]
    install: str


#: In the order of preference of ``auto``. Before 0.5, simple_gla had a ``head_first`` layout switch and no
#: gradient of the decay through the final state.
LIBRARIES: dict[str, Library] = {
    "fla": Library(
        ("fla-core", "flash-linear-attention"),
        (0, 5),
        (1,),
        "fla.ops.simple_gla",
        "chunk_simple_gla",
        ("q", "k", "v", "g", "scale", "initial_state", "output_final_state"),
        "pip install flash-linear-attention",
    ),
    "mamba_ssm": Library(
        ("mamba-ssm",),
        (2, 2),
        (3,),
        "mamba_ssm.ops.triton.ssd_combined",
        "mamba_chunk_scan_combined",
        ("x", "dt", "A", "B", "C", "chunk_size", "D", "initial_states", "return_final_states"),
        "pip install mamba-ssm --no-build-isolation",
    ),
}


def installed(name: str) -> str | None:
    """Return the installed release of a library, or None."""
    for distribution in LIBRARIES[name].distributions:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


@functools.cache
def library_problem(name: str) -> str | None:
    """Return why a library cannot be used on any device, or None; imports it when its release fits."""
    library = LIBRARIES[name]
    version = installed(name)
    if version is None:
        return f"{library.distributions[0]} is not installed ({library.install})"
    found = release(version)
    if not library.since <= found < library.below:
        since, below = (".".join(map(str, bound)) for bound in (library.since, library.below))
        return f"{library.distributions[0]} is {version}, expected >={since},<{below} ({library.install})"
    try:
        function = load(name)
    except Exception as error:  # a broken installation raises anything: ImportError, OSError, RuntimeError
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return f"{library.module} {version} cannot be imported ({reason})"
    lacking = [p for p in library.parameters if p not in inspect.signature(function).parameters]
    if lacking:
        return f"{library.function} of {version} does not take {', '.join(lacking)}"
    return None


def release(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: 2.3.2.post1 -> (2, 3, 2)."""
    numbers = []
    for part in version.split("+")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def load(name: str) -> Callable[..., Any]:
    """Import and return the library's function."""
    library = LIBRARIES[name]
    _ask_for_float32()
    function: Callable[..., Any] = getattr(importlib.import_module(library.module), library.function)
    return function


def gpu_problem(
    name: str, device: torch.device, dtype: torch.dtype, sizes: tuple[int, int] | None
) -> str | None:
    """Return why a library's kernels cannot serve these tensors, or None.

    Parameters
    ----------
    name : {"fla", "mamba_ssm"}
    device : torch.device
    dtype : torch.dtype
        In which the scan is computed.
    sizes : tuple of int, or None
        headdim and d_state; None: not known yet.
    """
    if device.type != "cuda":
        return f"tensors are on {device}, not on a CUDA device"
    if dtype != torch.float32:
        return f"the scan is to be computed in {dtype}, its kernels compute in float32"
    for what, size in zip(("headdim", "d_state"), sizes or ()):
        if not SMALLEST <= size <= LARGEST or size % MULTIPLE:
            return f"{what} is {size}, its kernels take multiples of {MULTIPLE} up to {LARGEST}"
    return library_problem(name)


def _ask_for_float32() -> None:
    """Keep Triton's float32 products from TF32, unless torch was told to use it or the user chose.

    Triton reads the variable when it compiles a kernel. Three TF32 products together are as exact as
    float32 and still run on the tensor cores; before Ampere there are none for float32.
    """
    if torch.get_float32_matmul_precision() == "highest":
        modern = torch.cuda.is_available() and torch.version.hip is None
        modern = modern and torch.cuda.get_device_capability()[0] >= 8
        os.environ.setdefault("TRITON_F32_DEFAULT", "tf32x3" if modern else "ieee")
