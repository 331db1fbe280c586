"""The recording store: whole recordings in microvolts, written once, read at any window length."""

from __future__ import annotations

import importlib
from typing import Any

_FORMER = {"RecordingStore": "recording_store", "StoreWriter": "writer", "RecordingInfo": "facts"}


def __getattr__(name: str) -> Any:
    """Give the names that this module held before it became a package."""
    if name in _FORMER:
        return getattr(importlib.import_module(f"{__name__}.{_FORMER[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
