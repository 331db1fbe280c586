"""Two-dimensional maps of the representation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eegm2.report.figures.style import (
    GRID,
    MARKERS,
    MUTED,
    class_colours,
    clean_text,
    figure_style,
    new_figure,
    require,
    same_length,
)


def project(
    features: np.ndarray, method: Literal["pca", "tsne"] = "pca", *, seed: int = 0
) -> tuple[np.ndarray, tuple[str, str]]:
    """Return a two-dimensional map of standardised features and the names of its axes.

    Parameters
    ----------
    features : ndarray, shape (n_windows, n_features)
        Rows with a non-finite value are refused.
    method : "pca" or "tsne"
        Principal components keep distances honest; t-SNE shows neighbourhoods only.
    seed : int
        For t-SNE's start.

    Returns
    -------
    points : ndarray, shape (n_windows, 2)
    names : tuple of two str
        Axis labels, with the share of variance for PCA.

    Raises
    ------
    ValueError
        If there are fewer than three windows, a non-finite feature, or nothing that varies.
    """
    require(len(features) >= 3, f"a map needs at least three windows, got {len(features)}")
    require(bool(np.isfinite(features).all()), "the features hold NaN or infinite values")
    spread = features.std(axis=0)
    varying = spread > 1e-12
    require(int(varying.sum()) >= 2, f"only {int(varying.sum())} of {features.shape[1]} features vary")
    scaled = (features[:, varying] - features[:, varying].mean(axis=0)) / spread[varying]
    scaled = scaled.astype(np.float64)
    from sklearn.decomposition import PCA

    n_components = min(50, *scaled.shape)
    pca = PCA(n_components, random_state=seed)
    components = pca.fit_transform(scaled)
    if method == "pca":
        shares = pca.explained_variance_ratio_
        return components[:, :2], (
            f"component 1 ({shares[0]:.0%} of variance)",
            f"component 2 ({shares[1]:.0%})",
        )
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(scaled) - 1) / 3)
    points = TSNE(2, perplexity=perplexity, random_state=seed, init="pca").fit_transform(components)
    return points, ("t-SNE 1 (no unit)", "t-SNE 2 (no unit)")


@figure_style()
def embedding_map(
    points: np.ndarray,
    labels: Sequence[str] | np.ndarray,
    subjects: Sequence[str] | np.ndarray,
    axis_names: tuple[str, str],
) -> Figure:
    """Draw one map twice: coloured by label and by subject.

    Parameters
    ----------
    points : ndarray, shape (n_windows, 2)
    labels, subjects : sequences of str, length n_windows
    axis_names : tuple of two str
        As `project` gives them.
    """
    same_length(points=points, labels=labels, subjects=subjects)
    figure = new_figure(3.9)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    _scatter(left, points, np.asarray(labels).astype(str), "By label")
    _scatter(right, points, np.asarray(subjects).astype(str), "By subject")
    left.set_ylabel(axis_names[1])
    for axes in (left, right):
        axes.set_xlabel(axis_names[0])
        _limits(axes, points)
    return figure


def _scatter(axes: Axes, points: np.ndarray, groups: np.ndarray, title: str) -> None:
    names = np.unique(groups)
    order = np.random.default_rng(0).permutation(len(points))  # no group drawn wholly over another
    code = np.searchsorted(names, groups)
    colours = class_colours(len(names))
    if len(points) > 600:
        axes.set_rasterization_zorder(1)
    size = float(np.clip(5000 / max(len(points), 1), 3.0, 18.0))
    for marker in range(min(len(names), len(MARKERS))):
        rows = order[code[order] % len(MARKERS) == marker]
        axes.scatter(
            points[rows, 0],
            points[rows, 1],
            s=size,
            c=[colours[i] for i in code[rows]],
            marker=MARKERS[marker],
            alpha=0.65,
            linewidths=0,
            zorder=0.8,
        )
    if len(names) <= 8:
        for i, name in enumerate(names):
            axes.scatter([], [], s=22, c=colours[i], marker=MARKERS[i], label=clean_text(name, 18))
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.17),
            ncols=min(len(names), 4),
            columnspacing=1.0,
            handletextpad=0.2,
        )
    else:
        title += f" ({len(names)}; colours repeat)"
    axes.set_title(title)


def _limits(axes: Axes, points: np.ndarray) -> None:
    """Show all but the farthest 0.5 % at either side, so that one outlier does not squash the rest."""
    low, high = np.quantile(points, (0.005, 0.995), axis=0)
    margin = 0.12 * np.maximum(high - low, 1e-9)
    axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
    axes.tick_params(labelsize=7.5)


@figure_style()
def subject_maps(
    points: np.ndarray,
    labels: Sequence[str] | np.ndarray,
    subjects: Sequence[str] | np.ndarray,
    axis_names: tuple[str, str],
    *,
    max_subjects: int = 12,
) -> Figure:
    """Draw one small map per subject, its windows by label before everybody's in grey.

    Parameters
    ----------
    points : ndarray, shape (n_windows, 2)
    labels, subjects : sequences of str, length n_windows
    axis_names : tuple of two str
    max_subjects : int
        The subjects with most windows are drawn.
    """
    same_length(points=points, labels=labels, subjects=subjects)
    label, subject = np.asarray(labels).astype(str), np.asarray(subjects).astype(str)
    names, counts = np.unique(subject, return_counts=True)
    shown = sorted(names[np.argsort(-counts, kind="stable")][:max_subjects])
    classes = np.unique(label)
    colours = class_colours(len(classes))
    n_cols = 4
    n_rows = -(-len(shown) // n_cols)
    figure = new_figure(0.6 + 1.55 * n_rows)
    grid = figure.subplots(n_rows, n_cols, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, name in zip(grid, shown):
        axes.set_rasterization_zorder(1)
        axes.scatter(points[:, 0], points[:, 1], s=2, c=GRID, linewidths=0, zorder=0.5)
        for i, value in enumerate(classes):
            rows = (subject == name) & (label == value)
            axes.scatter(
                points[rows, 0],
                points[rows, 1],
                s=7,
                c=colours[i],
                marker=MARKERS[i % len(MARKERS)],
                alpha=0.8,
                linewidths=0,
                zorder=0.8,
                label=clean_text(value, 18),
            )
        axes.set_title(clean_text(name, 18), fontsize=8, pad=2)
        _limits(axes, points)
        axes.grid(visible=False)
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    for axes in grid[max(0, len(shown) - n_cols) : len(shown)]:
        axes.tick_params(labelbottom=True)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper right", ncols=4, markerscale=1.8)
    figure.supxlabel(axis_names[0], fontsize=8.5)
    figure.supylabel(axis_names[1], fontsize=8.5, color=MUTED)
    return figure
