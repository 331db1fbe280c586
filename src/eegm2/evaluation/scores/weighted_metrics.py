"""Metrics of weighted windows, many weightings at once: what resampling of subjects needs.

A resample gives every subject an integer weight; a metric is then a function of weighted sums, so a thousand
resamples cost a few matrix products instead of a thousand passes over the windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eegm2.errors import ConfigError
from eegm2.evaluation.config import CLASSIFICATION, REGRESSION
from eegm2.evaluation.scores.metrics import predict_labels

#: Metrics of the order of scores alone.
RANKED = ("auroc", "auprc")


@dataclass(frozen=True)
class TestPart:
    """Predictions on one test part.

    Attributes
    ----------
    y : array, shape (n,)
        Class indices, or values.
    score : array, shape (n, n_classes) or (n,)
        Class scores, or predicted values.
    subject : array of str, shape (n,)
        Who each window is from.
    threshold : float or None
        Decision threshold of two classes.
    """

    __test__ = False

    y: NDArray
    score: NDArray[np.floating]
    subject: NDArray[np.str_]
    threshold: float | None = None


#: What was predicted in a whole cross-validation: of every seed, of every fold.
Parts = Sequence[Sequence[TestPart]]


def fold_values(parts: Parts, metric: str) -> NDArray[np.float64]:
    """Return a metric of every seed and fold, (n_seeds, n_folds)."""
    return np.array([[weighted_metric(p, metric, np.ones((1, len(p.y))))[0] for p in of] for of in parts])


def weighted_metric(part: TestPart, metric: str, weights: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return a metric under each of many weightings of the windows.

    Parameters
    ----------
    part : TestPart
        n windows.
    metric : str
        A classification or regression metric, named as in :mod:`eegm2.evaluation.scores.metrics`.
    weights : array, shape (n_weightings, n)
        Non-negative.

    Returns
    -------
    array, shape (n_weightings,)
        NaN where a class has no weight, or a target does not vary.

    Raises
    ------
    ConfigError
        If the metric does not suit the predictions.
    """
    known = CLASSIFICATION if part.score.ndim == 2 else REGRESSION
    if metric not in known:
        raise ConfigError(f"metric: got '{metric}', expected one of {', '.join(known)}")
    w = np.asarray(weights, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        if part.score.ndim == 1:
            return _regression(part.y.astype(float), part.score.astype(float), w, metric)
        if metric in RANKED:
            n_classes = part.score.shape[1]
            ranked = _auroc if metric == "auroc" else _average_precision
            positives = [1] if n_classes == 2 else range(n_classes)
            return np.mean([ranked(part.y == i, part.score[:, i], w) for i in positives], axis=0)
        return _from_confusion(_confusion(part, w), metric)


def _confusion(part: TestPart, w: NDArray) -> NDArray[np.float64]:
    """Return (n_weightings, true, predicted) sums of weights."""
    k = part.score.shape[1]
    cell = part.y.astype(np.int64) * k + predict_labels(part.score, part.threshold)
    return (w @ np.eye(k * k)[cell]).reshape(len(w), k, k)


def _from_confusion(table: NDArray, metric: str) -> NDArray[np.float64]:
    total, hits = table.sum((1, 2)), np.diagonal(table, axis1=1, axis2=2)
    true, predicted = table.sum(2), table.sum(1)
    if metric == "accuracy":
        return hits.sum(1) / total
    if metric == "balanced_accuracy":
        return (hits / true).mean(1)
    if metric == "weighted_f1":
        f1 = np.divide(2 * hits, true + predicted, out=np.zeros_like(hits), where=true + predicted > 0)
        return (f1 * true).sum(1) / total
    chance = (true * predicted).sum(1) / total**2
    return (hits.sum(1) / total - chance) / (1 - chance)


def _by_falling_score(positive: NDArray, score: NDArray, w: NDArray) -> tuple[NDArray, NDArray]:
    """Return weights of positives and negatives per distinct score, the highest first."""
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])
    w, positive = w[:, order], positive[order]
    return np.add.reduceat(w * positive, starts, axis=1), np.add.reduceat(w * ~positive, starts, axis=1)


def _auroc(positive: NDArray, score: NDArray, w: NDArray) -> NDArray[np.float64]:
    p, n = _by_falling_score(positive, score, w)
    above = np.cumsum(p, axis=1) - p / 2
    return (above * n).sum(1) / (p.sum(1) * n.sum(1))


def _average_precision(positive: NDArray, score: NDArray, w: NDArray) -> NDArray[np.float64]:
    p, n = _by_falling_score(positive, score, w)
    hits, seen = np.cumsum(p, axis=1), np.cumsum(p + n, axis=1)
    precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
    return (precision * p).sum(1) / p.sum(1)


def _regression(y: NDArray, p: NDArray, w: NDArray, metric: str) -> NDArray[np.float64]:
    w = w / w.sum(1, keepdims=True)
    if metric == "mae":
        return w @ np.abs(y - p)
    y, p = y - y.mean(), p - y.mean()
    variance = w @ y**2 - (w @ y) ** 2
    variance = np.where(variance > 1e-12 * max(float((y**2).mean()), 1e-300), variance, np.nan)
    if metric == "r2":
        return 1 - (w @ (y - p) ** 2) / variance
    spread = w @ p**2 - (w @ p) ** 2
    return (w @ (y * p) - (w @ y) * (w @ p)) / np.sqrt(variance * spread)
