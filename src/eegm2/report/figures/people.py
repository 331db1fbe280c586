"""How a model does person by person, and whether its probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from eegm2.report.figures.style import (
    MARKERS,
    MUTED,
    class_colours,
    clean_text,
    direct_legend,
    figure_style,
    new_figure,
    require,
)


@figure_style()
def person_scores(
    scores: Mapping[str, Mapping[str, float | None]], metric_name: str, *, chance: float | None = None
) -> Figure:
    """Draw one score of every person, a mark per model, sorted by the first model.

    Parameters
    ----------
    scores : mapping of model → mapping of person → value
        None where it is not defined.
    metric_name : str
        For the axis.
    chance : float, optional
        Drawn as a dashed line.

    Raises
    ------
    ValueError
        If nobody has a score.
    """
    first = next(iter(scores.values()), {})
    people = [name for name, value in first.items() if value is not None]
    require(bool(people), "nobody has a score")
    people.sort(key=lambda name: (-float(first[name] or 0), name))
    figure = new_figure(0.9 + 0.17 * max(len(people), 4), 6.2)
    axes = figure.subplots()
    for i, (model, values) in enumerate(scores.items()):
        found = [(y, values.get(name)) for y, name in enumerate(people)]
        there = [(y, float(value)) for y, value in found if value is not None]
        axes.plot(
            [value for _, value in there],
            [y for y, _ in there],
            MARKERS[i % len(MARKERS)],
            color=class_colours(len(scores))[i],
            markersize=4.5,
            label=clean_text(model),
        )
    if chance is not None:
        axes.axvline(chance, color=MUTED, linestyle="--", linewidth=0.9)
    axes.set_yticks(range(len(people)), [clean_text(name, 18) for name in people])
    axes.invert_yaxis()
    axes.set_xlabel(metric_name)
    direct_legend(axes, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3)
    return figure


@figure_style()
def calibration_curves(
    is_class: np.ndarray, probability: Mapping[str, np.ndarray], class_name: str, *, bins: int = 8
) -> Figure:
    """Draw the share of windows that are of a class against the probability a model gave it.

    Parameters
    ----------
    is_class : array of bool, shape (n,)
    probability : mapping of model → array, shape (n,)
        Of the class.
    class_name : str
    bins : int
        Groups of equally many windows.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, ICML, for reliability diagrams.
    """
    require(len(is_class) >= bins, f"{len(is_class)} windows are too few for {bins} groups")
    colours: Sequence[str] = class_colours(len(probability))
    figure = new_figure(3.2, 3.9)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=0.9)
    for i, (model, values) in enumerate(probability.items()):
        groups = np.array_split(np.argsort(values, kind="stable"), bins)
        axes.plot(
            [values[group].mean() for group in groups],
            [np.asarray(is_class)[group].mean() for group in groups],
            "-" + MARKERS[i % len(MARKERS)],
            color=colours[i],
            markersize=4,
            label=clean_text(model),
        )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.set_xlabel(f"probability given to {clean_text(class_name, 18)}")
    axes.set_ylabel("share of windows that are")
    direct_legend(axes, loc="upper left")
    return figure
