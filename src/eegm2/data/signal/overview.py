"""A whole recording in few numbers, to be drawn: its extent over time, and its spectrum over time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SEGMENT_S = 2.0
"""Length of the segments of a spectrogram, and its shortest column; segments begin every quarter of it."""


def envelope(x_uv: NDArray[np.floating], n_points: int = 1200) -> NDArray[np.float32]:
    """Return the lowest and highest value of consecutive stretches of a signal.

    Parameters
    ----------
    x_uv : array, shape (n_chans, n_times)
        Microvolts.
    n_points : int
        Stretches; at most half as many as samples.

    Returns
    -------
    array, shape (n_chans, 2, n_points)
    """
    n_points = max(1, min(n_points, x_uv.shape[1] // 2))
    edges = np.linspace(0, x_uv.shape[1], n_points + 1).astype(int)[:-1]
    ends = [end.reduceat(x_uv, edges, axis=1) for end in (np.minimum, np.maximum)]
    return np.stack(ends, axis=1).astype(np.float32)


def spectrogram(
    x_uv: NDArray[np.floating], sfreq_hz: float, *, top_hz: float = 40.0, n_columns: int = 600
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how the power of every frequency changes over a signal, averaged over channels.

    Welch's segments (Hann, two seconds, one every half second, mean taken off), their power averaged over
    channels and over the segments of a column; in dB relative to the median of the frequency over time. The
    fall of the spectrum with frequency is gone by that, and what comes and goes is seen.

    Parameters
    ----------
    x_uv : array, shape (n_chans, n_times)
        Microvolts.
    sfreq_hz : float
    top_hz : float
        Highest frequency.
    n_columns : int
        Most columns; they are longer than two seconds where there are more.

    Returns
    -------
    frequency_hz : array, shape (n_frequencies,)
    change_db : array, shape (n_frequencies, n_columns)
        NaN at frequencies without any power.

    References
    ----------
    Welch (1967), IEEE Trans. Audio Electroacoust. 15:70-73.
    """
    length = min(x_uv.shape[1], max(2, round(SEGMENT_S * sfreq_hz)))
    frequency_hz = np.fft.rfftfreq(length, 1 / sfreq_hz).astype(np.float64)
    kept = (frequency_hz > 0) & (frequency_hz <= min(top_hz, sfreq_hz / 2))
    window = np.hanning(length + 1)[:-1]
    parts = np.lib.stride_tricks.sliding_window_view(x_uv, length, axis=1)[:, :: max(1, length // 4)]
    power = np.zeros((parts.shape[1], int(kept.sum())))
    for channel in parts:
        spectrum = np.fft.rfft((channel - channel.mean(1, keepdims=True)) * window)
        power += np.abs(spectrum[:, kept]) ** 2 / len(parts)
    n_columns = max(1, min(n_columns, len(power) // 4))
    edges = np.linspace(0, len(power), n_columns + 1).astype(int)[:-1]
    power = np.add.reduceat(power, edges) / np.diff([*edges, len(power)])[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        decibels = 10 * np.log10(power)
        change = decibels - np.median(decibels, axis=0)
    change[~np.isfinite(change)] = np.nan
    return frequency_hz[kept], np.ascontiguousarray(change.T)
