"""The one place that chooses between the forms of the scans.

``auto`` takes the compiled CPU kernels where they can run and the chunked torch form everywhere else: on
other devices, without Numba, and while torch.compile, torch.export or the ONNX exporter trace the model. On
CUDA devices Mamba-2's scan takes the Triton kernels of flash-linear-attention or mamba_ssm where one of them
is installed and fits. The environment variable ``EEGM2_BACKEND`` (auto, torch, one of `BACKENDS`) overrules
``auto``.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import torch

from eegm2.errors import ConfigError
from eegm2.ops.gpu.libraries import LIBRARIES, gpu_problem, installed, library_problem

BACKENDS = ("auto", "recurrence", "chunked", "numba", *LIBRARIES)
VARIABLE = "EEGM2_BACKEND"


def _requested() -> str:
    """Return the backend that the environment asks for, or ``auto``."""
    value = os.environ.get(VARIABLE, "auto") or "auto"
    if value not in (*BACKENDS, "torch"):
        raise ConfigError(f"{VARIABLE}: got {value!r}, expected one of {', '.join(BACKENDS)}, torch")
    return "chunked" if value == "torch" else value


@functools.cache
def numba_problem() -> str | None:
    """Return why the compiled kernels cannot be used at all, or None."""
    try:
        import numba
    except ImportError as error:
        return f"Numba cannot be imported ({error})"
    if getattr(numba.config, "DISABLE_JIT", 0):
        return "NUMBA_DISABLE_JIT is set, so nothing is compiled"
    return None


def choose_backend(
    backend: str,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    sizes: tuple[int, int] | None = None,
    *,
    scan: str = "ssd",
) -> str:
    """Return the form for tensors on `device`: one of `BACKENDS`, but not ``auto``.

    Parameters
    ----------
    backend : str
        As given by the caller; ``auto`` looks at ``EEGM2_BACKEND`` and then at the device.
    device : torch.device
    dtype : torch.dtype
        In which the scan is computed.
    sizes : tuple of int, optional
        headdim and d_state, which the libraries for GPUs cannot take at will; none given: any.
    scan : {"ssd", "selective_scan"}

    Raises
    ------
    ValueError
        If the backend is unknown, or was asked for by the caller and cannot run; the message says why.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend: got {backend!r}, expected one of {', '.join(BACKENDS)}")
    asked = _requested() if backend == "auto" else backend
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return "recurrence" if asked == "recurrence" else "chunked"
    if asked in ("recurrence", "chunked"):
        return asked
    fast = tuple(LIBRARIES) if device.type == "cuda" else ("numba",)
    problem = None
    for name in fast if asked == "auto" else (asked,) if backend != "auto" else (asked, "numba"):
        problem = _problem(name, device, dtype, sizes, scan)
        if problem is None:
            return name
    if backend != "auto":
        raise ValueError(f"backend: '{backend}' cannot be used: {problem}; use 'auto' or 'chunked'")
    return "chunked"


def _problem(
    name: str, device: torch.device, dtype: torch.dtype, sizes: tuple[int, int] | None, scan: str
) -> str | None:
    """Return why a compiled form cannot take these tensors, or None."""
    if name == "numba":
        return f"tensors are on {device}" if device.type != "cpu" else numba_problem()
    if scan != "ssd":
        return f"it has no {scan} that fits ours"
    return gpu_problem(name, device, dtype, sizes)


def backend_report() -> dict[str, Any]:
    """Return which form runs on each device and why, as plain values for ``eegm2 info``.

    Returns
    -------
    dict
        ``{"cpu": {"backend", "why"}, "cuda": {"backend", "why", "fla", "mamba_ssm"}, "threads": int}``, all
        strings but threads; fla and mamba_ssm tell whether that library can be used.
    """
    asked = _requested()
    problem = numba_problem()
    if asked in ("recurrence", "chunked"):
        cpu = {"backend": asked, "why": f"{VARIABLE}={os.environ[VARIABLE]}"}
    elif problem is not None:
        cpu = {"backend": "chunked", "why": problem}
    else:
        cpu = {"backend": "numba", "why": "compiled kernels are available"}
    return {"cpu": cpu, "cuda": _cuda_report(asked), "threads": torch.get_num_threads()}


def _cuda_report(asked: str) -> dict[str, str]:
    """Return what `backend_report` says of CUDA devices; libraries are imported only where there is one."""
    visible = torch.cuda.is_available()
    problems = {name: library_problem(name) if visible or not installed(name) else None for name in LIBRARIES}
    libraries = {name: problem or f"{installed(name)} installed" for name, problem in problems.items()}
    if asked in ("recurrence", "chunked", "numba"):
        return {
            "backend": "recurrence" if asked == "recurrence" else "chunked",
            "why": f"{VARIABLE}={os.environ[VARIABLE]}",
            **libraries,
        }
    candidates = [asked] if asked in LIBRARIES else list(LIBRARIES)
    usable = [name for name in candidates if problems[name] is None]
    if not visible:
        why = "no CUDA device is visible"
    elif usable:
        why = "its Triton kernels can be used"
    else:
        why = "torch form, for no library of GPU kernels can be used"
    return {"backend": usable[0] if usable else "chunked", "why": why, **libraries}
