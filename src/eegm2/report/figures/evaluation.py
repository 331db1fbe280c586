"""Scores of evaluations: by model, and by the number of people with labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from eegm2.report.figures.scores import METRIC_NAMES
from eegm2.report.figures.style import (
    FIRST,
    GRID,
    INK,
    MARKERS,
    MUTED,
    SECOND,
    class_colours,
    clean_text,
    figure_style,
    new_figure,
    note,
    require,
)

Rows = Sequence[Mapping[str, Any]]
_CHANCE_IS_HALF = {"balanced_accuracy", "auroc"}


@figure_style()
def evaluation_scores(rows: Rows, metric: str) -> Figure:
    """Draw one metric of an evaluation: every model's mean with its confidence interval.

    Parameters
    ----------
    rows : sequence of mappings
        With model, kind, metric, mean, and ci_low and ci_high (95 % over subjects) or std.
    metric : str

    Raises
    ------
    ValueError
        If no row is of this metric.
    """
    kept = _of_metric(rows, metric)
    kept.sort(key=lambda row: -float(row["mean"]))
    figure = new_figure(0.85 + 0.25 * len(kept))
    axes = figure.subplots()
    for y, row in enumerate(kept):
        mean, low, high = _interval(row)
        ours = row.get("kind", "baseline") != "baseline"
        axes.hlines(y, low, high, color=FIRST if ours else MUTED, linewidth=2.5, alpha=0.45)
        axes.plot(mean, y, "o" if ours else "s", color=FIRST if ours else MUTED, markersize=5)
        note(axes, f"{mean:.3f}", (mean, y), (0, 5), color=INK)
    if metric in _CHANCE_IS_HALF:
        axes.axvline(0.5, color=SECOND, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(kept)), [clean_text(row.get("model", "?")) for row in kept])
    axes.set_ylim(len(kept) - 0.4, -0.8)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_color(GRID)
    axes.set_xlabel(f"{METRIC_NAMES.get(metric, clean_text(metric))} (no unit)")
    return figure


@figure_style()
def learning_curves(rows: Rows, metric: str) -> Figure:
    """Draw one metric against the number of people with labels, one line per model.

    Parameters
    ----------
    rows : sequence of mappings
        As for `evaluation_scores`, with train_subjects; rows without it are left out.
    metric : str

    Raises
    ------
    ValueError
        If no row is of this metric and has train_subjects.
    """
    kept = _of_metric([row for row in rows if row.get("train_subjects")], metric)
    unit = str(kept[0].get("unit", "subject"))
    curves: dict[str, list[Mapping[str, Any]]] = {}
    for row in kept:
        curves.setdefault(re.sub(rf", \d+ {unit}s$", "", str(row.get("model"))), []).append(row)
    counts = sorted({int(row["train_subjects"]) for row in kept})
    colours = class_colours(len(curves))
    figure = new_figure(3.4)
    axes = figure.subplots()
    for i, (name, mine) in enumerate(curves.items()):
        mine = sorted(mine, key=lambda row: int(row["train_subjects"]))
        means, lows, highs = np.array([_interval(row) for row in mine]).T
        shift = 1.018 ** (i - (len(curves) - 1) / 2)  # intervals side by side
        axes.errorbar(
            [shift * int(row["train_subjects"]) for row in mine],
            means,
            yerr=np.clip([means - lows, highs - means], 0, None),
            fmt=MARKERS[(i + i // len(MARKERS)) % len(MARKERS)]
            + ("-" if mine[0].get("kind") != "baseline" else ":"),
            color=colours[i],
            markersize=4,
            elinewidth=0.8,
            label=clean_text(name, 24),
        )
    if metric in _CHANCE_IS_HALF:
        axes.axhline(0.5, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", visible=False)
    axes.set_xlabel(f"{unit}s with labels, to train and to validate")
    axes.set_ylabel(f"{METRIC_NAMES.get(metric, clean_text(metric))} (no unit)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def _of_metric(rows: Rows, metric: str) -> list[Mapping[str, Any]]:
    kept = [row for row in rows if row.get("metric") == metric and isinstance(row.get("mean"), int | float)]
    kept = [row for row in kept if np.isfinite(row["mean"])]
    require(bool(kept), f"no row holds the metric {metric!r}")
    return kept


def _interval(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """Return mean, low and high: the confidence interval, else one standard deviation."""
    mean, low, high = float(row["mean"]), row.get("ci_low"), row.get("ci_high")
    if low is None or high is None:
        spread = float(row.get("std") or 0)
        return mean, mean - spread, mean + spread
    return mean, float(low), float(high)
