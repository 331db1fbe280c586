"""Laws of evaluation: who is learnt from, who judges, how sure a figure is, and which axis is the truth."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eegm2.contracts import check_baseline, some_people
from eegm2.errors import ConfigError
from eegm2.evaluation.baselines import BASELINES
from eegm2.evaluation.baselines.library import braindecode_models
from eegm2.evaluation.config import FitConfig
from eegm2.evaluation.protocols.fitting import Task, fit
from eegm2.evaluation.protocols.frozen import C_GRID, choose_c, light_probe, linear_probe
from eegm2.evaluation.scores.crossval import CrossValidated
from eegm2.evaluation.scores.outcome import Outcome
from eegm2.evaluation.scores.resampling import compare, interval
from eegm2.evaluation.scores.weighted_metrics import TestPart
from eegm2.evaluation.windows.labelled import LabelledWindows, Split

RNG = np.random.default_rng(7)
NEEDS = {"riemann": "pyriemann", "riemann_bands": "pyriemann"}
NETWORKS = ("eegnet", "shallow_fbcsp", "eegconformer", "biot")


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_a_baseline_fits_on_training_people_alone(name: str) -> None:
    needed = NEEDS.get(name)
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed (extra baselines)")
    banded = name in ("band_power", "riemann_bands")
    options: dict[str, Any] = {"bands": ["theta=4:8", "alpha=8:13"]} if banded else {}
    if name in NETWORKS:
        options = {"max_epochs": 1, "scaling": "train"}
        try:
            braindecode_models()
        except ConfigError as error:
            pytest.skip(str(error))
    check_baseline(name, options, stops=name in NETWORKS)


@pytest.mark.parametrize("probe", ["linear", "light"])
def test_a_probe_standardises_and_learns_on_training_people_alone(probe: str) -> None:
    data, split = some_people()
    features = np.random.default_rng(3).standard_normal((len(data), 5)) + data.y[:, None] + 7

    def run(features: np.ndarray) -> Outcome:
        if probe == "linear":
            return linear_probe(features, data, split)
        return light_probe(features, data, split, config=FitConfig(max_epochs=2, patience=5))

    first = run(features)
    test, val = features.copy(), features.copy()
    test[split.test] = test[split.test] @ RNG.standard_normal((5, 5)) * 50
    val[split.val] = val[split.val] @ RNG.standard_normal((5, 5)) * 50
    np.testing.assert_array_equal(run(test).val_score, first.val_score)
    assert run(test).threshold == first.threshold
    if probe == "linear":
        np.testing.assert_array_equal(run(val).score, first.score)


def imbalanced() -> tuple[np.ndarray, LabelledWindows, Split]:
    """Return features whose rare class is told best by another penalty than the frequent one."""
    rng = np.random.default_rng(11)
    y = np.concatenate([np.repeat([0, 1], [60, 60]), np.repeat([0, 1], [110, 10]), np.repeat([0, 1], [5, 5])])
    features = rng.standard_normal((len(y), 20))
    features[:, 0] += np.where(y == 1, 1.2, 0.0)
    subject = np.repeat(["a", "b", "c"], [120, 120, 10])
    data = LabelledWindows.from_arrays(np.zeros((len(y), 1, 8)), y, subject, classes=("often", "rare"))
    return features, data, Split(*(data.where_subject([name]) for name in "abc"))


def log_losses(
    features: np.ndarray, data: LabelledWindows, split: Split, *, balanced: bool
) -> dict[float, float]:
    found = {}
    y = data.y[split.val]
    weight = 1 / np.bincount(y)[y] if balanced else None
    for c in C_GRID:
        model = make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression(C=c, max_iter=2000)))
        model.fit(features[split.train], data.y[split.train])
        found[c] = sk.log_loss(
            y, model.predict_proba(features[split.val]), sample_weight=weight, labels=[0, 1]
        )
    return found


def test_the_penalty_is_chosen_by_a_balanced_loss() -> None:
    features, data, split = imbalanced()
    chosen, table = choose_c(features, data, split)
    expected = log_losses(features, data, split, balanced=True)
    assert {float(c): loss for c, loss in table.items()} == pytest.approx(expected, rel=1e-6)
    assert chosen == min(expected, key=lambda c: expected[c])
    plain = log_losses(features, data, split, balanced=False)
    assert chosen != min(plain, key=lambda c: plain[c]), "this example tells the two losses apart"


def test_early_stopping_looks_at_the_validation_part_alone() -> None:
    """Training targets that contradict validation's: the weights kept are those that validate best."""
    import torch

    x = torch.ones(8, 1)
    y = np.array([1.0, 1.0, 1.0, 1.0, -1.0, -1.0, 5.0, 5.0])
    task = Task(lambda i: x[torch.from_numpy(i)], y, np.arange(4), np.arange(4, 6), 0)
    network = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(network.weight)
    # standardised, training targets are 0 and validation's -2: learning leaves what validates best
    with torch.no_grad():
        network.bias.fill_(-2.0)
    history = fit(network, task, FitConfig(max_epochs=4, patience=9, lr=0.1, weight_decay=0.0), 0)
    assert history.best_epoch == 0
    assert history.val_loss[0] < history.val_loss[-1]
    assert history.train_loss[-1] < history.train_loss[0]


def result_of(
    rng: np.random.Generator, n_subjects: int, *, spread: float, n_folds: int = 1
) -> CrossValidated:
    """Return values predicted with an error of each subject's own: its windows are no evidence apart."""
    folds = []
    for fold in range(n_folds):
        subject = np.repeat([f"{fold}-{i}" for i in range(n_subjects)], 5)
        size = np.repeat(rng.gamma(4.0, spread / 4, n_subjects), 5)
        folds.append(TestPart(np.zeros(len(subject)), size, subject))
    return CrossValidated((tuple(folds),), (0,), ((),))


@pytest.mark.parametrize(("level", "lowest", "highest"), [(0.95, 0.92, 0.975), (0.8, 0.76, 0.84)])
@pytest.mark.parametrize("n_folds", [1, 3])
def test_an_interval_covers_what_it_says(level: float, lowest: float, highest: float, n_folds: int) -> None:
    """Simulated: the truth (a mean absolute error of 2) lies within in `level` of the studies."""
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(500):
        result = result_of(rng, 45 // n_folds, spread=2.0, n_folds=n_folds)
        low, high = interval(result.parts, "mae", n_bootstrap=250, level=level)
        covered.append(low <= 2.0 <= high)
    assert lowest < np.mean(covered) < highest


def test_the_default_level_is_95_percent_everywhere() -> None:
    result = result_of(np.random.default_rng(0), 20, spread=1.0)
    other = result_of(np.random.default_rng(1), 20, spread=1.0)
    row = next(row for row in result.rows("m") if row["metric"] == "mae")
    assert (row["ci_low"], row["ci_high"]) == interval(result.parts, "mae", level=0.95)
    assert interval(result.parts, "mae") == interval(result.parts, "mae", level=0.95)
    assert interval(result.parts, "mae") != interval(result.parts, "mae", level=0.9)
    assert compare(result.parts, other.parts, "mae") == compare(result.parts, other.parts, "mae", level=0.95)


def test_a_comparison_of_equals_errs_as_often_as_it_says() -> None:
    """Two models of the same quality: 5 % of the studies are below p = 0.05, 95 % of the intervals hold 0."""
    rng = np.random.default_rng(6)
    p, holds = [], []
    for _ in range(400):
        a, b = (result_of(rng, 40, spread=1.0) for _ in range(2))
        found = compare(a.parts, b.parts, "mae", n_resamples=199)
        p.append(found.p)
        holds.append(found.ci_low <= 0 <= found.ci_high)
    assert 0.025 < np.mean(np.array(p) <= 0.05) < 0.08
    assert 0.42 < np.mean(np.array(p) <= 0.5) < 0.58
    assert 0.91 < np.mean(holds) < 0.98


def test_a_comparison_is_paired() -> None:
    """People differ much, the models little and always the same way: paired, that is certain."""
    rng = np.random.default_rng(8)
    a = result_of(rng, 25, spread=5.0)
    better = dataclasses.replace(a.parts[0][0], score=a.parts[0][0].score - 0.1)
    b = dataclasses.replace(a, parts=((better,),))
    found = compare(a.parts, b.parts, "mae", n_resamples=400)
    assert found.difference == pytest.approx(0.1)
    assert (found.ci_low, found.ci_high) == pytest.approx((0.1, 0.1))
    assert found.p < 0.01


def test_the_confusion_matrix_of_the_report_has_truth_in_rows() -> None:
    from eegm2.report.contents import Probe
    from eegm2.report.figures.confusion import confusion_matrices
    from eegm2.report.sections.downstream import _confusions

    y = np.array([0, 0, 0, 0, 1])
    scores = np.eye(2)[[1, 1, 1, 0, 1]]
    probe = Probe("p", task={"classes": ["never", "ever"]}, scores={"linear": [scores, scores]}, y_true=y)
    matrix = _confusions(probe, 2)["linear"]
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(y, [1, 1, 1, 0, 1]))
    axes = confusion_matrices({"linear": matrix}, ["never", "ever"]).axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true", "predicted")
    written = {t.get_position(): t.get_text() for t in axes.texts}
    assert written[1.5, 0.5] == "75%\n3", "truth never (first row), predicted ever (second column)"
    assert written[0.5, 1.5] == "0%\n0"
    assert [t.get_text() for t in axes.get_yticklabels()] == ["never", "ever"]
    assert axes.get_ylim() == (2, 0), "the first class is the upper row"


def test_a_threshold_of_the_report_is_that_of_the_metrics() -> None:
    from eegm2.evaluation.scores.metrics import predict_labels
    from eegm2.report.contents import Probe

    scores = np.array([[0.7, 0.3], [0.6, 0.4], [0.5, 0.5], [0.1, 0.9]])
    for limit in (None, 0.3, 0.4, 0.45):
        probe = Probe(
            "p", scores={"linear": [scores]}, thresholds={"linear": [limit]}, y_true=np.zeros(4, int)
        )
        np.testing.assert_array_equal(probe.predicted("linear")[0], predict_labels(scores, limit))
