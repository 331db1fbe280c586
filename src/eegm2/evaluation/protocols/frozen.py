"""Probes of frozen features: the Linear and Light protocols.

References
----------
EEGM2, arXiv 2502.17873, section 4.3.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from eegm2.errors import DataError
from eegm2.evaluation.config import Centre, FitConfig, ProbeConfig
from eegm2.evaluation.features.centring import centre_features
from eegm2.evaluation.protocols.fitting import History, Task, fit, outputs
from eegm2.evaluation.protocols.kept import HeadArrays
from eegm2.evaluation.protocols.people import C_GRID, Views, among, fit_by_people, variances
from eegm2.evaluation.scores.metrics import best_threshold
from eegm2.evaluation.scores.outcome import Outcome, balanced_loss
from eegm2.evaluation.windows.labelled import LabelledWindows, Split, check_targets
from eegm2.model.heads import light_head


def linear_probe(
    features: NDArray[np.floating],
    data: LabelledWindows,
    split: Split,
    *,
    c: float | str = 1.0,
    threshold: str = "validation",
    centre: Centre = "none",
    views: Views | None = None,
) -> Outcome:
    """Fit StandardScaler and one-vs-rest logistic regression (ridge for a value) on frozen features.

    Parameters
    ----------
    features : array, shape (n, n_features)
        One row per window of `data`.
    data : LabelledWindows
        Targets.
    split : Split
        Learnt on train; val gives the threshold of two classes; predictions are of test.
    c : float, "validation" or "people"
        Inverse strength of the L2 penalty; ``validation`` tries :data:`C_GRID` and keeps the one of
        the lowest loss on the validation part (log loss, classes weighted equally; squared error).
        ``people`` learns from the training and the validation part, leaving people out in turn, see
        `eegm2.evaluation.protocols.people.fit_by_people`; scores of the validation part are then those by
        which it was left out.
    threshold : {"validation", "half"}
        How two classes are decided: by what is best on the validation part (people: on all who were left
        out), or the larger score.
    centre : {"none", "recording", "running"}
        What is taken off the features first, see :func:`centre_features`.
    views : mapping of str to array of int, optional
        Sets of features, as `eegm2.model.features.feature_views` gives them: with ``people`` they are
        weighed, else trusted alike, however many features each has.

    Raises
    ------
    DataError
        If a class is absent from the training part, features are not finite, or all are constant.
    """
    features, used = usable_features(centre_features(features, data, centre), split)
    check_targets(data, split.train, "train")
    if c == "people":
        return _by_people(features, used, data, split, threshold, views or {})
    variance = variances(among(views or {}, used), features.shape[1])
    chosen, table = choose_c(features, data, split, variance) if isinstance(c, str) else (c, {})
    model, converged = _fitted(features, data, split, float(chosen), variance)
    facts = {
        "c": float(chosen),
        "n_features": features.shape[1],
        "converged": converged,
        "deterministic": True,
    }
    if table:
        facts["c_validation_loss"] = table
    if data.is_regression:
        predicted = [model.predict(features[part]) for part in (split.test, split.val)]
        kept = HeadArrays.of_pipeline(model).among(used)
        return Outcome("linear", 0, predicted[0], None, facts, predicted[1], kept)
    score, val_score = (model.predict_proba(features[part]) for part in (split.test, split.val))
    cut = choose_threshold(data, split, val_score, threshold)
    return Outcome("linear", 0, score, cut, facts, val_score, HeadArrays.of_pipeline(model).among(used))


def _by_people(
    features: NDArray[np.floating],
    used: NDArray[np.bool_],
    data: LabelledWindows,
    split: Split,
    threshold: str,
    views: Views,
) -> Outcome:
    """Return the test predictions of a probe fitted on both other parts; `features` are those `used`."""
    learnt = np.concatenate([split.train, split.val])
    made = fit_by_people(
        features[learnt],
        data.y[learnt],
        people_of(data, learnt),
        among(views, used),
        regression=data.is_regression,
    )
    facts = {**made.facts, "n_features": features.shape[1], "deterministic": True}
    val_score = made.left_out[len(split.train) :]
    cut = None
    if threshold == "validation" and len(data.classes) == 2:
        cut = best_threshold(data.y[learnt], made.left_out)
    return Outcome("linear", 0, made(features[split.test]), cut, facts, val_score, made.arrays.among(used))


def people_of(data: LabelledWindows, indices: NDArray[np.int64]) -> NDArray[np.str_]:
    """Return who windows are from: their subjects, or of a single one the recordings."""
    subjects = data.subject[indices]
    return subjects if len(np.unique(subjects)) > 1 else data.recording[indices]


def choose_c(
    features: NDArray[np.floating],
    data: LabelledWindows,
    split: Split,
    variance: NDArray[np.floating] | None = None,
) -> tuple[float, dict[str, float]]:
    """Return the C of the lowest loss on the validation part (the smallest of equals), and every C's loss.

    Classes that the validation part lacks do not count; the test part is never looked at. `variance` is of
    `eegm2.evaluation.protocols.people.variances`.
    """
    y = data.y[split.val]
    table: dict[str, float] = {}
    for c in C_GRID:
        model, _ = _fitted(features, data, split, c, variance)
        predict = model.predict if data.is_regression else model.predict_proba
        table[f"{c:g}"] = balanced_loss(y, predict(features[split.val]))
    best = min(C_GRID, key=lambda c: (table[f"{c:g}"], c))
    return best, table


def _fitted(
    features: NDArray[np.floating],
    data: LabelledWindows,
    split: Split,
    c: float,
    variance: NDArray[np.floating] | None,
) -> tuple[Pipeline, bool]:
    """Return the Linear model fitted on the training part, and whether it converged."""
    model = linear_model(data.is_regression, c, variance)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(features[split.train], data.y[split.train])
    return model, not any(issubclass(w.category, ConvergenceWarning) for w in caught)


def linear_model(
    regression: bool = False, c: float = 1.0, variance: NDArray[np.floating] | None = None
) -> Pipeline:
    """Return the paper's Linear model as a scikit-learn pipeline; `variance` of every feature once scaled."""
    last = Ridge(alpha=1 / c) if regression else OneVsRestClassifier(LogisticRegression(C=c, max_iter=2000))
    alike = variance is None or (variance == 1).all()
    scaler = StandardScaler() if variance is None or alike else WeighingScaler(variance)
    return make_pipeline(scaler, last)


class WeighingScaler(StandardScaler):
    """Standardise, then give every feature a variance of its own.

    Parameters
    ----------
    variance : array, shape (n_features,)
        Above 0, see `eegm2.evaluation.protocols.people.variances`.
    """

    scale_: NDArray[np.floating]

    def __init__(self, variance: NDArray[np.floating]) -> None:
        super().__init__()
        self.variance = variance

    def fit(self, X: NDArray[np.floating], y: object = None, sample_weight: object = None) -> WeighingScaler:
        """Learn means and scales."""
        super().fit(X, y, sample_weight)
        self.scale_ = self.scale_ / np.sqrt(self.variance)
        return self


def light_probe(
    features: NDArray[np.floating],
    data: LabelledWindows,
    split: Split,
    *,
    seed: int = 0,
    config: FitConfig | None = None,
    centre: Centre = "none",
) -> Outcome:
    """Fit the Light perceptron (128 → 32 → n_classes, ReLU, dropout 0.5) on standardised frozen features.

    Parameters
    ----------
    features : array, shape (n, n_features)
        One row per window of `data`.
    data : LabelledWindows
        Targets.
    split : Split
        Learnt on train, stopped early and thresholded on val, predicted on test.
    seed : int
        Seeds weights, order and dropout.
    config : FitConfig, optional
        Settings; :meth:`ProbeConfig.light` by default.
    centre : {"none", "recording", "running"}
        As in :func:`linear_probe`.

    Raises
    ------
    DataError
        As :func:`linear_probe`.
    """
    config = config or ProbeConfig().light()
    features, used = usable_features(centre_features(features, data, centre), split)
    scaler, head, task, history = fit_light(features, data, split, seed=seed, config=config)
    facts: dict[str, Any] = {
        "epochs": len(history.val_loss),
        "best_epoch": history.best_epoch,
        "val_loss": history.val_loss,
    }
    made = predictions("light", seed, head, task, data, split, config, facts)
    target = task.target_scale() if data.is_regression else None
    return replace(made, learnt=HeadArrays.of_network(scaler.mean_, scaler.scale_, head, target).among(used))


def fit_light(
    features: NDArray[np.floating], data: LabelledWindows, split: Split, *, seed: int, config: FitConfig
) -> tuple[StandardScaler, torch.nn.Sequential, Task, History]:
    """Return the standardisation, the fitted Light perceptron, its task and how the fit went.

    Parameters, errors and protocol are those of :func:`light_probe`.
    """
    check_targets(data, split.train, "train")
    scaler = StandardScaler().fit(features[split.train])
    scaled = torch.from_numpy(scaler.transform(features).astype(np.float32))
    task = Task(lambda i: scaled[torch.from_numpy(i)], data.y, split.train, split.val, len(data.classes))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = light_head(scaled.shape[1], task.n_outputs)
    return scaler, head, task, fit(head, task, config, seed)


def predictions(
    protocol: str,
    seed: int,
    network: torch.nn.Module,
    task: Task,
    data: LabelledWindows,
    split: Split,
    config: FitConfig,
    facts: dict[str, Any],
) -> Outcome:
    """Return the test predictions of a fitted network, its threshold chosen on validation."""
    val_score, score = (scores(network, task, part, config) for part in (split.val, split.test))
    cut = choose_threshold(data, split, val_score, config.threshold)
    return Outcome(protocol, seed, score, cut, facts, val_score)


def scores(
    network: torch.nn.Module, task: Task, indices: NDArray[np.int64], config: FitConfig
) -> NDArray[np.floating]:
    """Return a fitted network's probabilities (n, n_classes), or values (n,), of windows."""
    out = outputs(network, task, indices, config)
    if not task.n_classes:
        mean, scale = task.target_scale()
        return out.squeeze(1).double().cpu().numpy() * scale + mean
    return out.double().softmax(1).cpu().numpy()


def choose_threshold(data: LabelledWindows, split: Split, val_score: NDArray, how: str) -> float | None:
    """Return the validation threshold of two classes, or None where the larger score decides."""
    if how != "validation" or len(data.classes) != 2:
        return None
    return best_threshold(data.y[split.val], val_score)


def usable_features(
    features: NDArray[np.floating], split: Split
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Return the features that move in the training part, and which they are; all must be finite.

    Raises
    ------
    DataError
        If a value is not finite (how many windows) or every feature is constant.
    """
    features = np.asarray(features, dtype=float)
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        raise DataError(
            f"features: {int(bad.sum())} of {len(features)} windows hold NaN or infinity (first: "
            f"window {int(bad.argmax())}); "
            "leave those recordings out or check the checkpoint"
        )
    moves = np.ptp(features[split.train], axis=0) > 0
    if not moves.any():
        raise DataError(
            f"features: all {features.shape[1]} are constant over {len(split.train)} training windows; "
            "the checkpoint or the windows carry no signal"
        )
    return features[:, moves], moves
