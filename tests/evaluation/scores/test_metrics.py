"""Metrics against scikit-learn and by hand, and what they say when they cannot be computed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from eegm2.errors import DataError
from eegm2.evaluation.config import CLASSIFICATION
from eegm2.evaluation.reconstruct.signal_metrics import (
    acmse,
    acmse_authors_code,
    channel_correlation,
    spectral_error,
)
from eegm2.evaluation.scores.metrics import (
    best_threshold,
    classification_metrics,
    predict_labels,
    regression_metrics,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_classification_agrees_with_scikit_learn(n_classes: int) -> None:
    y = RNG.integers(0, n_classes, 200)
    score = RNG.dirichlet(np.ones(n_classes), 200)
    score[np.arange(200), y] += 0.2
    score /= score.sum(1, keepdims=True)
    found = classification_metrics(y, score)
    predicted = score.argmax(1)
    hot = np.eye(n_classes)[y]
    auprc = (
        sk.average_precision_score(hot, score)
        if n_classes > 2
        else sk.average_precision_score(y, score[:, 1])
    )
    expected = {
        "accuracy": sk.accuracy_score(y, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(y, predicted),
        "auroc": sk.roc_auc_score(y, score if n_classes > 2 else score[:, 1], multi_class="ovr"),
        "auprc": auprc,
        "weighted_f1": sk.f1_score(y, predicted, average="weighted"),
        "kappa": sk.cohen_kappa_score(y, predicted),
    }
    assert tuple(found.values) == CLASSIFICATION
    assert found.reasons == {}
    for name, value in expected.items():
        assert found.values[name] == pytest.approx(value, abs=1e-12), name


def test_an_absent_class_is_nan_with_its_name() -> None:
    score = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1]])
    found = classification_metrics([0, 1, 1], score, classes=("a", "b", "c"))
    assert math.isnan(found.values["auroc"])
    assert found.reasons["auroc"] == "no window of class c among the 3 evaluated"
    assert found.values["balanced_accuracy"] == pytest.approx(0.75)
    assert "classes present only" in found.reasons["balanced_accuracy"]
    assert found.plain()["auprc"] is None


def test_one_label_everywhere_leaves_kappa_undefined() -> None:
    found = classification_metrics([1, 1], np.array([[0.1, 0.9], [0.2, 0.8]]), classes=("a", "b"))
    assert math.isnan(found.values["kappa"])
    assert found.reasons["kappa"] == "every label and every prediction is class b"


@pytest.mark.parametrize(
    ("y", "score", "threshold", "message"),
    [
        ([], np.zeros((0, 2)), None, r"got labels \(0,\)"),
        ([0, 1], np.zeros((3, 2)), None, r"scores \(3, 2\)"),
        ([0, 2], np.zeros((2, 2)), None, "got labels from 0 to 2, expected 0 to 1"),
        ([0, 1], np.array([[0.5, np.nan], [0.5, 0.5]]), None, "1 of 2 windows have NaN scores"),
        ([0, 1], np.ones((2, 3)), 0.5, "got a threshold with 3 classes"),
    ],
)
def test_what_makes_no_sense_is_refused(
    y: list, score: np.ndarray, threshold: float | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        classification_metrics(y, score, threshold=threshold)


def test_the_threshold_is_the_best_of_all_cuts() -> None:
    y = RNG.integers(0, 2, 60)
    p = np.clip(0.2 + 0.15 * y + 0.1 * RNG.standard_normal(60), 0, 1)
    score = np.stack([1 - p, p], axis=1)
    found = best_threshold(y, score)
    reached = sk.balanced_accuracy_score(y, predict_labels(score, found))
    everywhere = [sk.balanced_accuracy_score(y, predict_labels(score, cut)) for cut in [0.0, *(p + 1e-9)]]
    assert reached == pytest.approx(max(everywhere))
    assert reached > sk.balanced_accuracy_score(y, predict_labels(score))
    assert best_threshold(np.zeros(60), score) is None


def test_regression_metrics_and_a_constant_target() -> None:
    y = RNG.standard_normal(50)
    p = y + RNG.standard_normal(50)
    found = regression_metrics(y, p).values
    assert found["r2"] == pytest.approx(sk.r2_score(y, p))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(y, p))
    assert found["pearson_r"] == pytest.approx(np.corrcoef(y, p)[0, 1])
    constant = regression_metrics(np.full(3, 7.0), [1.0, 2.0, 3.0])
    assert math.isnan(constant.values["r2"])
    assert constant.reasons["r2"] == "the target is 7 for all 3 evaluated"
    with pytest.raises(DataError, match="a target or prediction is not finite"):
        regression_metrics([1.0, np.nan], [1.0, 2.0])


def test_acmse_is_the_texts_and_the_codes_figure_is_another() -> None:
    x, y = RNG.standard_normal((2, 5, 3, 40))
    by_hand = np.mean([np.mean((x[:, c] - y[:, c]) ** 2) for c in range(3)])
    assert acmse(x, y) == pytest.approx(by_hand)
    erp = (x - y).mean(0)
    assert acmse_authors_code(x, y) == pytest.approx(sum(np.mean(erp[c] ** 2) for c in range(3)) / 40)
    assert acmse_authors_code(x, y) < 0.1 * acmse(x, y)
    with pytest.raises(DataError, match=r"expected two equal \(n_windows, n_chans, n_times\)"):
        acmse(x, y[:, :2])


def test_correlation_and_spectral_error_have_their_anchors() -> None:
    x = RNG.standard_normal((2, 64))
    assert channel_correlation(x, -2 * x + 1) == pytest.approx([-1, -1])
    assert np.isnan(channel_correlation(x, np.ones_like(x))).all()
    assert spectral_error(x, np.roll(x, 5, axis=1)) == pytest.approx(0, abs=1e-20)
    assert spectral_error(x, 0 * x) == pytest.approx(1)
    assert math.isnan(spectral_error(0 * x, x))
