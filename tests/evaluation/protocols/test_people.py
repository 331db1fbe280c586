"""Probes whose penalty and trust in each view are chosen by leaving people out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eegm2.cli.probe import trust_lines
from eegm2.errors import DataError
from eegm2.evaluation.protocols import people as module
from eegm2.evaluation.protocols.frozen import linear_probe
from eegm2.evaluation.protocols.people import C_GRID, fit_by_people
from eegm2.evaluation.windows.labelled import LabelledWindows, Split

N_PEOPLE, EACH = 8, 40


def made(
    seed: int = 0, n_classes: int = 2, n_people: int = N_PEOPLE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return 4 features that say the class, 60 of the person and of noise; classes; people."""
    rng = np.random.default_rng(seed)
    y = np.tile(np.arange(EACH) % n_classes, n_people)
    who = np.repeat(np.arange(n_people), EACH)
    told = 0.8 * np.eye(n_classes, 4)[y] + rng.standard_normal((len(y), 4))
    person = 2 * rng.standard_normal((n_people, 60))[who] + rng.standard_normal((len(y), 60))
    # in each person another few of these go with the class, which carries over to nobody
    person += rng.standard_normal((n_people, 60))[who] * (y - y.mean())[:, None]
    return np.concatenate([told, person], 1), y, who.astype(str)


VIEWS = {"few": np.arange(4), "many": np.arange(4, 64)}


@pytest.mark.parametrize("n_classes", [2, 3])
def test_one_view_is_the_usual_probe_with_the_best_c_times_a_slope(n_classes: int) -> None:
    x, y, who = made(n_classes=n_classes)
    fitted = fit_by_people(x, y, who)
    usual = make_pipeline(
        StandardScaler(), OneVsRestClassifier(LogisticRegression(C=fitted.facts["c"], max_iter=2000))
    ).fit(x, y)
    ((weight, bias),) = fitted.arrays.layers
    slope = fitted.facts["slope"]
    coef = np.concatenate([e.coef_ for e in usual[-1].estimators_])
    np.testing.assert_allclose(weight / slope, coef, atol=2e-3)
    assert np.linalg.norm(weight / slope) == pytest.approx(np.linalg.norm(coef), rel=3e-3)
    np.testing.assert_allclose(bias / slope, [e.intercept_[0] for e in usual[-1].estimators_], atol=2e-3)
    assert fitted.facts["c"] == min(C_GRID, key=lambda c: fitted.facts["c_left_out_loss"][f"{c:g}"])
    np.testing.assert_allclose(fitted(x).sum(1), 1)


def test_those_left_out_are_judged_by_what_has_not_seen_them() -> None:
    """Their scores do not change with their own labels, but with those of others; all are asked once."""
    x, y, who = made()
    task = module._Task.of(y, who, False)
    assert np.sort(np.concatenate([asked for _, asked in task.parts])).tolist() == list(range(len(y)))
    for learnt, asked in task.parts:
        assert not set(who[learnt]) & set(who[asked])
    learnt, asked = task.parts[0]
    same = np.ones(x.shape[1])

    def scores(labels: np.ndarray) -> np.ndarray:
        changed = module._Task(labels, module._one_against_rest(labels), task.parts, task.known, 8, False)
        return module._Chosen(x, changed, same).left_out

    turned, others = y.copy(), y.copy()
    turned[asked] = 1 - turned[asked]
    others[learnt[::3]] = 1 - others[learnt[::3]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "C_GRID", (1e-2,))
        np.testing.assert_allclose(scores(turned)[asked], scores(y)[asked], rtol=1e-9)
        assert np.abs(scores(turned)[learnt] - scores(y)[learnt]).max() > 0.1
        assert np.abs(scores(others)[asked] - scores(y)[asked]).max() > 0.1


def test_a_view_that_carries_over_is_trusted_and_helps_new_people() -> None:
    x, y, who = made()
    new, y_new, _ = made(seed=1)
    weighed, alike = fit_by_people(x, y, who, VIEWS), fit_by_people(x, y, who)
    shares = weighed.facts["shares"]
    assert shares["few"] > 0.8
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    found = [roc_auc_score(y_new, probe(new)[:, 1]) for probe in (weighed, alike)]
    assert found[0] > found[1] + 0.02, found


def test_a_view_within_another_counts_in_both() -> None:
    """Features of two views get the variance of both: what two copies of them would have together."""
    x, y, who = made()
    within = {"few": np.arange(4), "all": np.arange(64)}
    copied = np.concatenate([x[:, :4], x], 1)
    apart = {"few": np.arange(4), "all": np.arange(4, 68)}
    found = fit_by_people(x, y, who, within)(x)
    np.testing.assert_allclose(found, fit_by_people(copied, y, who, apart)(copied), atol=5e-3)
    assert np.abs(found - fit_by_people(x, y, who)(x)).max() > 0.05


def test_probabilities_are_what_people_left_out_deserve() -> None:
    """Where a probe is sure of nothing that carries over, it says so; the plain one is sure and wrong."""
    x, y, who = made(n_people=4)
    new, y_new, _ = made(seed=1)
    x, new = x[:, 4:], new[:, 4:]
    sure = LogisticRegression(C=10, max_iter=2000).fit(x, y).predict_proba(new)
    careful = fit_by_people(x, y, who)(new)
    losses = [-np.log(p[np.arange(len(y_new)), y_new]).mean() for p in (careful, sure)]
    assert losses[0] < 0.72 < losses[1]
    assert np.ptp(careful[:, 1]) > 0, "an order is left"


def test_values() -> None:
    x, _, who = made()
    value = 3 + x[:, 0] * 2 - x[:, 1] + 0.1 * np.random.default_rng(2).standard_normal(len(x))
    fitted = fit_by_people(x, value, who, VIEWS, regression=True)
    assert np.corrcoef(fitted(x), value)[0, 1] > 0.99
    assert abs(np.mean(fitted(x) - value)) < 0.05
    one = fit_by_people(x, value, who, regression=True)
    usual = make_pipeline(StandardScaler(), Ridge(alpha=1 / one.facts["c"])).fit(x, value)
    np.testing.assert_allclose(
        (one(x) - value.mean()) / one.facts["slope"], usual.predict(x) - value.mean(), atol=1e-6
    )


@pytest.mark.parametrize("who", [["a"] * 40, ["a"] * 20 + ["b"] * 20], ids=["one person", "a class each"])
def test_nobody_to_leave_out(who: list[str]) -> None:
    """One person, or classes that one person each has: alike weights, one penalty, and the facts say it."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 20)
    x = rng.standard_normal((40, 64)) + y[:, None]
    fitted = fit_by_people(x, y, np.array(who), VIEWS)
    assert fitted.facts["n_left_out"] == 0
    assert fitted.facts["shares"] == {"few": 0.5, "many": 0.5}
    assert roc_auc_score(y, fitted(x)[:, 1]) == 1


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="one class only"):
        fit_by_people(np.ones((4, 2)), np.zeros(4, int), np.array(["a", "b", "a", "b"]))


def test_of_many_rows_a_choice_learns_from_some_and_asks_all(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, who = made()
    monkeypatch.setattr(module, "MOST", 100)
    task = module._Task.of(y, who, False)
    assert all(len(learnt) <= 100 for learnt, _ in task.parts)
    assert task.known.all()
    whole = fit_by_people(x, y, who)
    monkeypatch.undo()
    np.testing.assert_allclose(whole.arrays.mean, fit_by_people(x, y, who).arrays.mean)


def test_as_a_probe_it_learns_from_validation_people_too_and_never_looks_at_the_test() -> None:
    x, y, who = made()
    x[:, 7] = 5.0  # says nothing, and is left out of views and head
    empty = np.zeros((len(y), 1, 1))
    data = LabelledWindows.from_arrays(empty, y, who)
    parts = [np.flatnonzero(np.isin(who, names)) for names in (list("01234"), ["5"], list("67"))]
    split = Split(*parts)
    outcome = linear_probe(x, data, split, c="people", views=VIEWS)
    learnt = np.concatenate(parts[:2])
    fitted = fit_by_people(x[learnt], y[learnt], who[learnt], VIEWS)
    np.testing.assert_allclose(outcome.score, fitted(x[parts[2]]), atol=2e-3)
    np.testing.assert_allclose(outcome.val_score, fitted.left_out[-EACH:], atol=2e-3)
    assert outcome.learnt.layers[0][0].shape == (1, 64)
    assert outcome.learnt.layers[0][0][0, 7] == 0
    spoilt, other = x.copy(), y.copy()
    spoilt[parts[2]] *= -3
    other[parts[2]] = 1 - other[parts[2]]
    changed = LabelledWindows.from_arrays(empty, other, who)
    again = linear_probe(spoilt, changed, split, c="people", views=VIEWS)
    np.testing.assert_array_equal(again.learnt.layers[0][0], outcome.learnt.layers[0][0])
    assert again.threshold == outcome.threshold
    # of one person alone, recordings are left out in turn
    single = LabelledWindows.from_arrays(empty, y, np.full(len(y), "me"), who)
    assert linear_probe(x, single, split, c="people").facts["n_people"] == 6


def test_the_command_says_whom_it_trusts() -> None:
    x, y, who = made()
    facts = fit_by_people(x, y, who, VIEWS).facts
    plain = {"protocol": "light", "c": 1.0}
    (line,) = trust_lines({"protocols": [{"protocol": "linear", **facts}, plain]})
    shares = facts["shares"]
    assert line.split("(")[0].split() == [
        "trust",
        "few",
        f"{shares['few']:.2f},",
        "many",
        f"{shares['many']:.2f}",
    ]
    assert f"8 people left out in turn, as was C = {facts['c']:g}" in line


@pytest.mark.parametrize("shares", [None, {"a": 0.7, "b": 0.2, "c": 0.1}])
@pytest.mark.parametrize(
    "views",
    [
        {"a": np.arange(2), "b": np.arange(2, 9), "c": np.arange(9, 10)},
        {"a": np.arange(2), "b": np.arange(10), "c": np.arange(5, 10)},
    ],
    ids=["apart", "overlapping"],
)
def test_views_get_their_shares_of_all_the_variance(
    views: dict[str, np.ndarray], shares: dict[str, float] | None
) -> None:
    """And the sum is the number of features, so that C means the same whatever the views."""
    found = module.variances(views, 10, shares)
    given = shares or dict.fromkeys(views, 1 / 3)
    expected = [sum(given[v] * 10 / len(c) for v, c in views.items() if i in c) for i in range(10)]
    np.testing.assert_allclose(found, expected)
    assert found.sum() == pytest.approx(10)
    np.testing.assert_array_equal(module.variances({"a": np.arange(2)}, 10, shares), np.ones(10))
    with pytest.raises(ValueError, match="views: 10 features of 11 are in one"):
        module.variances(views, 11)


def test_views_are_those_of_the_features_that_are_left() -> None:
    used = np.array([True, False, True, True, False])
    found = module.among({"a": np.array([0, 1]), "b": np.array([3, 2]), "c": np.array([1, 4])}, used)
    assert {name: columns.tolist() for name, columns in found.items()} == {"a": [0], "b": [2, 1]}


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("n_people", [2, 3, 7])
def test_everybody_is_left_out_once_and_never_learnt_from_meanwhile(n_people: int, regression: bool) -> None:
    rng = np.random.default_rng(n_people)
    who = rng.permutation(np.repeat(np.arange(n_people), 10)).astype(str)
    y = rng.standard_normal(len(who)) if regression else np.arange(len(who)) % 3
    parts = list(module._parts(y, who, regression))
    assert len(parts) == min(5, n_people)
    for learnt, asked in parts:
        assert not set(who[learnt]) & set(who[asked])
        assert sorted([*learnt, *asked]) == list(range(len(who)))
    assert sorted(np.concatenate([asked for _, asked in parts])) == list(range(len(who)))
    again = list(module._parts(y, who, regression))
    assert all(np.array_equal(a, b) for pair in zip(parts, again, strict=True) for a, b in zip(*pair))


def test_parts_in_which_a_class_cannot_be_learnt_are_left_out() -> None:
    """A class of one person cannot be told of this person; everybody else is asked."""
    who = np.repeat(list("abcdef"), 6)
    y = np.where((who == "a") & (np.arange(36) % 2 == 0), 2, np.arange(36) % 2)
    task = module._Task.of(y, who, False)
    assert not task.known[who == "a"].any()
    assert task.known.sum() >= 24
    assert all(set(y[learnt]) == {0, 1, 2} for learnt, _ in task.parts)
    assert task.n_people == 6


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("n_views", [1, 3])
def test_weights_are_the_best_that_are_not_negative(n_views: int, regression: bool) -> None:
    """Against a search that knows the loss alone; a view that misleads gets nothing."""
    rng = np.random.default_rng(n_views)
    who = np.repeat(np.arange(4), 30).astype(str)
    y = rng.standard_normal(120) if regression else np.arange(120) % 3
    task = module._Task.of(y, who, regression)
    signal = task.targets if regression else 2 * task.targets - 1
    quality = np.array([0.9, 0.3, -0.8])[:n_views]
    scores = signal[..., None] * quality + 0.7 * rng.standard_normal((*signal.shape, n_views))
    found = module._weights(scores, task)

    def loss(w: np.ndarray) -> float:
        made = scores @ w
        if regression:
            fit = np.mean((made - signal) ** 2) / np.mean(signal**2)
        else:
            fit = np.mean(np.log1p(np.exp(-signal * made)))
        return float(fit + 0.1 / 2 * np.sum((w - w.mean()) ** 2))

    searched = minimize(
        lambda v: loss(v**2),
        np.full(n_views, 0.7),
        method="Nelder-Mead",
        options={"xatol": 1e-6, "fatol": 1e-12},
    )
    np.testing.assert_allclose(found, searched.x**2, atol=2e-3)
    assert found[0] > 0.3
    if n_views == 3:
        assert found[2] == pytest.approx(0, abs=1e-6)
    nothing = module._weights(-scores[..., :1], task)
    np.testing.assert_array_equal(nothing, [module.LEAST])


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_more_features_than_rows_are_fitted_as_in_full(n_classes: int, regression: bool) -> None:
    """Also where some say the same twice, with every C of the grid, begun where the last one ended."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((24, 15)) * rng.uniform(1, 9, 15) + 4
    x = np.concatenate([x, x, rng.standard_normal((24, 5))], 1)
    y = rng.standard_normal(24) if regression else np.arange(24) % n_classes
    targets = y[:, None] - y.mean() if regression else module._one_against_rest(y)
    assert targets.shape[1] == (1 if regression or n_classes == 2 else 3)
    scale = rng.uniform(0.5, 2, x.shape[1])
    for c, probe in module._path(x, targets, scale, regression, C_GRID):
        scaled = StandardScaler().fit_transform(x) * scale
        expected = np.zeros(targets.shape)
        for i, target in enumerate(targets.T):
            usual = Ridge(alpha=1 / c) if regression else LogisticRegression(C=c, max_iter=5000, tol=1e-8)
            usual.fit(scaled, target)
            expected[:, i] = usual.predict(scaled) if regression else usual.decision_function(scaled)
        assert probe.converged
        np.testing.assert_allclose(probe.scores(x), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_become_probabilities_one_against_the_rest(n_classes: int) -> None:
    y = np.arange(6) % n_classes
    targets = module._one_against_rest(y)
    if n_classes == 2:
        assert targets.tolist() == [[0], [1]] * 3
    else:
        assert targets.tolist() == np.eye(3).tolist() * 2
    scores = np.random.default_rng(0).standard_normal(targets.shape)
    odds = 1 / (1 + np.exp(-scores))
    p = np.concatenate([1 - odds, odds], 1) if n_classes == 2 else odds / odds.sum(1, keepdims=True)
    np.testing.assert_allclose(module._answers(scores, False), p)
    np.testing.assert_array_equal(module._answers(scores, True), scores[:, 0])


def test_values_of_any_kind_of_number_are_fitted_in_double_precision() -> None:
    x, _, who = made()
    value = (1e6 + x[:, 0]).astype(np.float32)
    exact = fit_by_people(x, value.astype(float), who, regression=True)
    np.testing.assert_array_equal(fit_by_people(x, value, who, regression=True)(x), exact(x))
