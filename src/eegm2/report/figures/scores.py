"""Scores of probes: by protocol and seed, by person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from eegm2.report.figures.style import (
    MARKERS,
    MUTED,
    class_colours,
    clean_text,
    figure_style,
    mean_and_spread,
    new_figure,
    note,
    require,
    same_length,
)

METRIC_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "weighted_f1": "weighted F1",
    "kappa": "Cohen's κ",
}


def no_skill(metric: str, y_true: np.ndarray, n_classes: int) -> float | None:
    """Return what always answering the most frequent class (or a constant score) would reach.

    Parameters
    ----------
    metric : str
        One of the keys of `METRIC_NAMES`; others give None.
    y_true : ndarray of int, shape (n_windows,)
        Test labels.
    n_classes : int
    """
    if len(y_true) == 0 or n_classes < 2:
        return None
    shares = np.bincount(np.asarray(y_true, dtype=int), minlength=n_classes) / len(y_true)
    most = float(shares.max())
    table = {
        "accuracy": most,
        "balanced_accuracy": 1 / n_classes,
        "auroc": 0.5,
        "auprc": float(shares[1]) if n_classes == 2 else float(shares.mean()),
        "weighted_f1": most * 2 * most / (1 + most),
        "kappa": 0.0,
    }
    return table.get(metric)


@figure_style()
def probe_scores(
    values: Mapping[str, Mapping[str, Sequence[float]]], chance: Mapping[str, float | None] | None = None
) -> Figure:
    """Draw every metric's mean ± standard deviation over seeds, one row per protocol.

    Parameters
    ----------
    values : mapping of metric → mapping of protocol → one value per seed
    chance : mapping of metric → value, optional
        Drawn as a dashed line: the score without skill (see `no_skill`).

    Raises
    ------
    ValueError
        If there is no value at all.
    """
    metrics = [m for m in values if any(len(v) for v in values[m].values())]
    require(bool(metrics), "there are no scores to draw")
    protocols = list(dict.fromkeys(p for m in metrics for p in values[m]))
    n_cols = 3 if len(metrics) > 2 else len(metrics)
    n_rows = -(-len(metrics) // n_cols)
    figure = new_figure(0.35 + n_rows * (0.75 + 0.24 * len(protocols)))
    grid = figure.subplots(n_rows, n_cols, sharey=True, squeeze=False).ravel()
    for axes, metric in zip(grid, metrics):
        line = (chance or {}).get(metric)
        if line is not None:
            axes.axvline(line, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="no skill")
        reach = [line] if line is not None else []
        for row, protocol in enumerate(protocols):
            scores = np.asarray(values[metric].get(protocol, ()), dtype=float)
            scores = scores[np.isfinite(scores)]
            if not len(scores):
                continue
            colour = class_colours(len(protocols))[row]
            mean, std = float(scores.mean()), float(scores.std())
            reach += [mean - std, mean + std, *scores]
            axes.plot(scores, np.full(len(scores), row + 0.22), "|", color=colour, markersize=5, alpha=0.8)
            axes.errorbar(mean, row, xerr=std, fmt=MARKERS[row % 8], color=colour, markersize=5, capsize=2.5)
            note(axes, mean_and_spread(scores), (mean, row), (0, 6))
        low, high = min(reach), max(reach)
        pad = max(0.3 * (high - low), 0.06)
        axes.set_xlim(max(low - pad, -1.02), min(high + pad, 1.06))
        axes.set_title(METRIC_NAMES.get(metric, clean_text(metric)))
        axes.set_ylim(len(protocols) - 0.45, -0.65)
        axes.set_yticks(range(len(protocols)), [clean_text(p, 18) for p in protocols])
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=4)
    for axes in grid[len(metrics) :]:
        axes.set_visible(False)
    figure.supxlabel("score on the test subjects (no unit)", fontsize=8.5)
    return figure


@figure_style()
def subject_scores(subject: Sequence[str] | np.ndarray, correct: Mapping[str, np.ndarray]) -> Figure:
    """Draw the share of correct windows of every test subject, one row per protocol.

    Parameters
    ----------
    subject : sequence of str, length n_windows
    correct : mapping of protocol → ndarray, shape (n_windows,)
        Share of seeds in which the window was classified correctly.
    """
    require(bool(correct), "there is no protocol to draw")
    same_length(subject=subject, **correct)
    names, code = np.unique(np.asarray(subject).astype(str), return_inverse=True)
    counts = np.bincount(code)
    means = {p: np.bincount(code, weights=np.asarray(c, dtype=float)) / counts for p, c in correct.items()}
    order = np.argsort(-next(iter(means.values())), kind="stable")
    x = np.arange(len(names))
    figure = new_figure(2.5)
    axes = figure.subplots()
    for i, (protocol, values) in enumerate(means.items()):
        shift = (i - (len(means) - 1) / 2) * 0.18
        axes.plot(
            x + shift,
            values[order],
            MARKERS[i % 8],
            color=class_colours(len(means))[i],
            markersize=4.5 if len(x) <= 40 else 3,
            label=f"{clean_text(protocol)} (mean {values.mean():.2f}, lowest {values.min():.2f})",
        )
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("share of windows correct")
    axes.set_xlabel("test subjects, best first by the first protocol")
    axes.set_xlim(-0.6, len(x) - 0.4)
    few = len(x) <= 24
    axes.set_xticks(x if few else [], [clean_text(names[i], 12) for i in order] if few else [])
    if few and len(x) > 8:
        axes.tick_params(axis="x", rotation=45)
    axes.grid(axis="x", visible=few)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure
