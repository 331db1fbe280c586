"""Laws of scores: from which part a choice is made, over what a mean or a spread is, and who is counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from eegm2.contracts import some_people
from eegm2.evaluation.config import FitConfig
from eegm2.evaluation.features.centring import WARM_UP_WINDOWS, centre_features
from eegm2.evaluation.protocols.fitting import Task, fit
from eegm2.evaluation.protocols.frozen import light_probe, linear_probe, people_of, usable_features
from eegm2.evaluation.protocols.modes import run_protocol
from eegm2.evaluation.protocols.people import fit_by_people
from eegm2.evaluation.scores.crossval import CrossValidated, cross_validate
from eegm2.evaluation.scores.metrics import (
    best_threshold,
    classification_metrics,
    predict_labels,
    regression_metrics,
)
from eegm2.evaluation.scores.outcome import Outcome, evaluate, summarise
from eegm2.evaluation.scores.resampling import compare, interval
from eegm2.evaluation.scores.weighted_metrics import TestPart, fold_values, weighted_metric
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from tests.evaluation.helpers import tiny_model

SHORT = FitConfig(max_epochs=2, batch_size=16, patience=5, lr=3e-3)
Way = Callable[[np.ndarray, LabelledWindows, Split], Outcome]
WAYS: dict[str, Way] = {
    "linear": lambda f, data, split: linear_probe(f, data, split, c="validation"),
    "people": lambda f, data, split: linear_probe(f, data, split, c="people"),
    "light": lambda f, data, split: light_probe(f, data, split, config=SHORT),
    "fine": lambda f, data, split: run_protocol("fine", data, split, model=tiny_model(), config=SHORT),
}


def people(regression: bool = False) -> tuple[np.ndarray, LabelledWindows, Split]:
    """Return features that say something, windows of people with classes of unlike frequency, and a split."""
    data, split = some_people()
    rng = np.random.default_rng(4)
    y = (rng.random(len(data)) < 0.35).astype(np.int64)
    features = rng.standard_normal((len(data), 5)) + y[:, None]
    if regression:
        return features, dataclasses.replace(data, y=40.0 + 9 * (y + rng.random(len(y))), classes=()), split
    return features, dataclasses.replace(data, y=y), split


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_targets_of_the_test_part_change_nothing_but_the_figures(way: str, regression: bool) -> None:
    """Weights of classes, the scale of values, thresholds, penalties and epochs: none has looked at them."""
    features, data, split = people(regression)
    other = data.y.copy()
    other[split.test] = other[split.test] * 3 + 500 if regression else 1
    one, two = (WAYS[way](features, d, split) for d in (data, dataclasses.replace(data, y=other)))
    np.testing.assert_array_equal(one.score, two.score)
    assert one.val_score is not None
    np.testing.assert_array_equal(one.val_score, two.val_score)
    assert one.threshold == two.threshold
    if way == "fine":
        with torch.no_grad():
            kept = [made.learnt(data.batch(split.test)).numpy() for made in (one, two)]
        np.testing.assert_array_equal(*kept)
        if regression:
            np.testing.assert_allclose(kept[0].ravel(), one.score, rtol=1e-4)


@pytest.mark.parametrize("way", ["linear", "light", "fine"])
def test_a_threshold_is_that_of_the_validation_scores(way: str) -> None:
    features, data, split = people()
    made = WAYS[way](features, data, split)
    assert made.threshold == best_threshold(data.y[split.val], made.val_score)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_threshold_is_the_best_for_classes_of_equal_weight(share: float) -> None:
    """However rare one of them is: of all cuts, none has a higher balanced accuracy."""
    rng = np.random.default_rng(3)
    y = (np.arange(50) < 50 * share).astype(int)
    p = np.clip(0.4 + 0.15 * y + 0.2 * rng.standard_normal(50), 0, 1)
    score = np.stack([1 - p, p], 1)

    def balanced(cut: float | None) -> float:
        decided = predict_labels(score, cut)
        return float(np.mean([(decided[y == i] == i).mean() for i in (0, 1)]))

    found = balanced(best_threshold(y, score))
    assert found == pytest.approx(max(balanced(float(cut)) for cut in p))
    assert found > balanced(0.5) or share == 0.5


@pytest.mark.parametrize(
    ("p", "cut"),
    [
        ((0.1, 0.3, 0.6, 0.9), 0.75),  # as good at 0.2
        ((0.1, 0.4, 0.7, 0.9), 0.25),  # as good at 0.8
        ((0.2, 0.2, 0.2, 0.2), 0.2),
        ((0.1, 0.9, 0.2, 0.8), 0.5),
    ],
)
def test_of_cuts_that_are_equally_good_the_one_nearest_to_a_half_is_taken(p: tuple, cut: float) -> None:
    """And it lies midway between the scores on either side."""
    score = np.stack([1 - np.array(p), p], 1)
    assert best_threshold(np.array([0, 1, 0, 1]), score) == pytest.approx(cut)
    order = [2, 3, 0, 1]
    assert best_threshold(np.array([0, 1, 0, 1])[order], score[order]) == pytest.approx(cut)


def test_leaving_people_out_gives_threshold_scores_and_slope() -> None:
    """Of people's own probe: what it says of those that it learnt from decides nothing."""
    features, data, split = people()
    learnt = np.concatenate([split.train, split.val])
    made = WAYS["people"](features, data, split)
    probe = fit_by_people(features[learnt], data.y[learnt], people_of(data, learnt))
    assert np.abs(probe.left_out - probe(features[learnt])).max() > 1e-3
    assert made.threshold == best_threshold(data.y[learnt], probe.left_out)
    np.testing.assert_array_equal(made.val_score, probe.left_out[len(split.train) :])  # type: ignore[arg-type]


def test_of_noise_that_people_share_with_nobody_nothing_is_sure() -> None:
    """The scale of scores is that of people left out: a probe that knows its people by heart is humble."""
    rng = np.random.default_rng(0)
    y, who = np.tile([0, 1], 48), np.repeat(np.arange(8), 12)
    features = rng.standard_normal((96, 90))
    sure = fit_by_people(features, y, who)
    assert sure.facts["slope"] < 0.5
    assert np.abs(sure.left_out - 0.5).max() < 0.4


@pytest.mark.parametrize("n_classes", [0, 2])
def test_a_step_knows_targets_of_the_training_part_alone(n_classes: int) -> None:
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    y = np.arange(30) % 3 % 2 if n_classes else np.arange(30.0) ** 2

    def learnt(y: np.ndarray) -> torch.Tensor:
        task = Task(lambda i: x[torch.from_numpy(i)], y, np.arange(20), np.arange(20, 25), n_classes)
        torch.manual_seed(0)
        network = torch.nn.Linear(3, task.n_outputs)
        fit(network, task, FitConfig(max_epochs=1, class_weights="balanced"), 0)
        return network.weight

    other = y.copy()
    other[20:] = 1 if n_classes else -7e4
    assert torch.equal(learnt(y), learnt(other))


def test_what_moves_in_training_is_a_feature() -> None:
    """A number that is constant there says nothing, whatever it does in people of the other parts."""
    features, _, split = people()
    features[split.train, 1] = 3.0
    kept, used = usable_features(features, split)
    assert used.tolist() == [True, False, True, True, True]
    assert kept.shape[1] == 4


@pytest.mark.parametrize("centre", ["recording", "running"])
def test_a_centre_is_of_one_recording_in_the_order_of_time(centre: Any) -> None:
    """People with several recordings, windows in no order."""
    n = WARM_UP_WINDOWS + 5
    rng = np.random.default_rng(2)
    recording = np.repeat(["p1-a", "p1-b", "p2-a"], n)
    features = rng.standard_normal((3 * n, 2)) + 10 * (recording == "p1-b")[:, None]
    shuffled = rng.permutation(3 * n)
    data = LabelledWindows(
        np.zeros((3 * n, 1, 4)), np.arange(3 * n) % 2, np.array([name[:2] for name in recording]),
        recording, np.tile(np.arange(n) * 2.0, 3), ("a", "b"),
    )  # fmt: skip
    found = np.empty_like(features)
    found[shuffled] = centre_features(features[shuffled], data.take(shuffled), centre)
    for begin in range(0, 3 * n, n):
        own = features[begin : begin + n]
        means = np.cumsum(own, 0) / np.arange(1, n + 1)[:, None]
        means[: WARM_UP_WINDOWS - 1] = means[WARM_UP_WINDOWS - 1]
        expected = own - (own.mean(0) if centre == "recording" else means)
        np.testing.assert_allclose(found[begin : begin + n], expected, atol=1e-9)


def test_a_mean_is_over_folds_and_a_spread_over_seeds() -> None:
    """Of a cross-validation and of a probe's seeds: the population's deviation of the seeds' figures."""
    values = np.array([[1.0, 2.0, 6.0], [3.0, 2.0, 9.0]])
    parts = tuple(
        tuple(TestPart(np.zeros(2), np.full(2, v), np.array(["a", "b"])) for v in row) for row in values
    )
    result = CrossValidated(parts, (0, 1), ((), ()))
    row = next(row for row in result.rows("m", n_bootstrap=5) if row["metric"] == "mae")
    assert row["mean"] == pytest.approx(values.mean())
    assert row["std"] == pytest.approx(np.std(values.mean(1)))
    rows = [{"protocol": "p", "metrics": {"mae": value}} for value in values[0]]
    (told,) = summarise(rows)
    assert (told["mean"], told["std"]) == pytest.approx((3.0, np.std(values[0])))


def several_recordings() -> tuple[LabelledWindows, Split, np.ndarray]:
    """Return windows of people with two recordings each, and scores that a threshold of 0.2 decides."""
    rng = np.random.default_rng(9)
    subject = np.repeat(["a", "b", "c", "d"], 12)
    recording = np.array([f"{s}{i % 12 // 6}" for i, s in enumerate(subject)])
    y = rng.integers(0, 2, 48)
    data = LabelledWindows.from_arrays(np.zeros((48, 1, 4)), y, subject, recording, classes=("n", "y"))
    p = np.clip(0.2 + 0.02 * (y - 0.5) + 0.15 * rng.standard_normal(48), 0.01, 0.99)
    split = Split(np.flatnonzero(subject == "a"), np.flatnonzero(subject == "b"), np.arange(24, 48))
    return data, split, np.stack([1 - p, p], 1)


def test_every_level_and_person_is_judged_by_the_same_threshold() -> None:
    data, split, score = several_recordings()
    row = evaluate(Outcome("m", 0, score[split.test], 0.2), data, split.test)
    for level, origin in (("recording", data.recording), ("subject", data.subject)):
        pairs = sorted({(o, int(t)) for o, t in zip(origin[split.test], data.y[split.test])})
        means = [score[[i for i in split.test if (origin[i], data.y[i]) == pair]].mean(0) for pair in pairs]
        expected = classification_metrics([t for _, t in pairs], means, threshold=0.2).plain()
        assert row[f"{level}_metrics"] == pytest.approx(expected), level
    levels = [row[name]["auroc"] for name in ("metrics", "recording_metrics", "subject_metrics")]
    assert len(set(levels)) == 3, "this example tells them apart"
    for own in row["per_subject"]:
        mine = split.test[data.subject[split.test] == own["subject"]]
        expected = classification_metrics(data.y[mine], score[mine], threshold=0.2).plain()
        assert {name: own[name] for name in expected} == pytest.approx(expected)
        assert own["n_windows"] == len(mine)


def test_who_is_resampled_is_a_person() -> None:
    data, split, score = several_recordings()
    made = cross_validate(lambda _, s, seed: Outcome("m", seed, score[s.test], 0.2), data, [split], (0, 1))
    for of_seed in made.parts:
        np.testing.assert_array_equal(of_seed[0].subject, data.subject[split.test])
        assert of_seed[0].threshold == 0.2
    assert made.n_subjects == 2


def test_predictions_are_exchanged_person_by_person_each_at_its_own_threshold() -> None:
    """One person speaks for a model: however many windows it has, that is no evidence."""
    n, rng = 400, np.random.default_rng(1)
    y, subject = np.arange(n) % 2, np.repeat(["a", "b"], n // 2)
    sure = np.stack([1 - y, y], 1).astype(float)
    good, bad = TestPart(y, sure, subject), TestPart(y, rng.permutation(sure), subject)
    assert compare([[good]], [[bad]], "accuracy", n_resamples=300).p > 0.2
    # the same decisions at other thresholds: nothing to tell apart, in any exchange
    low = TestPart(y, np.stack([1 - sure[:, 1] * 0.2, sure[:, 1] * 0.2], 1), subject, 0.1)
    high = TestPart(y, np.stack([0.1 - sure[:, 1] * 0.1, 0.9 + sure[:, 1] * 0.1], 1), subject, 0.95)
    found = compare([[low]], [[high]], "accuracy", n_resamples=99)
    assert (found.difference, found.p) == (0.0, 1.0)
    worse = dataclasses.replace(high, score=high.score[::-1].copy())
    some = TestPart(np.tile(y, 6), np.tile(low.score, (6, 1)), np.repeat(list("abcdef"), n), 0.1)
    other = dataclasses.replace(some, score=np.tile(worse.score, (6, 1)), threshold=0.95)
    assert compare([[some]], [[other]], "accuracy", n_resamples=999).p == pytest.approx(2 / 64, abs=0.02)


@pytest.mark.parametrize("dtype", [float, np.float32, np.int64, np.uint8, bool])
@pytest.mark.parametrize("n_classes", [0, 2, 3])
def test_to_weigh_windows_is_to_repeat_them(n_classes: int, dtype: Any) -> None:
    """Whatever kind of number the weights are; the plain metrics and those of folds agree."""
    rng = np.random.default_rng(n_classes)
    y = rng.permutation(np.arange(60) % max(n_classes, 1)) if n_classes else 40 + 9 * rng.standard_normal(60)
    score = np.round(rng.dirichlet(np.ones(n_classes), 60), 2) if n_classes else y + rng.standard_normal(60)
    part = TestPart(y, score, y.astype(str), 0.42 if n_classes == 2 else None)
    weights = rng.integers(0, 2 if dtype is bool else 4, (4, 60)).astype(dtype)

    def plain(rows: np.ndarray) -> dict[str, float]:
        if not n_classes:
            return regression_metrics(y[rows], score[rows]).values
        return classification_metrics(y[rows], score[rows], threshold=part.threshold).values

    repeated = [plain(np.repeat(np.arange(60), w.astype(int))) for w in weights]
    for metric in repeated[0]:
        expected = [values[metric] for values in repeated]
        np.testing.assert_allclose(
            weighted_metric(part, metric, weights), expected, rtol=1e-6, err_msg=metric
        )
        whole = plain(np.arange(60))[metric]
        np.testing.assert_allclose(fold_values([[part, part]], metric), [[whole, whole]], rtol=1e-6)


@pytest.mark.parametrize("n_people", [1, 4])
def test_an_interval_over_seeds_is_that_of_their_mean_error(n_people: int) -> None:
    """Of people drawn within folds, and of folds drawn where each tests one person."""
    rng = np.random.default_rng(n_people)
    subject = np.repeat([f"s{i}" for i in range(n_people)], 3)
    errors = rng.gamma(2.0, 1.0, (3, 5, len(subject)))

    def parts(of: np.ndarray) -> list[list[TestPart]]:
        zero = np.zeros(len(subject))
        return [[TestPart(zero, error, subject) for error in of_seed] for of_seed in of]

    expected = interval(parts(errors.mean(0, keepdims=True)), "mae", n_bootstrap=200)
    assert expected[0] < errors.mean() < expected[1]
    for order in ([0, 1, 2], [2, 0, 1]):
        assert interval(parts(errors[order]), "mae", n_bootstrap=200) == pytest.approx(expected)
    assert interval(parts(errors), "mae", n_bootstrap=200, seed=1) != expected


@pytest.mark.parametrize(("n_bootstrap", "level"), [(40, 0.5), (300, 0.8)])
def test_a_row_has_the_interval_that_is_asked_for(n_bootstrap: int, level: float) -> None:
    rng = np.random.default_rng(4)
    part = TestPart(np.zeros(60), rng.gamma(2.0, 1.0, 60), np.repeat([f"s{i}" for i in range(12)], 5))
    result = CrossValidated(((part,),), (7,), ((),))
    (row,) = [row for row in result.rows("m", n_bootstrap=n_bootstrap, level=level) if row["metric"] == "mae"]
    assert (row["ci_low"], row["ci_high"]) == interval(
        result.parts, "mae", n_bootstrap=n_bootstrap, level=level
    )
    assert (row["model"], row["seeds"], row["n_subjects"], row["std"]) == ("m", [7], 12, 0.0)
    assert row["mean"] == pytest.approx(part.score.mean())


def test_a_summary_is_of_one_protocol_and_level_whatever_the_order_of_its_rows() -> None:
    """A figure that one seed lacks has no mean."""
    given = [("linear", 0.5), ("light", 1.0), ("fine", 7.0), ("light", 2.0), ("fine", 3), ("light", 6.0)]
    rows = [
        {
            "protocol": name,
            "metrics": {"accuracy": i, "auroc": None if i == 3 else 1.0},
            "subject_metrics": {"r": -i},
        }
        for name, i in given
    ]
    found = {(row["protocol"], row["metric"]): row for row in summarise(rows)}
    assert [row["protocol"] for row in summarise(rows)[::2]] == ["linear", "light", "fine"]
    for name, values in {"linear": [0.5], "light": [1, 2, 6], "fine": [7, 3]}.items():
        told = found[name, "accuracy"]
        assert (told["mean"], told["std"]) == pytest.approx((np.mean(values), np.std(values)))
        assert told["n_seeds"] == found[name, "auroc"]["n_seeds"] == len(values)
        assert found[name, "auroc"]["mean"] == (None if name == "fine" else 1.0)
    levels = {row["protocol"]: row["mean"] for row in summarise(rows, "subject_metrics")}
    assert levels == {"linear": -0.5, "light": -3.0, "fine": -5.0}


def test_why_there_is_no_figure_is_said_of_each_level_by_its_own_numbers() -> None:
    data, _, score = several_recordings()
    data = dataclasses.replace(data, y=np.where(data.subject == "c", 1, data.y))
    test = np.flatnonzero(data.subject == "c")
    reasons = evaluate(Outcome("m", 0, score[test], 0.2), data, test)["reasons"]
    for level, count in (("window", 12), ("recording", 2), ("subject", 1)):
        for metric in ("auroc", "auprc", "balanced_accuracy"):
            assert reasons[f"{level} {metric}"].endswith(f"no window of class n among the {count} evaluated")
    whole = np.arange(len(data))
    assert evaluate(Outcome("m", 0, score, 0.2), data, whole)["reasons"] == {}
