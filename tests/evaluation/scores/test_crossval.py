"""Folds by subject, weighted metrics against scikit-learn, intervals and comparisons."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from sklearn import metrics as sk

from eegm2.data.windows.splits import SplitManifest
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.protocols.frozen import linear_probe
from eegm2.evaluation.scores.crossval import (
    cross_validate,
    manifest_split,
    subject_splits,
)
from eegm2.evaluation.scores.outcome import Outcome
from eegm2.evaluation.scores.resampling import compare, interval
from eegm2.evaluation.scores.weighted_metrics import TestPart, weighted_metric
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from tests.evaluation.helpers import labelled_arrays

RNG = np.random.default_rng(0)


def noisy(data: LabelledWindows, split: Split, seed: int, *, strength: float) -> Outcome:
    """Score the test windows by their label in noise of their subject's own."""
    rng = np.random.default_rng([seed, *split.test])
    offset = {name: rng.standard_normal() for name in sorted(set(data.subject.tolist()))}
    noise = np.array([offset[name] for name in data.subject[split.test]]) + rng.standard_normal(
        len(split.test)
    )
    p = 1 / (1 + np.exp(-(strength * (2 * data.y[split.test] - 1) + noise)))
    return Outcome("noisy", seed, np.stack([1 - p, p], axis=1), 0.5)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_weighted_metrics_agree_with_scikit_learn(n_classes: int) -> None:
    y = RNG.integers(0, n_classes, 80)
    score = np.round(RNG.dirichlet(np.ones(n_classes), 80), 2)  # with ties
    weights = RNG.integers(0, 4, (3, 80)).astype(float)
    predicted, positives = score.argmax(1), [1] if n_classes == 2 else range(n_classes)
    of = {
        "accuracy": lambda w: sk.accuracy_score(y, predicted, sample_weight=w),
        "balanced_accuracy": lambda w: sk.balanced_accuracy_score(y, predicted, sample_weight=w),
        "weighted_f1": lambda w: sk.f1_score(y, predicted, average="weighted", sample_weight=w),
        "kappa": lambda w: sk.cohen_kappa_score(y, predicted, sample_weight=w),
        "auroc": lambda w: np.mean(
            [sk.roc_auc_score(y == i, score[:, i], sample_weight=w) for i in positives]
        ),
        "auprc": lambda w: np.mean(
            [sk.average_precision_score(y == i, score[:, i], sample_weight=w) for i in positives]
        ),
    }
    part = TestPart(y, score, y.astype(str))
    for metric, function in of.items():
        expected = [function(w) for w in weights]
        np.testing.assert_allclose(
            weighted_metric(part, metric, weights), expected, rtol=1e-10, err_msg=metric
        )
    with pytest.raises(ConfigError, match="metric: got 'r2', expected one of accuracy"):
        weighted_metric(part, "r2", weights)


def test_weighted_regression_agrees_with_scikit_learn() -> None:
    y = 50 + RNG.standard_normal(60)
    p = y + 0.5 * RNG.standard_normal(60) + 0.3
    w = RNG.integers(0, 4, 60).astype(float)
    part = TestPart(y, p, y.astype(str))
    found = {m: weighted_metric(part, m, w[None])[0] for m in ("r2", "mae", "pearson_r")}
    assert found["r2"] == pytest.approx(sk.r2_score(y, p, sample_weight=w))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(y, p, sample_weight=w))
    repeated = np.repeat(np.arange(60), w.astype(int))
    assert found["pearson_r"] == pytest.approx(np.corrcoef(y[repeated], p[repeated])[0, 1])
    assert np.isnan(weighted_metric(TestPart(0 * y, p, y.astype(str)), "r2", w[None])[0])


def test_a_resample_without_a_class_is_nan() -> None:
    part = TestPart(np.array([0, 1]), np.array([[0.9, 0.1], [0.4, 0.6]]), np.array(["a", "b"]))
    for metric in ("auroc", "balanced_accuracy"):
        assert np.isnan(weighted_metric(part, metric, np.array([[1.0, 0.0]]))[0])


@pytest.mark.parametrize("n_folds", [2, 3, 6])
def test_folds_divide_subjects_and_test_each_once(n_folds: int) -> None:
    data = labelled_arrays()
    splits = subject_splits(data, n_folds, seed=4)
    tested = np.concatenate([split.test for split in splits])
    assert sorted(tested) == list(range(len(data)))
    for split in splits:
        people = [set(data.subject[part]) for part in (split.train, split.val, split.test)]
        assert sum(map(len, people)) == 6
        assert set.union(*people) == set(data.subject)
    again = subject_splits(data, n_folds, seed=4)
    assert all(np.array_equal(a.val, b.val) for a, b in zip(splits, again))


def test_every_part_has_every_condition_where_people_have_one() -> None:
    """Folds and the validation part within them are stratified by label."""
    y = np.repeat([0, 1], [6 * 2, 18 * 2])
    data = LabelledWindows.from_arrays(
        np.zeros((48, 1, 8)), y, np.repeat([f"s{i:02d}" for i in range(24)], 2)
    )
    for seed in range(5):
        for split in subject_splits(data, 3, val=0.5, seed=seed):
            shares = [data.y[part].mean() for part in (split.train, split.val, split.test)]
            assert all(abs(share - 0.75) < 1 / 8 for share in shares), shares  # of 8 people each


def test_the_usual_seed_is_0() -> None:
    data = labelled_arrays(n_subjects=6, n_times=8)
    splits = subject_splits(data, 2)
    assert [s.test.tolist() for s in splits] == [s.test.tolist() for s in subject_splits(data, 2, seed=0)]
    assert cross_validate(partial(noisy, strength=1.0), data, splits).seeds == (0,)


def test_too_few_subjects_and_a_fixed_manifest() -> None:
    data = labelled_arrays(n_subjects=4)
    with pytest.raises(DataError, match="n_folds: got 5 for 4 subjects; expected 2 to 4"):
        subject_splits(data, 5)
    split = manifest_split(data, SplitManifest(("sub0", "sub2"), ("sub1",), ("sub3",)))
    assert set(data.subject[split.test]) == {"sub3"}
    with pytest.raises(DataError, match="the test part has no labelled window"):
        manifest_split(data, SplitManifest(("sub0", "sub2"), ("sub1",), ("nobody",)))


def test_a_deterministic_runner_runs_once_and_rows_are_complete() -> None:
    data = labelled_arrays()
    features = data.x.std(axis=2).astype(float) + RNG.standard_normal((48, 3)) * 0.1
    result = cross_validate(
        lambda d, s, seed: linear_probe(features, d, s), data, subject_splits(data, 3), (0, 1, 2)
    )
    assert result.seeds == (0,)
    rows = result.rows("linear", n_bootstrap=50)
    assert {row["metric"] for row in rows} >= {"balanced_accuracy", "auroc"}
    for row in rows:
        assert set(row) == {"model", "metric", "mean", "std", "ci_low", "ci_high", "n_subjects", "seeds"}
        assert row["n_subjects"] == 6
        assert row["ci_low"] <= row["ci_high"]


def test_intervals_widen_with_few_subjects_and_hold_the_mean() -> None:
    width = {}
    for n_subjects in (6, 60):
        data = labelled_arrays(n_subjects=n_subjects, n_times=8)
        result = cross_validate(partial(noisy, strength=0.7), data, subject_splits(data, 3))
        low, high = interval(result.parts, "auroc", n_bootstrap=300)
        assert low < result.values("auroc").mean() < high
        assert (low, high) == interval(result.parts, "auroc", n_bootstrap=300)
        width[n_subjects] = high - low
    assert width[60] < 0.6 * width[6]


def test_folds_are_drawn_where_each_tests_one_subject() -> None:
    data = labelled_arrays(n_subjects=6, n_times=8)
    splits = subject_splits(data, 6)
    strong, weak = (cross_validate(partial(noisy, strength=s), data, splits) for s in (1.5, 0.3))
    values = strong.values("auroc")
    low, high = interval(strong.parts, "auroc", n_bootstrap=300)
    assert values.min() <= low < values.mean() < high <= values.max()
    found = compare(strong.parts, weak.parts, "auroc", n_resamples=300)
    assert found.ci_low < found.difference < found.ci_high


def test_a_comparison_finds_a_difference_and_none_where_there_is_none() -> None:
    data = labelled_arrays(n_subjects=30, n_times=8)
    splits = subject_splits(data, 3)
    strong, weak = (cross_validate(partial(noisy, strength=s), data, splits, (0, 1)) for s in (1.5, 0.3))
    same = cross_validate(partial(noisy, strength=0.3), data, splits, (2, 3))
    for metric in ("auroc", "balanced_accuracy"):
        found = compare(strong.parts, weak.parts, metric, n_resamples=300)
        assert found.difference == pytest.approx(strong.values(metric).mean() - weak.values(metric).mean())
        assert 0 < found.ci_low < found.difference < found.ci_high
        assert found.p < 0.01
        none = compare(same.parts, weak.parts, metric, n_resamples=300)
        assert none.ci_low < 0 < none.ci_high
        assert none.p > 0.05
    itself = compare(weak.parts, weak.parts, "auroc", n_resamples=50)
    assert (itself.difference, itself.ci_low, itself.ci_high, itself.p) == (0, 0, 0, 1)
    with pytest.raises(DataError, match="the two were tested on different windows"):
        compare(
            weak.parts,
            cross_validate(partial(noisy, strength=1), data, subject_splits(data, 3, seed=9)).parts,
            "auroc",
        )


def test_the_scale_of_scores_does_not_touch_a_comparison_of_their_order() -> None:
    data = labelled_arrays(n_subjects=20, n_times=8)
    splits = subject_splits(data, 2)
    one, two = (
        cross_validate(partial(noisy, strength=s), data, splits, (seed,)) for s, seed in ((0.6, 0), (0.3, 1))
    )
    flat = tuple(tuple(replace(p, score=0.5 + 1e-3 * p.score**3) for p in row) for row in two.parts)
    for metric in ("auroc", "auprc"):
        plain, other = (
            compare(one.parts, b.parts, metric, n_resamples=200) for b in (two, replace(two, parts=flat))
        )
        assert other.p == plain.p
        assert other.difference == pytest.approx(plain.difference)
