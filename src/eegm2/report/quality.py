"""Reading a store's quality facts into columns, whatever subset of them a recording has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eegm2.report.contents import Recording

# column → (name in the store's quality facts, heading with unit)
_COLUMNS: dict[str, tuple[str, str]] = {
    "low_uv": ("low_uv", "low (µV)"),
    "high_uv": ("high_uv", "high (µV)"),
    "typical_uv": ("typical_uv", "typical (µV)"),
    "line_db": ("line_noise_ratio", "mains (dB)"),
    "flat": ("flat_channels", "flat"),
    "noisy": ("noisy_channels", "noisy"),
    "clipped": ("clipped_share", "clipped (%)"),
}


def quality_value(quality: Mapping[str, Any], column: str) -> float:
    """Return one fact of a recording as a number; NaN where the store does not hold it.

    Parameters
    ----------
    quality : mapping
        A recording's quality facts.
    column : str
        "low_uv", "high_uv", "typical_uv" (µV), "line_db" (dB), "flat", "noisy" (numbers of channels) or
        "clipped" (share, 0 to 1).
    """
    value = quality.get(_COLUMNS[column][0])
    if isinstance(value, list | tuple):  # names of channels
        return float(len(value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return float("nan")
    if column == "line_db":
        return float(10 * np.log10(value)) if value > 0 else float("nan")
    return float(value)


def quality_columns(recordings: Sequence[Recording]) -> dict[str, np.ndarray]:
    """Return every fact that at least one recording has, as one array over recordings."""
    table = {
        column: np.array([quality_value(recording.quality, column) for recording in recordings])
        for column in _COLUMNS
    }
    return {column: values for column, values in table.items() if np.isfinite(values).any()}


def quality_heading(column: str) -> str:
    """Return a column's heading, with its unit."""
    return _COLUMNS[column][1]
