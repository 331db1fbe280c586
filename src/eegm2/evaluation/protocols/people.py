"""A linear probe whose penalty, and trust in each kind of feature, are chosen by leaving people out.

References
----------
Wolpert (1992), "Stacked generalization", Neural Networks 5; Breiman (1996), "Stacked regressions", Machine
Learning 24: weights that are not negative, found on predictions of what each model has not seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from eegm2.errors import DataError
from eegm2.evaluation.protocols.kept import HeadArrays
from eegm2.evaluation.scores.outcome import balanced_loss

#: Inverse penalties that are tried.
C_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
#: Parts that people are left out in.
FOLDS = 5
#: Pull of the views' weights towards each other, which many people loosen by the root of their number.
PULL = 0.1
#: Most rows that a choice learns from; the fit itself takes all.
MOST = 20_000
#: Rows below which it pays to look for the directions that rows have where there are more features.
TURNED = 500
#: C where nobody can be left out, and the least weight that counts as something.
C_NOBODY, LEAST = 1e-2, 1e-2

Views = Mapping[str, NDArray[np.intp]]


@dataclass(frozen=True)
class PeopleFit:
    """A fitted probe.

    Attributes
    ----------
    arrays : HeadArrays
        Standardisation and one linear layer of all features; of a value, the layer gives it.
    regression : bool
        Of a value, not of classes.
    left_out : array, shape (n, n_classes) or (n,)
        Probabilities (values) of every row that was learnt from, by a probe that has not seen its person.
    facts : dict
        C, shares of the views, scale of the scores, people, losses of every C, convergence.
    """

    arrays: HeadArrays
    regression: bool
    left_out: NDArray[np.float64]
    facts: dict[str, Any]

    def __call__(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return probabilities (n, n_classes), or values (n,)."""
        ((weight, bias),) = self.arrays.layers
        return _answers(
            ((features - self.arrays.mean) / self.arrays.scale) @ weight.T + bias, self.regression
        )

    predict = predict_proba = __call__  # as scikit-learn names them


def fit_by_people(
    features: NDArray[np.floating],
    y: NDArray,
    people: NDArray,
    views: Views | None = None,
    *,
    regression: bool = False,
) -> PeopleFit:
    """Fit one-vs-rest logistic regression (ridge for a value) on rows of several people.

    C has the lowest loss on people left out in turn (classes weighted equally). Where there are several views
    (named sets of features, which may overlap), each first gets a probe of its own in that way, and scores of
    those left out say how far to trust it: weights that are not negative and minimise the loss (log loss per
    class, or squared error), pulled towards each other where people are few. What a view adds to the weighted
    sum is then its share of the variance that one probe of all features sees. Last, the probe's scores of
    people left out set its scale, so that probabilities are those that people left out deserve.

    Parameters
    ----------
    features : array, shape (n, n_features)
    y : array, shape (n,)
        Class numbers from 0, each of them there; or values.
    people : array, shape (n,)
        Who (or which recording, or stretch of one) a row is from.
    views : mapping of str to array of int, optional
        As `eegm2.model.features.feature_views` gives them, each feature in one at least; by default one of
        all features.
    regression : bool
        `y` holds values.

    Raises
    ------
    DataError
        If there is one class only.
    """
    y = np.asarray(y, dtype=float) if regression else np.asarray(y)
    if not regression and len(np.unique(y)) < 2:
        raise DataError("linear probe: got windows of one class only, expected two or more")
    task = _Task.of(y, people, regression)
    views = views or {}
    shares = _shares(features, task, views)
    probe = _Chosen(features, task, np.sqrt(variances(views, features.shape[1], shares)))
    slope = float(_weights(probe.left_out[task.known][..., None], task)[0])
    linear = probe.probe
    offset = y.mean() if regression else 0.0
    scaler = StandardScaler().fit(features)
    layer = (slope * linear.coef, slope * linear.intercept + offset)
    arrays = HeadArrays(scaler.mean_, scaler.scale_, (layer,), "value" if regression else "one-vs-rest")
    facts: dict[str, Any] = {
        "c": probe.c,
        "shares": {name: round(float(share), 4) for name, share in shares.items()},
        "slope": slope,
        "n_people": task.n_people,
        "n_left_out": int(task.known.sum()),
        "c_left_out_loss": {f"{c:g}": loss for c, loss in probe.losses.items()},
        "converged": linear.converged,
    }
    return PeopleFit(arrays, regression, _answers(slope * probe.left_out + offset, regression), facts)


def variances(
    views: Views, n_features: int, shares: Mapping[str, float] | None = None
) -> NDArray[np.float64]:
    """Return the variance that each standardised feature is to have, so that views get their shares of all.

    An L2 penalty on standardised features trusts what it is given by number: 64 numbers of a trained state
    beside 816 of a tangent vector are hardly heard. Views of the same variance, as in multiple factor
    analysis, are heard alike. A feature of two views counts in both; the sum, and so the meaning of C, stays.

    Parameters
    ----------
    views : mapping of str to array of int
        Sets of features; none or one: all features weigh alike.
    n_features : int
    shares : mapping of str to float, optional
        Of each view, adding up to 1; alike by default.

    Raises
    ------
    ValueError
        If the views do not make up the features.
    """
    if len(views) < 2:
        return np.ones(n_features)
    every = np.unique(np.concatenate(list(views.values())))
    if not np.array_equal(every, np.arange(n_features)):
        raise ValueError(f"views: {len(every)} features of {n_features} are in one")
    made = np.zeros(n_features)
    for name, columns in views.items():
        made[columns] += (shares[name] if shares else 1 / len(views)) * n_features / len(columns)
    return made


def among(views: Views, used: NDArray[np.bool_]) -> dict[str, NDArray[np.intp]]:
    """Return the views of the features that are `used`, which alone are there; a view of none is gone."""
    place = np.cumsum(used) - 1
    left = {name: place[columns[used[columns]]] for name, columns in views.items()}
    return {name: columns for name, columns in left.items() if len(columns)}


@dataclass(frozen=True)
class _Task:
    """Targets (n, n_outputs); rows (learnt, asked) of people left out in turn; which rows are ever asked."""

    y: NDArray
    targets: NDArray[np.float64]
    parts: list[tuple[NDArray[np.intp], NDArray[np.intp]]]
    known: NDArray[np.bool_]
    n_people: int
    regression: bool

    @classmethod
    def of(cls, y: NDArray, people: NDArray, regression: bool) -> _Task:
        parts = list(_parts(y, people, regression))
        known = np.zeros(len(y), bool)
        for _, asked in parts:
            known[asked] = True
        targets = y[:, None] - y.mean() if regression else _one_against_rest(y)
        return cls(y, targets, parts, known, len(np.unique(people)), regression)

    def loss(self, scores: NDArray[np.float64]) -> float:
        """Return the loss of scores (n, n_outputs) on those left out."""
        offset = self.y.mean() if self.regression else 0.0
        return balanced_loss(self.y[self.known], _answers(scores[self.known] + offset, self.regression))


class _Chosen:
    """A probe of scaled features: C chosen on people left out, the scores of these, and the fit on all."""

    def __init__(self, features: NDArray[np.floating], task: _Task, scale: NDArray[np.float64]) -> None:
        scores = {c: np.zeros(task.targets.shape) for c in C_GRID}
        for learnt, asked in task.parts:
            for c, probe in _path(features[learnt], task.targets[learnt], scale, task.regression, C_GRID):
                scores[c][asked] = probe.scores(features[asked])
        self.losses = {c: task.loss(scores[c]) for c in C_GRID} if task.parts else {}
        self.c = min(C_GRID, key=lambda c: (self.losses[c], c)) if task.parts else C_NOBODY
        ((_, self.probe),) = _path(features, task.targets, scale, task.regression, (self.c,))
        self.left_out = np.where(task.known[:, None], scores[self.c], self.probe.scores(features))


def _shares(features: NDArray[np.floating], task: _Task, views: Views) -> dict[str, float]:
    """Return what share of the variance each view deserves, adding up to 1; nothing where there is one."""
    if len(views) < 2:
        return {}
    scores = np.stack(
        [_Chosen(features[:, c], task, np.ones(len(c))).left_out[task.known] for c in views.values()], -1
    )
    if not len(scores):
        return dict.fromkeys(views, 1 / len(views))
    added = _weights(scores, task) * scores.std(0).mean(0)
    return dict(zip(views, added / added.sum(), strict=True))


@dataclass(frozen=True)
class _Linear:
    """One-vs-rest scores ``(f - mean) / scale @ coef.T + intercept``."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    converged: bool

    def scores(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        return ((features - self.mean) / self.scale) @ self.coef.T + self.intercept


def _path(
    features: NDArray[np.floating],
    targets: NDArray[np.float64],
    scale: NDArray[np.float64],
    regression: bool,
    grid: tuple[float, ...],
) -> Iterator[tuple[float, _Linear]]:
    """Fit with every C of the grid in turn, each beginning where the last one ended."""
    scaler = StandardScaler().fit(features)
    inputs, turn = scaler.transform(features) * scale, None
    if len(inputs) < min(inputs.shape[1], TURNED):  # the same fit, along the directions that rows have
        left, values, right = np.linalg.svd(inputs, full_matrices=False)
        kept = values > 1e-10 * values[0]
        inputs, turn = left[:, kept] * values[kept], right[kept]
    models = [
        Ridge() if regression else LogisticRegression(max_iter=2000, warm_start=True)
        for _ in range(targets.shape[1])
    ]
    for c in grid:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            for model, target in zip(models, targets.T, strict=True):
                model.set_params(**({"alpha": 1 / c} if regression else {"C": c}))
                model.fit(inputs, target)
        coef = np.concatenate([np.atleast_2d(model.coef_) for model in models])
        intercept = np.concatenate([np.atleast_1d(model.intercept_) for model in models])
        converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
        turned = coef if turn is None else coef @ turn
        yield c, _Linear(scaler.mean_, scaler.scale_, turned * scale, intercept, converged)


def _parts(
    y: NDArray, people: NDArray, regression: bool
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return (learnt, asked) of people left out in turn, where those learnt from have every class.

    Of very many rows some, drawn by a fixed seed, are learnt from; all are asked.
    """
    n, draw = len(np.unique(people)), np.random.default_rng(0)
    if n < 2:
        return
    splitter: Any = (
        GroupKFold(min(FOLDS, n), shuffle=True, random_state=0)
        if regression
        else StratifiedGroupKFold(min(FOLDS, n), shuffle=True, random_state=0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a class has fewer people than there are folds
        for learnt, asked in splitter.split(y, y, people):
            learnt = np.sort(draw.permutation(learnt)[:MOST])
            whole = regression or len(np.unique(y[learnt])) == len(np.unique(y))
            if len(learnt) and len(asked) and whole:
                yield learnt, asked


def _weights(scores: NDArray[np.float64], task: _Task) -> NDArray[np.float64]:
    """Return the weights of scores (n, n_outputs, n_views) of people left out that minimise their loss."""
    n_views = scores.shape[-1]
    alike = np.full(n_views, 1 / n_views)
    if not len(scores):
        return alike
    targets, pull = task.targets[task.known], PULL / np.sqrt(task.n_people)
    unit = np.square(targets).mean()

    def loss(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        made, away = scores @ w, w - w.mean()
        if task.regression:
            value, slope = np.square(made - targets).mean() / unit, 2 * (made - targets) / unit
        else:
            sign = 2 * targets - 1
            value, slope = np.logaddexp(0, -sign * made).mean(), -sign * expit(-sign * made)
        gradient = np.einsum("no,nov->v", slope, scores) / made.size
        return value + pull * np.square(away).sum(), gradient + 2 * pull * away

    bounds = [(0, None)] * n_views
    found: NDArray[np.float64] = minimize(loss, alike, jac=True, method="L-BFGS-B", bounds=bounds).x
    # Where nothing carries over to people left out there is nothing to weigh by.
    return found if found.max() > LEAST else LEAST * alike


def _one_against_rest(y: NDArray) -> NDArray[np.float64]:
    """Return 0 or 1 for every class, (n, n_classes); one column where there are two."""
    every = (y[:, None] == np.arange(int(y.max()) + 1)).astype(float)
    return every[:, 1:] if every.shape[1] == 2 else every


def _answers(scores: NDArray[np.float64], regression: bool) -> NDArray[np.float64]:
    """Return probabilities (n, n_classes) of one-vs-rest scores, or values (n,)."""
    if regression:
        return scores[:, 0]
    p = expit(scores)
    if p.shape[1] == 1:
        return np.concatenate([1 - p, p], axis=1)
    return p / p.sum(axis=1, keepdims=True)
