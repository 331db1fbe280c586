"""Which class was taken for which: confusion matrices and ROC curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from eegm2.report.figures.style import (
    MUTED,
    class_colours,
    clean_text,
    direct_legend,
    figure_style,
    mean_and_spread,
    new_figure,
    require,
    spread_pick,
)


@figure_style()
def confusion_matrices(matrices: Mapping[str, np.ndarray], classes: Sequence[str]) -> Figure:
    """Draw row-normalised confusion matrices, one panel per protocol.

    Parameters
    ----------
    matrices : mapping of str to ndarray, shape (n_classes, n_classes)
        Mean counts of windows over seeds, rows true, columns predicted.
    classes : sequence of str

    Raises
    ------
    ValueError
        If there is no matrix, or one of another size than the classes.
    """
    from matplotlib.colors import LinearSegmentedColormap

    require(bool(matrices), "there is no confusion matrix to draw")
    n = len(classes)
    for name, matrix in matrices.items():
        require(matrix.shape == (n, n), f"confusion matrix of {name} is {matrix.shape}, with {n} classes")
    ramp = LinearSegmentedColormap.from_list("ramp", ["#f4f8fb", "#8dbfdd", "#0072b2", "#003f63"])
    n_cols = min(2 if n > 3 else 3, len(matrices))
    n_rows = -(-len(matrices) // n_cols)
    cell = max(0.42, 1.5 / n)
    width = min(7.2, n_cols * (cell * n + 1.15) + 0.2)
    figure = new_figure(n_rows * (cell * n + 0.95), width)
    grid = figure.subplots(n_rows, n_cols, squeeze=False).ravel()
    names = [clean_text(c, 14) for c in classes]
    for axes, (title, matrix) in zip(grid, matrices.items()):
        totals = matrix.sum(axis=1, keepdims=True)
        share = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
        axes.pcolormesh(share, cmap=ramp, vmin=0, vmax=1, edgecolors="white", linewidth=1.5)
        for i, j in np.ndindex(n, n):
            text = f"{share[i, j]:.0%}" if n > 5 else f"{share[i, j]:.0%}\n{matrix[i, j]:.0f}"
            colour = "#ffffff" if share[i, j] > 0.45 else "#10202e"
            axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", color=colour, fontsize=8)
        axes.set_xticks(
            np.arange(n) + 0.5, names, rotation=0 if n <= 3 else 40, ha="center" if n <= 3 else "right"
        )
        axes.set_yticks(np.arange(n) + 0.5, names)
        axes.set_ylim(n, 0)
        axes.set_aspect("equal")
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(clean_text(title))
        axes.set_xlabel("predicted")
    for row in range(n_rows):
        grid[row * n_cols].set_ylabel("true")
    for axes in grid[len(matrices) :]:
        axes.set_visible(False)
    return figure


def roc_points(is_class: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Return false and true positive rates over all thresholds, and the area under them.

    Parameters
    ----------
    is_class : ndarray of bool, shape (n,)
    score : ndarray, shape (n,)
        Higher means more likely of the class; ties are one threshold.

    Returns
    -------
    tuple of (false positive rate, true positive rate, AUROC), or None where only one class is present.
    """
    is_class = np.asarray(is_class, dtype=bool)
    if is_class.all() or not is_class.any() or not np.isfinite(score).all():
        return None
    order = np.argsort(-score, kind="stable")
    hits, sorted_score = is_class[order], np.asarray(score, dtype=float)[order]
    last = np.append(np.flatnonzero(np.diff(sorted_score)), len(hits) - 1)
    true = np.append(0, np.cumsum(hits)[last]) / hits.sum()
    false = np.append(0, np.cumsum(~hits)[last]) / (~hits).sum()
    return false, true, float(np.trapezoid(true, false))


@figure_style()
def roc_curves(
    y_true: np.ndarray, scores: Mapping[str, Sequence[np.ndarray]], classes: Sequence[str]
) -> Figure:
    """Draw ROC curves, one panel per protocol, one colour per class, one line per seed.

    Parameters
    ----------
    y_true : ndarray of int, shape (n_windows,)
    scores : mapping of protocol → one ndarray of shape (n_windows, n_classes) per seed
    classes : sequence of str
        With two classes only the second one's curve is drawn (the first's is its mirror image).

    Raises
    ------
    ValueError
        If no class has both members and non-members among the test windows.
    """
    drawn = range(1, 2) if len(classes) == 2 else range(len(classes))
    grid_points = np.linspace(0, 1, 201)
    n_cols = min(3, len(scores))
    n_rows = -(-len(scores) // max(n_cols, 1))
    found = False
    figure = new_figure(2.75 * n_rows + 0.2, 2.45 * n_cols + 0.3 if n_cols < 3 else 7.2)
    grid = figure.subplots(n_rows, n_cols, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, (protocol, seeds) in zip(grid, scores.items()):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        for c in drawn:
            colour = class_colours(len(classes))[c]
            curves = [roc_points(np.asarray(y_true) == c, np.asarray(s)[:, c]) for s in seeds]
            kept = [curve for curve in curves if curve is not None]
            if not kept:
                continue
            found = True
            at_grid = []
            for false, true, _ in kept:
                shown = spread_pick(len(false), 250)
                axes.plot(false[shown], true[shown], color=colour, linewidth=0.7, alpha=0.35)
                at_grid.append(np.interp(grid_points, false, true))
            areas = np.array([area for _, _, area in kept])
            label = f"{clean_text(classes[c], 14)}  {mean_and_spread(areas)}"
            axes.plot(grid_points, np.mean(at_grid, axis=0), color=colour, linewidth=1.8, label=label)
        axes.set_aspect("equal")
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.01)
        axes.set_title(clean_text(protocol))
        axes.set_xlabel("false positive rate")
        direct_legend(
            axes,
            loc="lower right",
            fontsize=7.5,
            title="AUROC (mean ± std)",
            title_fontsize=7.5,
            handlelength=1,
        )
    for axes in grid[len(scores) :]:
        axes.set_visible(False)
    for row in range(n_rows):
        grid[row * n_cols].set_ylabel("true positive rate")
    require(found, "no class has both members and non-members among the test windows")
    return figure
