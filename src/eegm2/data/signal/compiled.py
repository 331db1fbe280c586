"""Compiled loops of the data path: when they are used.

They do the same operations in the same order as the NumPy and SciPy forms beside them, without contraction,
so that a store does not depend on which of the two made it.
"""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any


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
