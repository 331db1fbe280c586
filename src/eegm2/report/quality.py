"""Reading a store's quality facts into columns, whatever subset of them a store holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eegm2.report.contents import Recording

# column → (names under which a store may hold it, heading with unit)
_COLUMNS: dict[str, tuple[tuple[str, ...], str]] = {
    "low_uv": (("amplitude_low_uv", "q01_uv", "low_uv", "min_uv", "amplitude_min_uv"), "low (µV)"),
    "high_uv": (("amplitude_high_uv", "q99_uv", "high_uv", "max_uv", "amplitude_max_uv"), "high (µV)"),
    "line_db": (("line_noise_db", "line_db", "line_noise_ratio_db"), "mains (dB)"),
    "flat": (("flat_channels", "flat", "n_flat"), "flat"),
    "noisy": (("noisy_channels", "noisy", "n_noisy"), "noisy"),
    "clipped": (("clipped_share", "clipped", "clipping"), "clipped (%)"),
}


def quality_value(quality: Mapping[str, Any], column: str) -> float:
    """Return one fact of a recording as a number; NaN where the store does not hold it.

    Parameters
    ----------
    quality : mapping
        A recording's quality facts.
    column : str
        "low_uv", "high_uv", "line_db", "flat", "noisy" (counts of channels) or "clipped" (share, 0 to 1).
    """
    for name in _COLUMNS[column][0]:
        if name in quality:
            value = quality[name]
            if isinstance(value, list | tuple):  # names of channels
                return float(len(value))
            try:
                return float(value)
            except (TypeError, ValueError):
                return float("nan")
    bounds = quality.get("amplitude_range_uv") or quality.get("range_uv")
    if column in ("low_uv", "high_uv") and isinstance(bounds, list | tuple) and len(bounds) == 2:
        return float(bounds[column == "high_uv"])
    return float("nan")


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
