"""Power spectra of originals and reconstructions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eegm2.report.figures.style import (
    FIRST,
    GRID,
    MUTED,
    SECOND,
    clean_text,
    figure_style,
    new_figure,
    note,
    spread_pick,
)

BANDS_HZ = (("δ", 0.5, 4.0), ("θ", 4.0, 8.0), ("α", 8.0, 13.0), ("β", 13.0, 30.0), ("γ", 30.0, 45.0))
_SHOWN_DB = 60.0


def welch_db(
    windows: np.ndarray, sfreq_hz: float, *, segment_s: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return Welch power spectra in decibels.

    Parameters
    ----------
    windows : ndarray, shape (..., n_times)
    sfreq_hz : float
    segment_s : float
        Length of Welch's segments in seconds (half overlapping, Hann); whole windows if they are shorter.

    Returns
    -------
    frequency_hz : ndarray, shape (n_freqs,)
        Without 0 Hz.
    power_db : ndarray, shape (..., n_freqs)
        10 log10 of power density; the unit is dB relative to (unit of the window)² per Hz.
    """
    from scipy.signal import welch

    length = min(windows.shape[-1], max(8, round(segment_s * sfreq_hz)))
    frequency, power = welch(np.asarray(windows, dtype=float), fs=sfreq_hz, nperseg=length, axis=-1)
    return frequency[1:], 10 * np.log10(np.maximum(power[..., 1:], 1e-20))


@figure_style()
def power_spectra(
    frequency_hz: np.ndarray,
    original_db: np.ndarray,
    reconstruction_db: np.ndarray,
    *,
    unit: str = "scaled units",
) -> Figure:
    """Draw the spectra of originals and reconstructions, and their difference, over all channels.

    Parameters
    ----------
    frequency_hz : ndarray, shape (n_freqs,)
    original_db, reconstruction_db : ndarray, shape (n_windows, n_chans, n_freqs)
        As `welch_db` gives them.
    unit : str
        Of the amplitudes.
    """
    figure = new_figure(2.9)
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    for values, colour, style, label in (
        (original_db, FIRST, "-", "original"),
        (reconstruction_db, SECOND, "--", "reconstruction"),
    ):
        _median_and_spread(left, frequency_hz, values.reshape(-1, values.shape[-1]), colour, style, label)
    _show_pass_band(left, original_db)
    left.set_ylabel(f"power density (dB re ({unit})²/Hz)")
    left.set_title("Spectrum, all channels")
    left.legend(loc="upper right")
    difference = (reconstruction_db - original_db).reshape(-1, original_db.shape[-1])
    right.axhline(0, color=MUTED, linewidth=0.8)
    _median_and_spread(right, frequency_hz, difference, SECOND, "-", "")
    right.set_ylabel("reconstruction − original (dB)")
    right.set_title("Difference")
    for axes in (left, right):
        axes.set_xlabel("frequency (Hz)")
        _mark_bands(axes, frequency_hz)
    return figure


@figure_style()
def channel_spectra(
    frequency_hz: np.ndarray,
    original_db: np.ndarray,
    reconstruction_db: np.ndarray,
    ch_names: Sequence[str],
    *,
    max_channels: int = 20,
) -> Figure:
    """Draw one small spectrum per channel: medians and central 80 % over windows.

    Parameters
    ----------
    frequency_hz : ndarray, shape (n_freqs,)
    original_db, reconstruction_db : ndarray, shape (n_windows, n_chans, n_freqs)
    ch_names : sequence of str
    max_channels : int
        More channels are thinned evenly.
    """
    shown = spread_pick(len(ch_names), max_channels)
    n_cols = 5 if len(shown) > 8 else min(4, len(shown))
    n_rows = -(-len(shown) // n_cols)
    figure = new_figure(0.55 + 1.1 * n_rows)
    grid = figure.subplots(n_rows, n_cols, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, channel in zip(grid, shown):
        _median_and_spread(axes, frequency_hz, original_db[:, channel], FIRST, "-", "original", 1.1)
        _median_and_spread(
            axes, frequency_hz, reconstruction_db[:, channel], SECOND, "--", "reconstruction", 1.1
        )
        axes.set_title(clean_text(ch_names[channel], 14), fontsize=8, pad=2)
        axes.set_xlim(0, frequency_hz[-1])
    _show_pass_band(grid[0], original_db)
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    for axes in grid[max(0, len(shown) - n_cols) : len(shown)]:
        axes.tick_params(labelbottom=True)
    figure.supxlabel("frequency (Hz)", fontsize=8.5)
    figure.supylabel("power density (dB)", fontsize=8.5)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


def _median_and_spread(
    axes: Axes, x: np.ndarray, values: np.ndarray, colour: str, style: str, label: str, width: float = 1.5
) -> None:
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9), axis=0)
    axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)
    axes.plot(x, middle, style, color=colour, linewidth=width, label=label or None)


def _show_pass_band(axes: Axes, original_db: np.ndarray) -> None:
    """Choose the scale by what was recorded: a stop band far below it would flatten all else."""
    middle = np.median(original_db.reshape(-1, original_db.shape[-1]), axis=0)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, float(middle.max()) - _SHOWN_DB), high)


def _mark_bands(axes: Axes, frequency_hz: np.ndarray) -> None:
    """Name the classical bands above the panel and draw their edges."""
    axes.set_xlim(0, frequency_hz[-1])
    for name, low, high in BANDS_HZ:
        if high > frequency_hz[-1]:
            break
        axes.axvline(high, color=GRID, linewidth=0.8, zorder=0)
        middle, place = ((low + high) / 2, 0.0), axes.get_xaxis_transform()
        note(axes, name, middle, (0, 3), xycoords=place, color=MUTED)
    axes.grid(axis="x", visible=False)
