"""Exchanges and resamples against every exchange there is, and against the spread of means."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn import metrics as sk

from eegm2.errors import DataError
from eegm2.evaluation.scores.resampling import compare, interval
from eegm2.evaluation.scores.weighted_metrics import TestPart

WINDOWS = 12


def part(
    n_classes: int, threshold: float | None, strength: float, seed: int, n_subjects: int = 6
) -> TestPart:
    """Return scores of people of whom one each is told worse than the one before; 0 classes: values."""
    rng = np.random.default_rng([n_classes, seed])
    subject = np.repeat([f"s{i}" for i in range(n_subjects)], WINDOWS)
    if not n_classes:
        y = np.random.default_rng(9).standard_normal(len(subject))
        return TestPart(y, y + rng.standard_normal(len(y)) / strength, subject, None)
    y = np.arange(len(subject)) % n_classes
    made = rng.standard_normal((len(y), n_classes)) + strength * np.eye(n_classes)[y]
    odds = np.exp(made)
    return TestPart(y, odds / odds.sum(1, keepdims=True), subject, threshold)


def value(metric: str, y: np.ndarray, said: np.ndarray) -> float:
    if metric == "auroc":
        return float(sk.roc_auc_score(y, said[:, 1]))
    functions = {"accuracy": sk.accuracy_score, "balanced_accuracy": sk.balanced_accuracy_score}
    return float({**functions, "mae": sk.mean_absolute_error}[metric](y, said))


def said_by(one: TestPart, metric: str) -> np.ndarray:
    """Return what a metric looks at: values, ranks, or decisions."""
    if metric == "mae":
        return one.score
    if metric == "auroc":
        return rankdata(one.score, axis=0)
    if one.threshold is None:
        return one.score.argmax(1)
    return (one.score[:, 1] >= one.threshold).astype(int)


CASES = [
    ("accuracy", 2, (0.3, 0.7), (1.2, 0.8)),
    ("balanced_accuracy", 2, (None, None), (1.0, 0.8)),
    ("accuracy", 3, (None, None), (1.2, 1.0)),
    ("auroc", 2, (0.5, None), (1.0, 0.8)),
    ("mae", 0, (None, None), (1.2, 1.0)),
]


@pytest.mark.parametrize(("metric", "n_classes", "thresholds", "strengths"), CASES, ids=str)
def test_p_is_the_share_of_all_exchanges_that_reach_the_difference(
    metric: str,
    n_classes: int,
    thresholds: tuple[float | None, float | None],
    strengths: tuple[float, float],
) -> None:
    """Each model keeps its own threshold; what is exchanged is what it says of all windows of a person."""
    a, b = (part(n_classes, t, s, i) for i, (t, s) in enumerate(zip(thresholds, strengths, strict=True)))
    said = np.stack([said_by(one, metric) for one in (a, b)])
    found = []
    for flips in product((0, 1), repeat=6):
        which = np.repeat(flips, WINDOWS)
        rows = np.arange(len(which))
        found.append(value(metric, a.y, said[which, rows]) - value(metric, a.y, said[1 - which, rows]))
    expected = np.mean(np.abs(found) >= abs(found[0]) - 1e-12)
    made = compare(((a,),), ((b,),), metric, n_resamples=3000)
    assert made.difference == pytest.approx(found[0])
    assert made.p == pytest.approx(expected, abs=0.03)
    assert 0.05 < expected < 0.95, "the example is neither certain nor empty"
    turned = compare(((b,),), ((a,),), metric, n_resamples=3000)
    assert turned.difference == pytest.approx(-made.difference)
    assert (turned.ci_low, turned.ci_high) == pytest.approx((-made.ci_high, -made.ci_low))
    same = compare(((a,),), ((a,),), metric, n_resamples=50)
    assert (same.difference, same.ci_low, same.ci_high, same.p) == (0, 0, 0, 1)


def test_folds_and_seeds_are_averaged_and_one_seed_stands_for_all_of_a_sure_model() -> None:
    """Two folds and two seeds of one model against the single seed of another."""
    parts = [[part(2, 0.5, s, 10 * i + j) for j in range(2)] for i, s in enumerate((1.0, 1.4, 0.6))]
    a, b = (tuple(parts[0]), tuple(parts[1])), (tuple(parts[2]),)
    each = [[value("accuracy", p.y, said_by(p, "accuracy")) for p in of_seed] for of_seed in parts]
    made = compare(a, b, "accuracy", n_resamples=400)
    assert made.difference == pytest.approx(np.mean(each[:2]) - np.mean(each[2]))
    middle = (made.ci_low + made.ci_high) / 2
    assert middle == pytest.approx(made.difference, abs=0.02)
    turned = compare(b, a, "accuracy", n_resamples=400)
    assert (turned.difference, turned.p) == pytest.approx((-made.difference, made.p), abs=0.02)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_an_interval_is_as_wide_as_people_differ(level: float) -> None:
    """Of a mean over people it is the normal one; one person a fold, folds are drawn."""
    from scipy.stats import norm

    rng, n = np.random.default_rng(0), 60
    errors = rng.standard_normal(n)
    subject = np.array([f"s{i:02d}" for i in range(n)])
    one = TestPart(np.zeros(n), errors + 10, subject, None)
    half = norm.ppf((1 + level) / 2) * errors.std() / np.sqrt(n)
    expected = 10 + errors.mean() - half, 10 + errors.mean() + half
    assert interval(((one,),), "mae", level=level, n_bootstrap=4000) == pytest.approx(expected, abs=0.02)
    apart = tuple(TestPart(np.zeros(1), errors[i : i + 1] + 10, subject[i : i + 1], None) for i in range(n))
    assert interval((apart,), "mae", level=level, n_bootstrap=4000) == pytest.approx(expected, abs=0.02)
    assert interval(((one,),), "mae", seed=1) != interval(((one,),), "mae", seed=0)
    assert interval(((one,),), "mae") == interval(((one,),), "mae", n_bootstrap=1000, level=0.95, seed=0)


@pytest.mark.parametrize("change", ["y", "subject", "folds"])
def test_models_of_other_windows_are_not_compared(change: str) -> None:
    a = part(2, 0.5, 1.0, 0)
    other = {"y": (1 - a.y, a.subject), "subject": (a.y, a.subject[::-1])}
    b = [TestPart(y, a.score, s, 0.5) for y, s in [other.get(change, (a.y, a.subject))]]
    with pytest.raises(DataError, match=r"use the same (data and )?splits"):
        compare(((a,),), ((*b, *b) if change == "folds" else tuple(b),), "accuracy")
