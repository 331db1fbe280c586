"""Time and memory against length, one line per model, named where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eegm2.benchmark.config import PEERS
from eegm2.benchmark.results import Results, display_name
from eegm2.report.figures.style import MARKERS, MUTED, PALETTE, figure_style, log_ticks, new_figure

#: Ours in colour; the others in grey, told apart by marker and name.
COLOURS = {"eegm2": PALETTE[0], "light": PALETTE[1], "plain": PALETTE[2], "s3": PALETTE[3], "s5": PALETTE[4]}
COLOURS |= {"s1": PALETTE[5], "covariance": PALETTE[6]}
GREY = "#8b949e"
LABEL_GAP = 0.052  # of the axes' height


@figure_style()
def by_length(document: dict[str, Any], work: str = "forward", batch: int = 1) -> Figure | None:
    """Return time and memory against length, log-log, or None where there is nothing to draw.

    Parameters
    ----------
    document : dict
        As written by ``eegm2 benchmark --out``.
    work : {"forward", "train"}
    batch : int
    """
    results = Results(document)
    curves: dict[str, list[tuple[float, float, float]]] = {}
    for record in results.select(work, batch):
        if record["status"] == "ok":
            m = record["measurement"]
            point = (m["n_times"], 1e3 * record["seconds"]["median"], max(record["memory_mb"], 0.1))
            curves.setdefault(m["model"], []).append(point)
    if not curves:
        return None
    order = [
        name
        for name in (*reversed(PEERS), "s1", "s4", "s3", "s5", "plain", "covariance", "light", "eegm2")
        if name in curves
    ]
    figure = new_figure(4.6, 9.4)
    axes = figure.subplots(1, 2)
    noun = "Forward pass" if work == "forward" else "Training step"
    for axis, column, title in ((axes[0], 1, "time, ms"), (axes[1], 2, "peak memory above idle, MB")):
        _draw(axis, {name: sorted(curves[name]) for name in order}, column)
        axis.set_title(f"{noun}, batch {batch}: {title}")
        axis.set_xlabel("input length, samples at 128 Hz")
        log_ticks(axis.xaxis)
        log_ticks(axis.yaxis)
    return figure


def _draw(axis: Axes, curves: dict[str, list[tuple[float, float, float]]], column: int) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    ends = []
    for number, (name, points) in enumerate(curves.items()):
        x, y = [point[0] for point in points], [point[column] for point in points]
        colour = COLOURS.get(name, GREY)
        ours = name in ("eegm2", "light")
        axis.plot(
            x,
            y,
            color=colour,
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            linewidth=2.2 if ours else 1.1,
            zorder=3 if ours else 2,
        )
        ends.append((name, x[-1], y[-1], colour if colour != GREY else MUTED))
    lengths = sorted({point[0] for points in curves.values() for point in points})
    axis.set_xlim(lengths[0] / 1.3, lengths[-1] * 1.3)
    if len(lengths) <= 3:  # else the powers of ten say enough
        axis.set_xticks(lengths)
    bottom, top = np.log10(axis.get_ylim())
    heights = spread_labels([(np.log10(y) - bottom) / (top - bottom) for _, _, y, _ in ends], LABEL_GAP)
    for (name, end, value, colour), height in zip(ends, heights):
        axis.annotate(
            display_name(name),
            xy=(end, value),
            xytext=(1.03, height),
            textcoords="axes fraction",
            color=colour,
            va="center",
            fontsize=7.5,
            fontweight="bold" if name in ("eegm2", "light") else "normal",
            arrowprops={  # dotted: no measurement lies on it
                "arrowstyle": "-",
                "linestyle": (0, (1, 2.5)),
                "color": colour,
                "linewidth": 0.7,
                "shrinkA": 0,
                "shrinkB": 3,
            },
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            annotation_clip=False,
        )


def spread_labels(heights: Sequence[float], gap: float) -> list[float]:
    """Return heights at least `gap` apart in the same order, as near to the wanted ones as that leaves.

    Parameters
    ----------
    heights : sequence of float
        Wanted, as shares of the axes' height.
    gap : float
        Least distance; made smaller where all of them do not fit into 0 … 1.
    """
    if not heights:
        return []
    gap = min(gap, 1.0 / len(heights))
    order = np.argsort(np.asarray(heights), kind="stable")
    wanted = np.clip(np.asarray(heights, float)[order], 0, 1)
    steps = gap * np.arange(len(wanted))
    pushed_up = np.maximum.accumulate(wanted - steps) + steps
    pushed_down = np.minimum.accumulate((wanted - steps)[::-1])[::-1] + steps
    placed = (pushed_up + pushed_down) / 2  # both keep the distances, so their mean does
    placed = np.maximum(placed, steps)
    placed = np.minimum(placed, 1.0 - steps[::-1])
    result = np.empty_like(placed)
    result[order] = placed
    return [float(value) for value in result]
