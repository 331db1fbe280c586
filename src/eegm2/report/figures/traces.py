"""Original against reconstruction in time: traces, correlation, error per channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eegm2.report.figures.style import (
    FIRST,
    MUTED,
    SECOND,
    clean_text,
    figure_style,
    log_ticks,
    new_figure,
    note,
    require,
    spread_pick,
)

_ORIGINAL = "#6fb1dc"  # pale enough to lie under the reconstruction


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


@figure_style()
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
    place = axes.get_yaxis_transform()
    note(axes, text, (1.0, y), (34, 0), xycoords=place, ha="right", va="center", color=MUTED)


def _scale_bar(axes: Axes, step: float, lowest: float, unit: str) -> None:
    """Draw a vertical bar of a round height at the right edge, named with its unit."""
    power = 10.0 ** np.floor(np.log10(step))
    height = max(f * power for f in (0.5, 1, 2, 5) if f * power <= 0.9 * step)
    y = lowest - 1.7 * step
    transform = axes.get_yaxis_transform()
    axes.plot([1.006, 1.006], [y, y + height], color=MUTED, linewidth=2, transform=transform, clip_on=False)
    style = {"xycoords": transform, "ha": "right", "va": "center", "color": MUTED}
    note(axes, f"{height:g} {unit}", (1.0, y + height / 2), (-4, 0), **style)


@figure_style()
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
