"""Laws of learners: estimators, baselines and probes by people take what they were told, of whom they may."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eegm2.contracts import some_people
from eegm2.data.config import WindowConfig
from eegm2.data.store.recording_store import RecordingStore, StoreWriter
from eegm2.deploy.device.decisions import dense_scores
from eegm2.evaluation.baselines import networks
from eegm2.evaluation.estimators.base import Learner
from eegm2.evaluation.protocols import people
from eegm2.evaluation.protocols.kept import HeadArrays
from eegm2.evaluation.protocols.people import C_GRID, _parts, fit_by_people, variances
from eegm2.evaluation.windows.from_store import labelled_windows
from eegm2.model.statistics import log_covariance, time_statistics
from tests.data.samples import write_store

RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((40, 4)) * [1, 5, 1, 1] + np.repeat(np.arange(8.0), 5)[:, None]
GROUPS = np.repeat(np.arange(8), 5)
CLASSES = np.arange(40) % 2


class Given(Learner):
    """Learns from given features, and without a network."""

    def _features(self, windows: np.ndarray) -> np.ndarray:
        return FEATURES

    def _network(self, n_chans: int, seed: int) -> Any:
        return SimpleNamespace(config=SimpleNamespace())


@pytest.mark.parametrize("values", [False, True])
def test_an_estimator_stops_by_other_groups_than_it_learns_from(values: bool) -> None:
    learner = Given(validation=0.3)
    for seed in range(20):
        y = np.arange(40.0) if values else CLASSES
        train, val = learner._validation_part(y, 0 if values else 2, GROUPS, seed)
        assert not set(GROUPS[train]) & set(GROUPS[val])
        assert len(set(GROUPS[val])) in (2, 3)
    train, val = learner._validation_part(CLASSES, 2, None, 0)
    assert Counter(CLASSES[val].tolist()) == {0: 6, 1: 6}, "without groups the classes are kept"


def test_an_estimator_standardises_on_what_it_learns_from() -> None:
    learner = Given(protocol="light", max_epochs=1, validation=0.3)
    learner._learn(np.zeros((40, 2, 8), np.float32), CLASSES, 2, GROUPS)
    train, _ = learner._validation_part(CLASSES, 2, GROUPS, 0)
    np.testing.assert_allclose(learner.centre_, FEATURES[train].mean(0))
    np.testing.assert_allclose(learner.spread_, FEATURES[train].std(0))


@pytest.mark.parametrize("c", [0.01, 3.0])
@pytest.mark.parametrize("values", [False, True])
def test_the_penalty_of_an_estimator_is_the_one_asked_for(c: float, values: bool) -> None:
    learner = Given(protocol="linear", C=c)
    learner._learn(
        np.zeros((40, 2, 8), np.float32), FEATURES[:, 1] if values else CLASSES, 0 if values else 2, None
    )
    last = learner.model_[-1]
    assert (last.alpha if values else 1 / last.estimator.C) == pytest.approx(1 / c)


def test_fresh_weights_of_a_baseline_follow_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []

    def build(models: Any, name: str, n_chans: int, n_times: int, n_outputs: int, sfreq_hz: float) -> Any:
        drawn.append(float(torch.rand(1)))
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(n_chans * n_times, n_outputs))

    monkeypatch.setattr(networks, "braindecode_models", lambda: None)
    monkeypatch.setattr(networks, "build_network", build)
    data, split = some_people()
    run = networks.network_runner("eegnet", 128.0, networks.NetworkOptions(max_epochs=1))
    outcomes = [run(data, split, seed) for seed in (0, 1, 1)]
    assert drawn[1] == drawn[2] != drawn[0]
    np.testing.assert_array_equal(outcomes[1].score, outcomes[2].score)
    assert not np.array_equal(outcomes[0].score, outcomes[1].score)


@pytest.mark.parametrize("estimator", ["lwf", "oas", "scm"])
def test_a_covariance_is_the_one_asked_for(estimator: str) -> None:
    covariance = pytest.importorskip("pyriemann.estimation").Covariances
    from eegm2.evaluation.baselines.riemann import window_covariances

    x = np.random.default_rng(0).standard_normal((3, 4, 30))
    x -= x.mean(-1, keepdims=True)
    found = window_covariances(x, [], estimator, "riemann")[:, 0]
    np.testing.assert_allclose(found, covariance(estimator).transform(x), rtol=1e-4, atol=1e-5)


def test_the_last_fit_hears_each_view_by_its_share() -> None:
    """Shares that are told are those that the probe was fitted with."""
    rng = np.random.default_rng(3)
    y, who = np.tile([0, 1], 60), np.repeat(np.arange(6), 20).astype(str)
    features = rng.standard_normal((120, 8))
    features[:, :2] += y[:, None]
    views = {"told": np.arange(2), "noise": np.arange(2, 8)}
    made = fit_by_people(features, y, who, views)
    shares = made.facts["shares"]
    assert shares["told"] > 0.7
    scale = np.sqrt(variances(views, 8, shares))
    usual = LogisticRegression(C=made.facts["c"], max_iter=2000)
    usual.fit(StandardScaler().fit_transform(features) * scale, y)
    ((weight, _),) = made.arrays.layers
    np.testing.assert_allclose(weight / made.facts["slope"], usual.coef_ * scale, rtol=0.02, atol=2e-3)


def test_a_number_is_the_one_that_its_recording_has(tmp_path: Path) -> None:
    """Ages of one, two and three digits: their order as words is not their order as numbers."""
    source = write_store(tmp_path / "a", 1)
    writer = StoreWriter(tmp_path / "b", source.preprocessing, source.ch_names)
    ages = {"r0": "9", "r1": "100", "r2": "20.5", "r3": "-3"}
    for name, age in ages.items():
        info = replace(source["r0"], id=name, subject=name, attributes={"age": age})
        writer.write(info, source.read("r0"))
    config = WindowConfig(window_s=2.0, target="age")
    data = labelled_windows(RecordingStore(tmp_path / "b"), config, regression=True)
    assert data.classes == ()
    np.testing.assert_array_equal(data.y, [float(ages[name]) for name in data.recording])


@pytest.mark.parametrize("statistics", [time_statistics, log_covariance])
def test_features_are_the_same_where_the_network_learns(statistics: Any) -> None:
    """A frozen network's and a tuned one's: the ways of computing differ, the numbers do not."""
    x = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(0))
    plain = statistics(x)
    tuned = statistics(x.clone().requires_grad_())
    torch.testing.assert_close(tuned.detach(), plain)
    if statistics is time_statistics:
        np.testing.assert_allclose(plain[:, 12:16], x.numpy().std(-1), rtol=1e-5)


def test_the_scale_that_people_left_out_give_is_of_the_whole_score() -> None:
    """Of classes of unlike frequency the threshold moves with the slope."""
    rng = np.random.default_rng(5)
    who = np.repeat(np.arange(6), 30).astype(str)
    y = (rng.random(180) < 0.15).astype(int)
    features = rng.standard_normal((180, 6)) + 0.8 * y[:, None]
    made = fit_by_people(features, y, who)
    slope = made.facts["slope"]
    usual = LogisticRegression(C=made.facts["c"], max_iter=2000)
    usual.fit(StandardScaler().fit_transform(features), y)
    ((weight, bias),) = made.arrays.layers
    assert abs(slope - 1) > 0.02
    assert abs(usual.intercept_[0]) > 0.5
    np.testing.assert_allclose(bias, slope * usual.intercept_, rtol=5e-3)
    np.testing.assert_allclose(weight, slope * usual.coef_, rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("target", [None, (40.0, 9.0)])
def test_a_perceptron_that_is_kept_gives_what_it_gave_in_the_unit_of_its_target(target: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1)).double()
    mean, scale, x = RNG.standard_normal(3), RNG.uniform(1, 2, 3), RNG.standard_normal((5, 3))
    kept = HeadArrays.of_network(mean, scale, network, target)
    with torch.no_grad():
        plain = network(torch.from_numpy((x - mean) / scale)).numpy()
    middle, spread = target or (0.0, 1.0)
    found = dense_scores(x, kept.mean, kept.scale, list(kept.layers))
    np.testing.assert_allclose(found, plain * spread + middle)
    assert kept.link == ("value" if target else "softmax")


@pytest.mark.parametrize("n_classes", [0, 2, 3])
@pytest.mark.parametrize("several", [False, True])
def test_a_pipeline_that_is_kept_answers_by_its_own_link(n_classes: int, several: bool) -> None:
    """Ridge, logistic regression of all classes at once, or of one class after the other against the rest."""
    y = np.arange(40) % n_classes if n_classes else FEATURES[:, 1]
    last: Any = LogisticRegression(C=0.5) if n_classes else Ridge(2.0)
    pipeline = make_pipeline(StandardScaler(), OneVsRestClassifier(last) if several and n_classes else last)
    pipeline.fit(FEATURES, y)
    kept = HeadArrays.of_pipeline(pipeline)
    found = dense_scores(FEATURES, kept.mean, kept.scale, list(kept.layers))
    if not n_classes:
        np.testing.assert_allclose(found[:, 0], pipeline.predict(FEATURES))
        assert kept.link == "value"
    elif kept.link == "softmax":
        odds = np.exp(found)
        assert n_classes == 3
        assert not several
        np.testing.assert_allclose(odds / odds.sum(1, keepdims=True), pipeline.predict_proba(FEATURES))
    else:
        assert kept.link == "one-vs-rest"
        p = 1 / (1 + np.exp(-found))
        p = np.concatenate([1 - p, p], 1) if n_classes == 2 else p / p.sum(1, keepdims=True)
        assert several or n_classes == 2
        np.testing.assert_allclose(p, pipeline.predict_proba(FEATURES))


@pytest.mark.parametrize("kind", ["2", "3", "value"])
def test_a_penalty_is_chosen_by_how_people_left_out_are_told(kind: str) -> None:
    """By the log loss of classes that count alike, however rare; of values by the squared error."""
    rng = np.random.default_rng(8)
    who = np.repeat(np.arange(7), 24).astype(str)
    n_classes = {"2": 2, "3": 3}.get(kind, 0)
    y = (
        rng.choice(3, len(who), p=[0.7, 0.2, 0.1])
        if kind == "3"
        else (rng.random(len(who)) < 0.15).astype(int)
    )
    x = rng.standard_normal((len(who), 12)) + np.eye(3, 12)[y]
    target = y if n_classes else 20.0 + 3 * x[:, 0] + rng.standard_normal(len(who))
    made = fit_by_people(x, target, who, regression=not n_classes)
    parts = list(_parts(target, who, not n_classes))
    assert sorted(np.concatenate([asked for _, asked in parts])) == list(range(len(who)))
    for c in C_GRID:
        answers = np.zeros((len(who), n_classes or 1))
        for learnt, asked in parts:
            assert not set(who[learnt]) & set(who[asked])
            last: Any = (
                OneVsRestClassifier(LogisticRegression(C=c, max_iter=2000)) if n_classes else Ridge(1 / c)
            )
            probe = make_pipeline(StandardScaler(), last).fit(x[learnt], target[learnt])
            answers[asked] = probe.predict_proba(x[asked]) if n_classes else probe.predict(x[asked])[:, None]
        if n_classes:
            losses = -np.log(answers[np.arange(len(who)), y])
            expected = np.mean([losses[y == i].mean() for i in range(n_classes)])
        else:
            expected = np.mean((answers[:, 0] - target) ** 2)
        assert made.facts["c_left_out_loss"][f"{c:g}"] == pytest.approx(
            expected, rel=2e-2 if n_classes else 1e-6
        )


def test_who_alone_has_a_class_is_learnt_from_and_never_asked() -> None:
    """Nobody else could have taught it: slope, weights of views and losses are those of the others."""
    rng = np.random.default_rng(2)
    who = np.repeat(np.arange(5), 24).astype(str)
    y = np.where(who == "3", 2, rng.integers(0, 2, len(who)))
    x = rng.standard_normal((len(who), 6)) + np.eye(3, 6)[y]
    views = {"told": np.arange(3), "noise": np.arange(3, 6)}
    for of in (None, views):
        made = fit_by_people(x, y, who, of)
        others = who != "3"
        assert (made.facts["n_people"], made.facts["n_left_out"]) == (5, others.sum())
        np.testing.assert_allclose(made.left_out[~others], made(x[~others]), atol=1e-6)
        assert np.abs(made.left_out[others] - made(x[others])).max() > 1e-3
        assert made(x).shape == made.left_out.shape == (120, 3)


def test_people_whose_probe_did_not_converge_are_told_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    short = lambda max_iter, **how: LogisticRegression(max_iter=1, **how)  # noqa: E731
    assert fit_by_people(FEATURES, CLASSES, GROUPS).facts["converged"] is True
    monkeypatch.setattr(people, "LogisticRegression", short)
    for filtered in ("ignore", "default", "default"):
        with warnings.catch_warnings():
            warnings.simplefilter(filtered)  # type: ignore[arg-type]
            assert fit_by_people(FEATURES, CLASSES, GROUPS).facts["converged"] is False
