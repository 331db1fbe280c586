"""Arrays as plain values, so that a bundle's metadata can hold them; NumPy alone."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np


def packed(array: np.ndarray) -> dict[str, Any]:
    """Return an array of float64 as plain values for JSON."""
    plain = np.ascontiguousarray(array, "<f8")
    return {"shape": list(plain.shape), "float64": base64.b64encode(plain.tobytes()).decode("ascii")}


def unpacked(values: dict[str, Any]) -> np.ndarray:
    """Return the array of :func:`packed`."""
    data = base64.b64decode(values["float64"])
    return np.frombuffer(data, "<f8").reshape(values["shape"]).astype(float)
