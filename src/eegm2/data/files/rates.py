"""Which sampling rates a recording can have."""

from __future__ import annotations

from pathlib import Path

from eegm2.errors import DataError

SFREQ_LIMITS_HZ = (1.0, 200_000.0)
"""Beyond these a stated sampling rate is damage, not a recording."""


def refuse_rate(path: Path, sfreq_hz: float) -> None:
    """Refuse a rate that no recording has.

    Raises
    ------
    DataError
        If it lies beyond `SFREQ_LIMITS_HZ`, or is no number.
    """
    low, high = SFREQ_LIMITS_HZ
    if not low <= sfreq_hz <= high:
        raise DataError(
            f"{path}: sampling rate of {sfreq_hz:g} Hz, expected {low:g} to {high:g}; export the file again"
        )
