"""Compiled loops of the data path: when they are used, and how they are compiled.

They do the same operations in the same order as the NumPy and SciPy forms beside them, without contraction,
so that a store does not depend on which of the two made it.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from typing import Any

from eegm2.compiling import announce_kernels


def kernel(function: Callable[..., Any]) -> Any:
    """Compile with Numba on first use; keep the code on disk where a folder is writable."""
    import numba

    announce_kernels()
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # Numba found no folder that it can write
        return numba.njit(nogil=True, error_model="numpy")(function)


def kernels(name: str) -> Any | None:
    """Return the kernels `name`; None where Numba is missing or off, or ``EEGM2_BACKEND`` asks for none."""
    if os.environ.get("EEGM2_BACKEND", "auto") not in ("", "auto", "numba"):
        return None
    return _module(name)


@functools.cache
def _module(name: str) -> Any | None:
    try:
        import numba
    except ImportError:
        return None
    if getattr(numba.config, "DISABLE_JIT", 0):
        return None
    return importlib.import_module(f"eegm2.data.signal.{name}")
