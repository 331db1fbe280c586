"""What is certain about a result, or about a difference: subjects resampled, predictions exchanged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from eegm2.errors import DataError
from eegm2.evaluation.scores.weighted_metrics import RANKED, Parts, TestPart, fold_values, weighted_metric


def interval(
    parts: Parts, metric: str, *, n_bootstrap: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile interval of the mean over folds and seeds, resampling subjects within folds."""
    values = _resampled(parts, metric, n_bootstrap, seed)
    return _percentiles(values, level)


@dataclass(frozen=True)
class Comparison:
    """How much better `a` is than `b` on the same subjects.

    Attributes
    ----------
    metric : str
        Name of the metric.
    difference : float
        Mean of a minus mean of b.
    ci_low, ci_high : float
        Interval of the difference, subjects resampled, the same ones for both.
    p : float
        Two-sided, from exchanging the two models' predictions subject by subject.
    """

    metric: str
    difference: float
    ci_low: float
    ci_high: float
    p: float


def compare(
    a: Parts,
    b: Parts,
    metric: str,
    *,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare two models on the same splits, paired by subject; `a` and `b` are ``parts`` of their results.

    Raises
    ------
    DataError
        If the two were not tested on the same windows in the same folds.
    """
    for part_a, part_b in zip(a[0], b[0], strict=False):
        if not (np.array_equal(part_a.y, part_b.y) and np.array_equal(part_a.subject, part_b.subject)):
            raise DataError("compare: the two were tested on different windows; use the same data and splits")
    if len(a[0]) != len(b[0]):
        raise DataError(f"compare: got {len(a[0])} and {len(b[0])} folds; use the same splits")
    difference = float(fold_values(a, metric).mean() - fold_values(b, metric).mean())
    resampled = _resampled(a, metric, n_resamples, seed) - _resampled(b, metric, n_resamples, seed)
    low, high = _percentiles(resampled, level)
    exchanged = _exchanged(a, b, metric, n_resamples, seed)
    reached = np.abs(exchanged) >= abs(difference) - 1e-12
    return Comparison(metric, difference, low, high, float((1 + reached.sum()) / (1 + len(exchanged))))


def _resampled(parts: Parts, metric: str, count: int, seed: int) -> NDArray[np.float64]:
    """Return the mean over folds and seeds of `count` resamples; equal seeds draw the same subjects.

    Subjects are drawn within folds; where every fold tests a single subject, folds are drawn.
    """
    folds = len(parts[0])
    if folds > 1 and all(len(np.unique(part.subject)) == 1 for part in parts[0]):
        drawn = np.random.default_rng([seed]).multinomial(folds, np.full(folds, 1 / folds), size=count)
        return np.asarray(drawn @ fold_values(parts, metric).mean(0) / folds)
    total = np.zeros(count)
    for fold, first in enumerate(parts[0]):
        codes = np.unique(first.subject, return_inverse=True)[1]
        n = int(codes.max()) + 1
        drawn = np.random.default_rng([seed, fold]).multinomial(n, np.full(n, 1 / n), size=count)
        for of_seed in parts:
            total += weighted_metric(of_seed[fold], metric, drawn[:, codes].astype(float))
    return total / (len(parts) * folds)


def _exchanged(a: Parts, b: Parts, metric: str, count: int, seed: int) -> NDArray[np.float64]:
    """Return the difference under random exchanges of the two models' predictions per subject."""
    n_folds, pairs = len(a[0]), max(len(a), len(b))
    total = np.zeros(count)
    for fold in range(n_folds):
        codes = np.unique(a[0][fold].subject, return_inverse=True)[1]
        flips = np.random.default_rng([seed, fold, 1]).integers(0, 2, (count, int(codes.max()) + 1))[:, codes]
        for i in range(pairs):
            one, two = a[i % len(a)][fold], b[i % len(b)][fold]
            total += _mixed(one, two, metric, flips) - _mixed(two, one, metric, flips)
    return total / (n_folds * pairs)


def _mixed(one: TestPart, two: TestPart, metric: str, flips: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the metric of `one` with the flipped subjects' predictions taken from `two`."""
    comparable = _ranked if metric in RANKED else _centred
    both = TestPart(
        np.concatenate([one.y, two.y]),
        np.concatenate([comparable(one), comparable(two)]),
        np.concatenate([one.subject, two.subject]),
        None if one.score.ndim == 1 or one.threshold is None or two.threshold is None else 0.5,
    )
    return weighted_metric(both, metric, np.concatenate([1 - flips, flips], axis=1).astype(float))


def _centred(part: TestPart) -> NDArray[np.floating]:
    """Return scores moved so that the threshold is 0.5; order, and so AUROC, is unchanged."""
    if part.score.ndim == 1 or part.threshold is None:
        return part.score
    return np.stack([part.score[:, 0], part.score[:, 1] - part.threshold + 0.5], axis=1)


def _ranked(part: TestPart) -> NDArray[np.floating]:
    """Return every class's scores as ranks, of which AUROC and AUPRC are: no model's scale counts."""
    return rankdata(part.score, axis=0)


def _percentiles(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
