"""What the recordings are like: channels on the head, quality, labels over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Circle, Patch

from eegm2.report.figures.style import (
    FIRST,
    MUTED,
    PALETTE,
    SECOND,
    class_colours,
    clean_text,
    figure_style,
    log_ticks,
    new_figure,
    note,
    require,
    same_length,
)

NAMED_ROWS = 36  # more recordings than this are drawn without their names


@figure_style()
def channel_positions(
    ch_names: Sequence[str], positions: np.ndarray, values: np.ndarray | None = None, *, value_name: str = ""
) -> Figure:
    """Draw the channels on a head seen from above.

    Parameters
    ----------
    ch_names : sequence of str
    positions : ndarray, shape (n_chans, 2)
        Right and forward, in head radii (the circle through Fpz, T7, T8 and Oz is 1).
    values : ndarray, shape (n_chans,), optional
        Colours the channels.
    value_name : str
        What `values` are, with their unit.
    """
    same_length(ch_names=ch_names, positions=positions)
    figure = new_figure(3.5, 3.9 if values is None else 4.6)
    axes = figure.subplots()
    axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor=MUTED, linewidth=1.1))
    axes.plot([-0.11, 0, 0.11], [0.994, 1.13, 0.994], color=MUTED, linewidth=1.1)
    for side in (-1, 1):
        axes.add_patch(
            Arc(
                (side * 1.0, 0),
                0.16,
                0.42,
                theta1=-90 if side > 0 else 90,
                theta2=90 if side > 0 else 270,
                color=MUTED,
            )
        )
    size = 300 if len(ch_names) <= 24 else 170 if len(ch_names) <= 40 else 90
    if values is None:
        axes.scatter(positions[:, 0], positions[:, 1], s=size, c="#cfe3f0", edgecolors=FIRST, linewidths=1)
    else:
        dots = axes.scatter(
            positions[:, 0],
            positions[:, 1],
            s=size,
            c=values,
            cmap="cividis",
            edgecolors=MUTED,
            linewidths=0.6,
        )
        figure.colorbar(dots, ax=axes, shrink=0.65, label=value_name, pad=0.02)
    for name, (x, y) in zip(ch_names, positions):
        inside = values is None and len(name) <= 4 and len(ch_names) <= 40
        below = 0 if inside else -11 if size > 200 else -8
        style = {"fontsize": 7 if size > 100 else 5.5, "va": "center" if inside else "top"}
        note(axes, clean_text(name, 10), (x, y), (0, below), color="#10202e" if inside else None, **style)
    reach = max(1.22, float(np.abs(positions).max()) + 0.15)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
    axes.axis("off")
    return figure


@figure_style()
def quality_overview(
    names: Sequence[str],
    duration_s: np.ndarray,
    amplitude_uv: np.ndarray | None = None,
    line_noise_db: np.ndarray | None = None,
    bad_channels: Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """Draw duration, amplitude, line noise and bad channels of every recording, one row each.

    Parameters
    ----------
    names : sequence of str
        Of the recordings.
    duration_s : ndarray, shape (n_recordings,)
    amplitude_uv : ndarray, shape (n_recordings, 2), optional
        Lower and upper bound of the amplitude, in microvolts.
    line_noise_db : ndarray, shape (n_recordings,), optional
        Power at the mains frequency over its neighbourhood, in dB.
    bad_channels : mapping of str to ndarray, shape (n_recordings,), optional
        Counts, for instance "flat" and "noisy".
    """
    same_length(names=names, duration_s=duration_s)
    require(len(names) > 0, "there are no recordings to draw")
    drawers = [lambda axes, y: _duration(axes, y, np.asarray(duration_s, dtype=float))]
    if amplitude_uv is not None and np.isfinite(amplitude_uv).any():
        bounds = np.asarray(amplitude_uv, dtype=float)
        drawers.append(lambda axes, y: _amplitude(axes, y, bounds))
    if line_noise_db is not None and np.isfinite(line_noise_db).any():
        line = np.asarray(line_noise_db, dtype=float)
        drawers.append(lambda axes, y: _line_noise(axes, y, line))
    if bad_channels:
        counts = dict(bad_channels)
        drawers.append(lambda axes, y: _bad_channels(axes, y, counts))
    n = len(names)
    y = np.arange(n)
    named = n <= NAMED_ROWS
    figure = new_figure(0.9 + (0.17 * max(n, 3) if named else 0.036 * min(n, 150) + 1.6))
    grid = figure.subplots(1, len(drawers), sharey=True, squeeze=False).ravel()
    for axes, draw in zip(grid, drawers):
        draw(axes, y)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=4) if axes.get_xscale() == "linear" else None
    grid[0].set_ylim(n - 0.4, -0.6)
    grid[0].set_yticks(y if named else [], [clean_text(name, 20) for name in names] if named else [])
    if not named:
        grid[0].set_ylabel(f"{n} recordings, in the order of the table")
    return figure


def _duration(axes: Axes, y: np.ndarray, duration_s: np.ndarray) -> None:
    minutes = np.nanmax(duration_s) >= 180
    axes.barh(y, duration_s / (60 if minutes else 1), color=FIRST, height=0.7, alpha=0.75, linewidth=0)
    axes.set_xlabel("duration (min)" if minutes else "duration (s)")


def _amplitude(axes: Axes, y: np.ndarray, bounds_uv: np.ndarray) -> None:
    axes.hlines(y, bounds_uv[:, 0], bounds_uv[:, 1], color=PALETTE[2], linewidth=2.2)
    limit = float(np.nanmax(np.abs(bounds_uv)))
    usual = float(np.nanmedian(np.abs(bounds_uv)))
    if limit > 10 * usual > 0:  # some recordings are far wider than the rest: show both
        axes.set_xscale("symlog", linthresh=usual)
        ticks = 10.0 ** np.unique([np.floor(np.log10(limit)), np.floor(np.log10(usual))])
        axes.set_xticks([*-ticks[::-1], 0, *ticks])
        log_ticks(axes.xaxis)
        axes.set_xlim(-1.6 * limit, 1.6 * limit)
        axes.set_xlabel("amplitude range\n(µV, log beyond centre)")
    else:
        axes.set_xlabel("amplitude range (µV)")


def _line_noise(axes: Axes, y: np.ndarray, line_db: np.ndarray) -> None:
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.plot(line_db, y, "D", color=PALETTE[3], markersize=3.2)
    axes.set_xlabel("mains over\nneighbours (dB)")


def _bad_channels(axes: Axes, y: np.ndarray, counts: Mapping[str, np.ndarray]) -> None:
    left = np.zeros(len(y))
    for (name, values), colour in zip(counts.items(), (SECOND, PALETTE[4], PALETTE[7])):
        values = np.nan_to_num(np.asarray(values, dtype=float))
        axes.barh(y, values, left=left, color=colour, height=0.7, linewidth=0, label=clean_text(name))
        left = left + values
    axes.set_xlim(0, max(1.0, float(left.max()) * 1.1))
    axes.set_xlabel("channels")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, columnspacing=0.8, handlelength=0.8)


@figure_style()
def label_timeline(
    names: Sequence[str],
    duration_s: np.ndarray,
    spans: Sequence[Sequence[tuple[float, float, str]]],
    *,
    max_recordings: int = 40,
) -> Figure:
    """Draw the labelled spans of every recording along time.

    Parameters
    ----------
    names : sequence of str
    duration_s : ndarray, shape (n_recordings,)
    spans : sequence of sequences of (onset_s, duration_s, label)
        Spans without duration are drawn as ticks.
    max_recordings : int
        Only the first ones are drawn.

    Raises
    ------
    ValueError
        If no recording is labelled.
    """
    same_length(names=names, duration_s=duration_s, spans=spans)
    labels = [label for recording in spans for _, _, label in recording]
    require(bool(labels), "no recording is labelled")
    common = sorted(set(labels), key=lambda label: (-labels.count(label), label))[:8]
    colour = dict(zip(sorted(common), class_colours(8)))
    n = min(len(names), max_recordings)
    figure = new_figure(0.85 + 0.16 * max(n, 3))
    axes = figure.subplots()
    for y in range(n):
        axes.hlines(y, 0, duration_s[y], color=MUTED, linewidth=0.8, zorder=0.6)
        for label in common:
            own = [(on, length) for on, length, name in spans[y] if name == label]
            axes.broken_barh([s for s in own if s[1] > 0], (y - 0.36, 0.72), color=colour[label], linewidth=0)
            points = [on for on, length in own if length <= 0]
            axes.vlines(points, y - 0.36, y + 0.36, color=colour[label], linewidth=1)
    handles = [Patch(color=colour[label], label=clean_text(label, 24)) for label in sorted(common)]
    figure.legend(handles=handles, loc="outside upper left", ncols=4, handlelength=1)
    axes.set_yticks(range(n), [clean_text(name, 22) for name in names[:n]])
    axes.set_ylim(n - 0.4, -0.6)
    axes.set_xlim(0, float(np.max(np.asarray(duration_s[:n], dtype=float))) * 1.005)
    axes.set_xlabel("time in the recording (s)")
    axes.tick_params(axis="y", length=0, labelsize=7.5)
    axes.grid(axis="y", visible=False)
    return figure
