"""Figures of merit for classification and regression; `signal_metrics` has those for reconstruction.

Every figure that cannot be computed is NaN and comes with its reason; nothing is silently zero.

References
----------
EEGM2, arXiv 2502.17873, section 4.2 (downstream metrics).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eegm2.errors import DataError


@dataclass(frozen=True)
class Scores:
    """Values of several metrics, and why those that are NaN are NaN.

    Attributes
    ----------
    values : dict of str to float
        Metric name to value.
    reasons : dict of str to str
        One sentence for every NaN.
    """

    values: dict[str, float]
    reasons: dict[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, float | None]:
        """Return the values for JSON, NaN as None."""
        return {name: None if math.isnan(value) else value for name, value in self.values.items()}


def predict_labels(score: NDArray[np.floating], threshold: float | None = None) -> NDArray[np.int64]:
    """Return class indices from class scores.

    Parameters
    ----------
    score : array, shape (n, n_classes)
        Probabilities, or any score that grows with the class's likelihood.
    threshold : float, optional
        For two classes: class 1 where ``score[:, 1] >= threshold``; None takes the largest score.
    """
    if threshold is not None:
        return (score[:, 1] >= threshold).astype(np.int64)
    return score.argmax(axis=1).astype(np.int64)


def classification_metrics(
    y_true: ArrayLike, score: ArrayLike, *, threshold: float | None = None, classes: Sequence[str] = ()
) -> Scores:
    """Return accuracy, balanced accuracy, AUROC, AUPRC, weighted F1 and Cohen's kappa.

    Parameters
    ----------
    y_true : array of int, shape (n,)
        True class indices.
    score : array, shape (n, n_classes)
        Class scores. With two classes column 1 is the positive class; above two, AUROC and AUPRC are
        one-vs-rest, averaged over the classes with equal weight.
    threshold : float, optional
        Decision threshold on ``score[:, 1]``, for two classes only (chosen on validation data).
    classes : sequence of str
        Class names for the reasons; class numbers otherwise.

    Returns
    -------
    Scores
        A class absent from `y_true` leaves AUROC and AUPRC NaN and says so; balanced accuracy is then the
        mean recall of the classes present, and that is said too.

    Raises
    ------
    DataError
        If there is no window, shapes do not fit, labels lie outside the classes, or scores are not finite.
    """
    from sklearn import metrics

    y = np.asarray(y_true)
    s = np.asarray(score, dtype=float)
    _check(y, s, threshold)
    n_classes = s.shape[1]
    names = [str(name) for name in classes] or [str(i) for i in range(n_classes)]
    predicted = predict_labels(s, threshold)
    absent = [names[i] for i in range(n_classes) if not (y == i).any()]
    present = [i for i in range(n_classes) if (y == i).any()]
    recalls = [float((predicted[y == i] == i).mean()) for i in present]
    values = {
        "accuracy": float(metrics.accuracy_score(y, predicted)),
        "balanced_accuracy": float(np.mean(recalls)),
        "auroc": math.nan,
        "auprc": math.nan,
        "weighted_f1": float(metrics.f1_score(y, predicted, average="weighted", zero_division=0.0)),
        "kappa": math.nan,
    }
    reasons = {}
    if absent:
        gone = f"no window of class {', '.join(absent)} among the {len(y)} evaluated"
        reasons = {
            "auroc": gone,
            "auprc": gone,
            "balanced_accuracy": f"mean over the classes present only: {gone}",
        }
    else:
        positives = [1] if n_classes == 2 else range(n_classes)
        values["auroc"] = float(np.mean([metrics.roc_auc_score(y == i, s[:, i]) for i in positives]))
        values["auprc"] = float(
            np.mean([metrics.average_precision_score(y == i, s[:, i]) for i in positives])
        )
    if len(np.union1d(y, predicted)) > 1:
        values["kappa"] = float(metrics.cohen_kappa_score(y, predicted))
    else:
        reasons["kappa"] = f"every label and every prediction is class {names[int(y[0])]}"
    return Scores(values, reasons)


def regression_metrics(y_true: ArrayLike, predicted: ArrayLike) -> Scores:
    """Return R2, mean absolute error and Pearson's r of predictions, both of shape (n,).

    R2 and r of a constant target, or of a single value, are NaN with the reason.

    Raises
    ------
    DataError
        If shapes differ, nothing is given, or a value is not finite.
    """
    from sklearn.metrics import r2_score

    y, p = np.asarray(y_true, dtype=float), np.asarray(predicted, dtype=float)
    if y.shape != p.shape or y.ndim != 1 or not len(y):
        raise DataError(
            f"regression metrics: got shapes {y.shape} and {p.shape}, expected two equal (n,), n >= 1"
        )
    if not (np.isfinite(y).all() and np.isfinite(p).all()):
        raise DataError("regression metrics: a target or prediction is not finite; drop those recordings")
    values = {"r2": math.nan, "mae": float(np.abs(y - p).mean()), "pearson_r": math.nan}
    reasons = {}
    if np.ptp(y) == 0:
        reasons["r2"] = reasons["pearson_r"] = f"the target is {y[0]:g} for all {len(y)} evaluated"
    else:
        values["r2"] = float(r2_score(y, p))
        if np.ptp(p) == 0:
            reasons["pearson_r"] = f"the prediction is {p[0]:g} for all {len(y)} evaluated"
        else:
            values["pearson_r"] = float(np.corrcoef(y, p)[0, 1])
    return Scores(values, reasons)


def best_threshold(y_true: ArrayLike, score: ArrayLike) -> float | None:
    """Return the threshold on the positive score that maximises balanced accuracy (validation data only).

    Parameters
    ----------
    y_true : array of int, shape (n,)
        Labels 0 and 1.
    score : array, shape (n, 2)
        Class scores.

    Returns
    -------
    float or None
        Midway between the two neighbouring scores at the best cut; of equally good cuts the one nearest to
        0.5. None (take the larger score) where a class is missing.
    """
    y, s = np.asarray(y_true), np.asarray(score, dtype=float)[:, 1]
    if not (y == 1).any() or not (y == 0).any():
        return None
    order = np.unique(s)
    cuts = np.concatenate([[order[0]], (order[1:] + order[:-1]) / 2])
    positive, negative = np.sort(s[y == 1]), np.sort(s[y == 0])
    sensitivity = 1 - np.searchsorted(positive, cuts, side="left") / len(positive)
    specificity = np.searchsorted(negative, cuts, side="left") / len(negative)
    balanced = sensitivity + specificity
    best = cuts[balanced >= balanced.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])


def _check(y: NDArray, score: NDArray, threshold: float | None) -> None:
    if score.ndim != 2 or y.shape != score.shape[:1] or score.shape[1] < 2 or not len(y):
        raise DataError(
            f"metrics: got labels {y.shape} and scores {score.shape}, expected (n,) and (n, "
            "n_classes), n >= 1"
        )
    if not np.isfinite(score).all():
        raise DataError(
            f"metrics: {int((~np.isfinite(score)).any(axis=1).sum())} of {len(y)} windows have NaN scores"
        )
    if y.min() < 0 or y.max() >= score.shape[1]:
        raise DataError(
            f"metrics: got labels from {y.min()} to {y.max()}, expected 0 to {score.shape[1] - 1}"
        )
    if threshold is not None and score.shape[1] != 2:
        raise DataError(f"metrics: got a threshold with {score.shape[1]} classes; thresholds are for two")
