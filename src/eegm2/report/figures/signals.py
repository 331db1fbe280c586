"""Original against reconstruction: traces, spectra, error per channel."""

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
    log_ticks,
    new_figure,
    require,
    spread_pick,
)

_ORIGINAL = "#6fb1dc"  # pale enough to lie under the reconstruction
BANDS_HZ = (("δ", 0.5, 4.0), ("θ", 4.0, 8.0), ("α", 8.0, 13.0), ("β", 13.0, 30.0), ("γ", 30.0, 45.0))


def channel_correlation(original: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    """Return Pearson's r of every channel; NaN where one side is constant.

    Parameters
    ----------
    original, reconstruction : ndarray, shape (..., n_times)
        The same windows.

    Returns
    -------
    ndarray, shape (...)
    """
    a = original - original.mean(axis=-1, keepdims=True)
    b = reconstruction - reconstruction.mean(axis=-1, keepdims=True)
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return np.divide((a * b).sum(axis=-1), scale, out=np.full(scale.shape, np.nan), where=scale > 0)


def reconstruction_traces(
    original: np.ndarray,
    reconstruction: np.ndarray,
    ch_names: Sequence[str],
    sfreq_hz: float,
    *,
    unit: str = "scaled units",
    title: str = "",
    max_channels: int = 20,
    max_s: float = 5.0,
) -> Figure:
    """Draw one window's channels under one another, the reconstruction over the original.

    Parameters
    ----------
    original, reconstruction : ndarray, shape (n_chans, n_times)
        In `unit`.
    ch_names : sequence of str
    sfreq_hz : float
        Samples per second.
    unit : str
        Of the amplitudes, named at the scale bar.
    title : str
    max_channels : int
        More channels are thinned evenly.
    max_s : float
        Only this much of a longer window is drawn, in seconds.

    Raises
    ------
    ValueError
        If the shapes differ; the message gives both.
    """
    require(
        original.shape == reconstruction.shape and original.shape[0] == len(ch_names),
        f"original {original.shape}, reconstruction {reconstruction.shape} and {len(ch_names)} "
        "channel names differ",
    )
    r = channel_correlation(original, reconstruction)
    rows = spread_pick(len(ch_names), max_channels)
    stop = min(original.shape[1], max(8, round(max_s * sfreq_hz)))
    time_s = np.arange(stop) / sfreq_hz
    a, b = original[rows, :stop], reconstruction[rows, :stop]
    centre = np.median(a, axis=1, keepdims=True)
    step = max(2.2 * float(np.quantile(np.abs(a - centre), 0.98)), 1e-12)
    offset = -step * np.arange(len(rows))[:, None]
    with figure_style():
        figure = new_figure(1.0 + 0.29 * len(rows))
        axes = figure.subplots()
        if a.size > 16_000:  # one image for all traces
            axes.set_rasterization_zorder(1)
        for row in range(len(rows)):
            for values, colour, width, label in (
                (a, _ORIGINAL, 1.9, "original"),
                (b, SECOND, 0.8, "reconstruction"),
            ):
                axes.plot(
                    time_s,
                    values[row] - centre[row] + offset[row],
                    color=colour,
                    linewidth=width,
                    label=label if row == 0 else None,
                    zorder=0.5,
                )
        axes.set_yticks(offset[:, 0], [clean_text(ch_names[i], 12) for i in rows])
        axes.set_ylim(offset[-1, 0] - 1.75 * step, 0.9 * step)
        axes.set_xlim(0, stop / sfreq_hz)
        axes.set_xlabel("time in the window (s)")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        _scale_bar(axes, step, float(offset[-1, 0]), unit)
        for row, index in enumerate(rows):
            text = f"{r[index]:.3f}" if np.isfinite(r[index]) else "–"
            _margin(axes, text, float(offset[row, 0]))
        _margin(axes, "r", 0.72 * step)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=2)
        figure.suptitle(title, x=0.01, ha="left", fontsize=9, fontweight="bold")
        return figure


def _margin(axes: Axes, text: str, y: float) -> None:
    axes.annotate(
        text,
        (1.0, y),
        xycoords=axes.get_yaxis_transform(),
        xytext=(34, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        color=MUTED,
        fontsize=7.5,
    )


def _scale_bar(axes: Axes, step: float, lowest: float, unit: str) -> None:
    """Draw a vertical bar of a round height at the right edge, named with its unit."""
    power = 10.0 ** np.floor(np.log10(step))
    height = max(f * power for f in (0.5, 1, 2, 5) if f * power <= 0.9 * step)
    y = lowest - 1.7 * step
    transform = axes.get_yaxis_transform()
    axes.plot([1.006, 1.006], [y, y + height], color=MUTED, linewidth=2, transform=transform, clip_on=False)
    axes.annotate(
        f"{height:g} {unit}",
        (1.0, y + height / 2),
        xycoords=transform,
        xytext=(-4, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        color=MUTED,
        fontsize=7.5,
    )


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
    with figure_style():
        figure = new_figure(2.9)
        left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
        for values, colour, style, label in (
            (original_db, FIRST, "-", "original"),
            (reconstruction_db, SECOND, "--", "reconstruction"),
        ):
            _median_and_spread(left, frequency_hz, values.reshape(-1, values.shape[-1]), colour, style, label)
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
    with figure_style():
        figure = new_figure(0.55 + 1.1 * n_rows)
        grid = figure.subplots(n_rows, n_cols, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, channel in zip(grid, shown):
            _median_and_spread(axes, frequency_hz, original_db[:, channel], FIRST, "-", "original", 1.1)
            _median_and_spread(
                axes, frequency_hz, reconstruction_db[:, channel], SECOND, "--", "reconstruction", 1.1
            )
            axes.set_title(clean_text(ch_names[channel], 14), fontsize=8, pad=2)
            axes.set_xlim(0, frequency_hz[-1])
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


def _mark_bands(axes: Axes, frequency_hz: np.ndarray) -> None:
    """Name the classical bands above the panel and draw their edges."""
    axes.set_xlim(0, frequency_hz[-1])
    for name, low, high in BANDS_HZ:
        if high > frequency_hz[-1]:
            break
        axes.axvline(high, color=GRID, linewidth=0.8, zorder=0)
        axes.annotate(
            name,
            ((low + high) / 2, 0.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            color=MUTED,
            fontsize=7.5,
        )
    axes.grid(axis="x", visible=False)


def channel_error(ch_names: Sequence[str], mse: np.ndarray, correlation: np.ndarray) -> Figure:
    """Draw every channel's reconstruction error and correlation over windows.

    Parameters
    ----------
    ch_names : sequence of str
    mse : ndarray, shape (n_windows, n_chans)
        Mean squared error, squared units of the windows.
    correlation : ndarray, shape (n_windows, n_chans)
        Pearson's r.
    """
    shown = spread_pick(len(ch_names), 32)
    y = np.arange(len(shown))
    with figure_style():
        figure = new_figure(0.9 + 0.19 * len(shown))
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, values, colour in ((left, np.maximum(mse, 1e-20), FIRST), (right, correlation, SECOND)):
            low, middle, high = np.nanquantile(values[:, shown], (0.1, 0.5, 0.9), axis=0)
            axes.hlines(y, low, high, color=colour, linewidth=2.5, alpha=0.35)
            axes.plot(middle, y, "o", color=colour, markersize=4)
        if np.quantile(mse, 0.9) > 20 * np.quantile(mse, 0.1) > 0:
            left.set_xscale("log")
            log_ticks(left.xaxis)
        left.set_yticks(y, [clean_text(ch_names[i], 12) for i in shown])
        left.invert_yaxis()
        left.set_xlabel("mean squared error" + (" (log scale)" if left.get_xscale() == "log" else ""))
        right.set_xlabel("Pearson's r")
        left.set_title("Error per channel")
        right.set_title("Correlation per channel")
        return figure
