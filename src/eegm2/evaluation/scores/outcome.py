"""What a protocol yields on the test windows, and its metrics per window, per recording and per subject."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegm2.evaluation.scores.metrics import Scores, classification_metrics, regression_metrics
from eegm2.evaluation.windows.labelled import LabelledWindows


@dataclass(frozen=True)
class Outcome:
    """One protocol's predictions with one seed.

    Attributes
    ----------
    protocol : str
        linear, light, fine, scratch, or a baseline's name.
    seed : int
        Seed of weights, order and dropout.
    score : array, shape (n_test, n_classes), or (n_test,) for regression
        Class probabilities, or predicted values, of the test windows.
    threshold : float or None
        Decision threshold chosen on validation (two classes).
    facts : dict
        Settings and history worth keeping.
    val_score : array, shape (n_val, n_classes) or (n_val,), optional
        The same of the validation windows: what models are chosen by.
    learnt : object, optional
        What was learnt, to be kept: `eegm2.evaluation.protocols.kept.HeadArrays` of frozen features, or the
        trained network.
    """

    protocol: str
    seed: int
    score: NDArray[np.floating]
    threshold: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    val_score: NDArray[np.floating] | None = None
    learnt: Any = None


def evaluate(outcome: Outcome, data: LabelledWindows, test: NDArray[np.int64]) -> dict[str, Any]:
    """Return one row of results: metrics per window, per recording and per subject.

    A recording's (subject's) score is the mean over its windows of one label: where the label changes within
    a recording, every labelled condition of it counts once.

    Returns
    -------
    dict
        protocol, seed, threshold, metrics, recording_metrics, subject_metrics, per_subject (macro-averaged
        window metrics of each subject alone), reasons for what could not be computed, and the facts.
    """
    y = data.y[test]
    window = scores_of(y, outcome.score, outcome.threshold, data.classes)
    row: dict[str, Any] = {
        "protocol": outcome.protocol,
        "seed": outcome.seed,
        "threshold": outcome.threshold,
        "metrics": window.plain(),
    }
    reasons = {f"window {name}": reason for name, reason in window.reasons.items()}
    for level, origin in (("recording", data.recording), ("subject", data.subject)):
        labels, score = aggregate(y, outcome.score, origin[test])
        of_level = scores_of(labels, score, outcome.threshold, data.classes)
        row[f"{level}_metrics"] = of_level.plain()
        reasons |= {f"{level} {name}": reason for name, reason in of_level.reasons.items()}
    return {**row, "per_subject": _per_subject(outcome, data, test), "reasons": reasons, **outcome.facts}


def validation_row(outcome: Outcome, data: LabelledWindows, val: NDArray[np.int64]) -> dict[str, Any]:
    """Return the window metrics of the validation part, and its loss; empty where there are no scores of it.

    Accuracies are at the threshold that this same part has chosen, so they flatter; the loss, AUROC and AUPRC
    do not depend on it.

    Returns
    -------
    dict
        n_windows, metrics (those of :func:`evaluate`, and ``loss``), reasons for what could not be computed.
    """
    if outcome.val_score is None:
        return {}
    y = data.y[val]
    scores = scores_of(y, outcome.val_score, outcome.threshold, data.classes)
    metrics = {"loss": balanced_loss(y, outcome.val_score), **scores.plain()}
    return {"n_windows": len(y), "metrics": metrics, "reasons": scores.reasons}


def balanced_loss(y: NDArray, score: NDArray[np.floating]) -> float:
    """Return the log loss with the classes present weighted equally, or the mean squared error of values."""
    if score.ndim == 1:
        return float(np.mean((score - y) ** 2))
    losses = -np.log(np.maximum(score[np.arange(len(y)), y], 1e-12))
    return float(np.mean([losses[y == i].mean() for i in np.unique(y)]))


def scores_of(y: NDArray, score: NDArray, threshold: float | None, classes: tuple[str, ...]) -> Scores:
    """Return classification metrics where there are classes, regression metrics otherwise."""
    if not classes:
        return regression_metrics(y, score)
    return classification_metrics(y, score, threshold=threshold, classes=classes)


def aggregate(y: NDArray, score: NDArray, origin: NDArray) -> tuple[NDArray, NDArray]:
    """Return targets and mean scores of every (origin, target) pair, sorted by origin."""
    codes = np.unique(origin, return_inverse=True)[1]
    values, numbers = np.unique(y, return_inverse=True)
    pairs, members = np.unique(codes * len(values) + numbers, return_inverse=True)
    count = np.bincount(members)
    columns = score.reshape(len(score), -1).T
    mean = np.stack([np.bincount(members, weights=column) / count for column in columns], axis=1)
    return values[pairs % len(values)], mean.reshape(len(pairs), *score.shape[1:])


def summarise(rows: list[dict[str, Any]], level: str = "metrics") -> list[dict[str, Any]]:
    """Return mean and standard deviation (population) over seeds of every protocol and metric.

    Parameters
    ----------
    rows : list of dict
        From :func:`evaluate`.
    level : {"metrics", "recording_metrics", "subject_metrics"}
        Per window, recording or subject.
    """
    summary = []
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        mine = [row[level] for row in rows if row["protocol"] == protocol]
        for metric in mine[0]:
            values = [values[metric] for values in mine if values[metric] is not None]
            known = len(values) == len(mine)
            summary.append(
                {
                    "protocol": protocol,
                    "metric": metric,
                    "mean": float(np.mean(values)) if known else None,
                    "std": float(np.std(values)) if known else None,
                    "n_seeds": len(mine),
                }
            )
    return summary


def _per_subject(outcome: Outcome, data: LabelledWindows, test: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Return every test subject's own window metrics."""
    rows = []
    subjects = data.subject[test]
    for subject in np.unique(subjects):
        mine = subjects == subject
        values = scores_of(data.y[test][mine], outcome.score[mine], outcome.threshold, data.classes).plain()
        rows.append({"subject": str(subject), "n_windows": int(mine.sum()), **values})
    return rows
