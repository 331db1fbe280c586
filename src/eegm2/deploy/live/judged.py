"""How well a head tells the blocks of one person apart: cross-validation by block, and a threshold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegm2.deploy.device.decisions import DecisionRule
from eegm2.deploy.live.blocks import BlockWindows
from eegm2.evaluation.scores.metrics import classification_metrics
from eegm2.evaluation.scores.resampling import interval
from eegm2.evaluation.scores.weighted_metrics import TestPart

#: Thresholds that are tried, and how far below one a decision is kept.
_ENTER, _HYSTERESIS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10)), 0.1
#: Least share of the windows on which a threshold has to decide.
_LEAST_DECIDED = 0.1

Fit = Callable[[NDArray[np.bool_]], Callable[[np.ndarray], np.ndarray]]


@dataclass(frozen=True)
class Judged:
    """What blocks that were left out say of a head.

    Attributes
    ----------
    metrics : dict
        Of every window, each predicted by a head that had not seen its block.
    ci : (float, float)
        95 % interval of the balanced accuracy, blocks resampled.
    chance : float
        Balanced accuracy of guessing.
    probabilities : array, shape (n, n_classes)
    """

    metrics: dict[str, float | None]
    ci: tuple[float, float]
    chance: float
    probabilities: NDArray[np.float64]


@dataclass(frozen=True)
class Threshold:
    """When a class is decided.

    Attributes
    ----------
    enter, leave : float
        See `DecisionRule`.
    decided, wrong : float
        Share of the windows with a decision, and of these decisions that were wrong, on blocks left out.
    reached : bool
        Whether `wrong` is what was aimed at.
    """

    enter: float
    leave: float
    decided: float
    wrong: float
    reached: bool


def judge(windows: BlockWindows, classes: tuple[str, ...], fit: Fit, seed: int = 0) -> Judged:
    """Leave out one block of every class at a time and predict it with a head of the others.

    Parameters
    ----------
    windows : BlockWindows
        Two blocks of every class or more.
    classes : tuple of str
    fit : callable
        Takes a mask of windows and returns a head fitted on them: features to probabilities.
    seed : int
        Of the resampling.
    """
    folds = min(len(np.unique(windows.block[windows.y == label])) for label in range(len(classes)))
    probabilities = np.zeros((len(windows.y), len(classes)))
    for fold in range(folds):
        out = windows.number % folds == fold
        probabilities[out] = fit(~out)(windows.features[out])
    metrics = classification_metrics(windows.y, probabilities, classes=classes).plain()
    part = TestPart(windows.y, probabilities, windows.block.astype(str))
    ci = interval([[part]], "balanced_accuracy", seed=seed)
    return Judged(metrics, ci, 1 / len(classes), probabilities)


def choose_threshold(windows: BlockWindows, probabilities: NDArray[np.float64], wrong: float) -> Threshold:
    """Return the lowest threshold at which at most a share `wrong` of the decisions is wrong.

    Where none is as good, the one of the fewest wrong decisions among those that decide on a tenth of the
    windows at least.

    Parameters
    ----------
    windows : BlockWindows
    probabilities : array, shape (n, n_classes)
        Of windows that the heads had not seen.
    wrong : float
    """
    tried = [_tried(windows, probabilities, enter, wrong) for enter in _ENTER]
    good = [found for found in tried if found.reached]
    if good:
        return good[0]
    usable = [found for found in tried if found.decided >= _LEAST_DECIDED] or tried[:1]
    return min(usable, key=lambda found: (found.wrong, found.enter))


def _tried(windows: BlockWindows, probabilities: np.ndarray, enter: float, wrong: float) -> Threshold:
    """Let a threshold decide on the windows of every block, one after the other."""
    leave = round(max(_ENTER[0], enter - _HYSTERESIS), 2)
    rule, decided = DecisionRule(enter=enter, leave=leave), np.full(len(windows.y), -1)
    for block in np.unique(windows.block):
        rule.reset()
        for row in np.flatnonzero(windows.block == block):
            found = rule.push(probabilities[row])
            decided[row] = -1 if found is None else found
    there = decided >= 0
    share = float((decided[there] != windows.y[there]).mean()) if there.any() else 1.0
    reached = share <= wrong and there.mean() >= _LEAST_DECIDED
    return Threshold(enter, leave, float(there.mean()), share, bool(reached))


def by_block(
    windows: BlockWindows, probabilities: np.ndarray, classes: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Return what was said of every block: its class, windows, and the share that was told rightly."""
    right = probabilities.argmax(1) == windows.y
    return [
        {
            "block": int(block),
            "label": classes[windows.y[windows.block == block][0]],
            "n_windows": int((windows.block == block).sum()),
            "right": round(float(right[windows.block == block].mean()), 3),
        }
        for block in np.unique(windows.block)
    ]
