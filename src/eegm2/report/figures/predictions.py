"""A model's answer over the time of a recording, and what it reacts to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from eegm2.report.figures.style import (
    FIRST,
    INK,
    MUTED,
    SECOND,
    class_colours,
    clean_text,
    figure_style,
    new_figure,
    require,
    same_length,
)


@figure_style()
def probability_over_time(
    signal: np.ndarray,
    shown: Sequence[str],
    duration_s: float,
    spans_s: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    *,
    labels: Sequence[str] = (),
    flagged: np.ndarray | None = None,
    threshold: float | None = None,
    spectrum: tuple[np.ndarray, np.ndarray] | None = None,
    value_name: str = "",
) -> Figure:
    """Draw the signal of some channels and, below on the same time, its spectrogram and the probabilities.

    Parameters
    ----------
    signal : array, shape (n_shown, 2, n_points)
        Lowest and highest value of every stretch, in microvolts.
    shown : sequence of str
        Channels drawn.
    duration_s : float
        Of the recording.
    spans_s : array, shape (n, 2)
        Start and end of each window in seconds.
    probabilities : array, shape (n, n_classes)
        Of two classes the second is drawn. Of a value, the values, (n, 1).
    classes : sequence of str
        None of a value.
    labels : sequence of str, length n
        Annotation of each window, "" where there is none; shaded where it is one of the classes.
    flagged : array of bool, shape (n,)
        Windows to doubt, drawn as grey ticks.
    threshold : float, optional
        From which the second of two classes is decided.
    spectrum : tuple of (array, shape (n_frequencies,), and array, shape (n_frequencies, n_columns)), optional
        Frequencies in Hz and power over the recording in dB, as `eegm2.data.signal.overview.spectrogram`
        returns them.
    value_name : str
        What is predicted, with its unit, where it is a value.
    """
    same_length(spans_s=spans_s, probabilities=probabilities)
    require(len(spans_s) > 0, "there is no window to draw")
    figure = new_figure(3.9 if spectrum is None else 5.2)
    ratios = [1.25, 1] if spectrum is None else [1.25, 0.85, 1]
    above, *between, below = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios)
    if spectrum is not None:
        _spectrum(figure, between[0], *spectrum, duration_s)
    _signal(above, np.asarray(signal, float), shown, duration_s)
    colours = class_colours(max(len(classes), 1))
    _labels(above, below, spans_s, labels, classes, colours)
    drawn = [1] if len(classes) == 2 else range(probabilities.shape[1])
    gaps = np.flatnonzero(spans_s[1:, 0] > spans_s[:-1, 1] + 1e-6) + 1
    middle = spans_s.mean(1)
    for i in drawn:
        below.plot(
            np.insert(middle, gaps, np.nan), np.insert(probabilities[:, i], gaps, np.nan),
            color=colours[i] if len(classes) > 2 else INK, linewidth=1.2,
            marker="o" if len(middle) < 60 else "", markersize=2.4,
        )  # fmt: skip
    if len(classes) == 2:
        below.axhline(0.5 if threshold is None else threshold, color=MUTED, linewidth=0.9, linestyle="--")
    if flagged is not None and np.any(flagged):
        at = np.full(int(np.sum(flagged)), 0.04)  # of the height
        below.plot(middle[flagged], at, "|", color=MUTED, markersize=6, transform=below.get_xaxis_transform())
    if len(classes):
        below.set_ylim(-0.08, 1.04)
        name = clean_text(classes[1], 16) if len(classes) == 2 else "each class"
        below.set_ylabel(f"probability of\n{name}")
    else:
        below.set_ylabel(clean_text(value_name, 24))
    below.set_xlabel("time in the recording (s)")
    below.set_xlim(0, duration_s)
    return figure


def _spectrum(
    figure: Figure, axes: Axes, frequency_hz: np.ndarray, change_db: np.ndarray, duration_s: float
) -> None:
    """Draw power over time and frequency, in dB from the median of each frequency."""
    change = np.asarray(change_db, float)
    reach = float(np.nanquantile(np.abs(change), 0.98)) if np.isfinite(change).any() else 1.0
    half = (frequency_hz[1] - frequency_hz[0]) / 2 if len(frequency_hz) > 1 else 0.5
    image = axes.imshow(
        change,
        aspect="auto",
        origin="lower",
        extent=(0, duration_s, float(frequency_hz[0] - half), float(frequency_hz[-1] + half)),
        cmap="RdBu_r",
        vmin=-max(reach, 1e-3),
        vmax=max(reach, 1e-3),
        interpolation="nearest",
    )
    axes.grid(visible=False)
    axes.set_ylabel("frequency (Hz)")
    axes.set_title("power, mean over channels (dB from the median of each frequency)")
    figure.colorbar(image, ax=axes, pad=0.01, fraction=0.04, aspect=12)


def _signal(axes: Axes, signal: np.ndarray, shown: Sequence[str], duration_s: float) -> None:
    """Draw the channels one below the other as the range of each stretch of time."""
    step = max(float(np.median(signal[:, 1] - signal[:, 0])) * 3.0, 1e-6)
    time = (np.arange(signal.shape[2]) + 0.5) * duration_s / signal.shape[2]
    for row, (low, high) in enumerate(signal):
        middle = float(np.median((low + high) / 2))
        ends = [np.clip(end - middle, -0.75 * step, 0.75 * step) - row * step for end in (low, high)]
        axes.fill_between(time, *ends, color=FIRST, alpha=0.8, linewidth=0.3, edgecolor=FIRST)
    axes.set_yticks([-row * step for row in range(len(shown))], [clean_text(name, 8) for name in shown])
    axes.set_ylim(-(len(shown) - 0.3) * step, 0.7 * step)
    axes.grid(axis="y", visible=False)
    axes.set_title(f"signal (rows {step:.0f} µV apart)")


def _labels(
    above: Axes,
    below: Axes,
    spans_s: np.ndarray,
    labels: Sequence[str],
    classes: Sequence[str],
    colours: Sequence[str],
) -> None:
    """Shade the windows that have a label of the classes."""
    there = [i for i, name in enumerate(classes) if name in labels]
    for i in there:
        own = [span for span, label in zip(spans_s, labels) if label == classes[i]]
        for axes in (above, below):
            for start, stop in _merged(own):
                axes.axvspan(start, stop, color=colours[i], alpha=0.16, linewidth=0, zorder=0.4)
    if there:
        handles = [Patch(color=colours[i], alpha=0.3, label=clean_text(classes[i], 20)) for i in there]
        above.legend(handles=handles, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, title=None)


def _merged(spans: Sequence[np.ndarray]) -> list[tuple[float, float]]:
    """Return the union of spans that may overlap, in order."""
    found: list[tuple[float, float]] = []
    for start, stop in sorted((float(start), float(stop)) for start, stop in spans):
        if found and start <= found[-1][1] + 1e-6:
            found[-1] = (found[-1][0], max(found[-1][1], stop))
        else:
            found.append((start, stop))
    return found


@figure_style()
def band_reactions(bands: Sequence[str], changes: np.ndarray, falling: str) -> Figure:
    """Draw how much an answer falls when a band is halved in amplitude.

    Parameters
    ----------
    bands : sequence of str
    changes : array, shape (n_bands,)
        How far the answer falls.
    falling : str
        The answer: the log odds of a class, or a value with its unit.
    """
    same_length(bands=bands, changes=changes)
    figure = new_figure(0.7 + 0.27 * len(bands), 5.2)
    axes = figure.subplots()
    y = np.arange(len(bands))
    axes.barh(y, changes, color=[FIRST if value >= 0 else SECOND for value in changes], height=0.62)
    axes.axvline(0, color=MUTED, linewidth=0.9)
    axes.set_yticks(y, [clean_text(name) for name in bands])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"fall of {clean_text(falling, 40)} when halved")
    return figure
