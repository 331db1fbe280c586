"""What a model is shown: windows, their labels, scaling, order and splits."""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """Give the names that this module held before it became a package."""
    if name in ("WindowDataset", "collate_windows"):
        return getattr(importlib.import_module(f"{__name__}.dataset"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
