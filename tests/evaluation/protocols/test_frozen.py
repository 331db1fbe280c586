"""Linear and Light probes on arrays: they find what is there and never look at the test part."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.config import FitConfig, ProbeConfig
from eegm2.evaluation.features.representation import extract_features
from eegm2.evaluation.protocols.frozen import C_GRID, light_probe, linear_probe, people_of
from eegm2.evaluation.protocols.kept import HeadArrays
from eegm2.evaluation.protocols.people import fit_by_people
from eegm2.evaluation.scores.metrics import best_threshold
from eegm2.evaluation.scores.outcome import aggregate, evaluate, summarise
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from tests.evaluation.helpers import labelled_arrays, tiny_model

QUICK = FitConfig(lr=3e-3, max_epochs=40, patience=10, batch_size=16)


def by_subject(data: LabelledWindows) -> Split:
    return Split(
        data.where_subject(["sub0", "sub1", "sub2", "sub3"]),
        data.where_subject(["sub4"]),
        data.where_subject(["sub5"]),
    )


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return extract_features(tiny_model(), labelled_arrays(classes=3), batch_size=7)


def test_features_do_not_depend_on_the_batch_and_leave_the_model_as_it_was(features: np.ndarray) -> None:
    model = tiny_model().train()
    data = labelled_arrays(classes=3)
    seen = []
    whole = extract_features(
        model, data.x, batch_size=100, progress=lambda done, total: seen.append((done, total))
    )
    np.testing.assert_allclose(whole, features, rtol=1e-4, atol=1e-5)
    assert features.shape == (48, 9 * 16)
    assert model.training
    assert seen == [(48, 48)]
    sequence = extract_features(model, data, kind="sequence")
    assert sequence.shape == (48, 16, 4)


def test_short_windows_and_absent_devices_are_refused() -> None:
    with pytest.raises(ConfigError, match="window_s: gives 7 samples, the network needs 8 or more"):
        extract_features(tiny_model(), np.zeros((2, 3, 7), dtype=np.float32))
    for name in ("abacus", "xla"):
        with pytest.raises(ConfigError, match=f"device: got '{name}', available here: cpu"):
            extract_features(tiny_model(), np.zeros((2, 3, 8), dtype=np.float32), device=name)


def test_a_data_set_is_read_as_an_array_would_be() -> None:
    data = labelled_arrays()
    items = [{"x": torch.from_numpy(window)} for window in data.x]
    lazy = LabelledWindows(items, data.y, data.subject, data.recording, data.start_s, data.classes)
    np.testing.assert_array_equal(lazy.in_memory().x, data.x)
    assert lazy.in_memory(limit_bytes=100) is lazy
    np.testing.assert_array_equal(extract_features(tiny_model(), lazy), extract_features(tiny_model(), data))
    some = np.array([5, 2, 40])
    torch.testing.assert_close(lazy.take(some).batch(np.arange(3)), data.take(some).batch(np.arange(3)))
    assert lazy.take(some).subject.tolist() == ["sub0", "sub0", "sub5"]


def test_features_of_windows_with_nan_are_refused() -> None:
    x = labelled_arrays().x.copy()
    x[3, 0, 0] = np.nan
    with pytest.raises(DataError, match=r"1 of 48 windows gave NaN or infinite features \(first: window 3\)"):
        extract_features(tiny_model(), x)


@pytest.mark.parametrize("protocol", ["linear", "light"])
@pytest.mark.parametrize("classes", [2, 3])
def test_probes_find_the_rhythm_in_unseen_people(protocol: str, classes: int) -> None:
    data = labelled_arrays(classes=classes)
    split = by_subject(data)
    features = extract_features(tiny_model(), data)
    outcome = (
        linear_probe(features, data, split)
        if protocol == "linear"
        else light_probe(features, data, split, seed=1, config=QUICK)
    )
    row = evaluate(outcome, data, split.test)
    assert outcome.score.shape == (8, classes)
    np.testing.assert_allclose(outcome.score.sum(1), 1, rtol=1e-6)
    assert row["metrics"]["auroc"] > 0.9
    assert row["metrics"]["balanced_accuracy"] > 0.7
    assert (outcome.threshold is None) == (classes == 3)
    assert [entry["subject"] for entry in row["per_subject"]] == ["sub5"]


@pytest.mark.parametrize("protocol", ["linear", "light"])
def test_the_test_part_informs_nothing(protocol: str, features: np.ndarray) -> None:
    data = labelled_arrays(classes=3)
    split = by_subject(data)
    other = LabelledWindows(data.x, data.y.copy(), data.subject, data.recording, data.start_s, data.classes)
    other.y[split.test] = 0
    changed = features.copy()
    changed[split.test[1:]] *= 100

    def first(data: LabelledWindows, features: np.ndarray) -> np.ndarray:
        probe = linear_probe if protocol == "linear" else light_probe
        options = {} if protocol == "linear" else {"config": QUICK}
        return probe(features, data, split, **options).score[0]

    np.testing.assert_array_equal(first(data, features), first(other, changed))


def test_seeds_repeat_and_differ(features: np.ndarray) -> None:
    data = labelled_arrays(classes=3)
    split = by_subject(data)
    config = FitConfig(lr=1e-3, max_epochs=2)
    one, again, other = (light_probe(features, data, split, seed=s, config=config).score for s in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-4
    usual = light_probe(features, data, split, config=config)
    np.testing.assert_array_equal(usual.score, one)
    assert usual.seed == 0


def test_regression_is_ridge_and_a_perceptron() -> None:
    data = labelled_arrays()
    values = LabelledWindows.from_arrays(data.x, data.y * 10.0 + 20, data.subject)
    assert values.is_regression
    split = by_subject(values)
    features = extract_features(tiny_model(), values)
    for outcome in (
        linear_probe(features, values, split),
        light_probe(features, values, split, config=QUICK),
    ):
        row = evaluate(outcome, values, split.test)
        assert outcome.score.shape == (8,)
        assert row["metrics"]["pearson_r"] > 0.8
        assert row["metrics"]["mae"] < 5


def test_bad_features_and_labels_are_refused(features: np.ndarray) -> None:
    data = labelled_arrays(classes=3)
    split = by_subject(data)
    broken = features.copy()
    broken[5] = np.inf
    with pytest.raises(DataError, match=r"1 of 48 windows hold NaN or infinity \(first: window 5\)"):
        linear_probe(broken, data, split)
    with pytest.raises(DataError, match="all 144 are constant over 32 training windows"):
        light_probe(np.ones_like(features), data, split)
    one = LabelledWindows.from_arrays(data.x, np.zeros(48, dtype=int), data.subject)
    with pytest.raises(DataError, match=r"got one class \(0\) in 48 windows"):
        linear_probe(features, one, split)
    without = Split(split.train[data.y[split.train] != 2], split.val, split.test)
    with pytest.raises(DataError, match="split train: no window of class fast among"):
        linear_probe(features, data, without)


def test_a_constant_feature_is_left_out_and_changes_nothing(features: np.ndarray) -> None:
    data = labelled_arrays(classes=3)
    split = by_subject(data)
    more = np.concatenate([features, np.full((48, 1), 3.0)], axis=1)
    np.testing.assert_allclose(
        linear_probe(more, data, split).score, linear_probe(features, data, split).score, rtol=1e-9
    )


def in_turn(*sizes: int) -> dict[str, np.ndarray]:
    """Return views of so many features, one after the other."""
    ends = np.cumsum(sizes)
    return {str(i): np.arange(end - size, end) for i, (size, end) in enumerate(zip(sizes, ends, strict=True))}


def test_views_are_trusted_alike_however_many_features_they_have(features: np.ndarray) -> None:
    """What a view says three times counts once (C counts all features); without views it counts thrice."""
    data = labelled_arrays(classes=3)
    split = by_subject(data)
    few, many = features[:, :9], features[:, 9:]
    thrice = np.concatenate([few, few, few, many], axis=1)
    turned = np.concatenate([many, few], axis=1)
    c, c_thrice = 0.01, 0.01 * features.shape[1] / thrice.shape[1]
    once = linear_probe(features, data, split, c=c, views=in_turn(9, many.shape[1])).score
    said = linear_probe(thrice, data, split, c=c_thrice, views=in_turn(27, many.shape[1])).score
    np.testing.assert_allclose(said, once, atol=1e-4)
    other = linear_probe(turned, data, split, c=c, views=in_turn(many.shape[1], 9)).score
    np.testing.assert_allclose(other, once, atol=1e-4)
    assert np.abs(linear_probe(features, data, split, c=c).score - once).max() > 0.01
    assert np.abs(linear_probe(thrice, data, split, c=c_thrice).score - once).max() > 0.01
    chosen = [
        linear_probe(x, data, split, c="validation", views=in_turn(*b))
        for x, b in ((features, (9, many.shape[1])), (turned, (many.shape[1], 9)))
    ]
    assert chosen[0].facts["c"] == chosen[1].facts["c"]
    np.testing.assert_allclose(chosen[0].score, chosen[1].score, atol=1e-3)


def test_one_view_is_the_papers_standardisation_and_a_head_keeps_the_views(features: np.ndarray) -> None:
    data = labelled_arrays(classes=3)
    split = by_subject(data)
    plain = linear_probe(features, data, split)
    np.testing.assert_array_equal(
        linear_probe(features, data, split, views=in_turn(features.shape[1])).score, plain.score
    )
    more = np.concatenate([features, np.full((48, 1), 3.0)], axis=1)  # a constant one, left out of its view
    fitted = linear_probe(more, data, split, views=in_turn(9, features.shape[1] - 8))
    np.testing.assert_allclose(
        fitted.score,
        linear_probe(features, data, split, views=in_turn(9, features.shape[1] - 9)).score,
        rtol=1e-6,
    )
    head = fitted.learnt
    assert isinstance(head, HeadArrays)
    weight, bias = head.layers[0]
    scores = ((more[split.test] - head.mean) / head.scale) @ weight.T + bias
    odds = 1 / (1 + np.exp(-scores))
    np.testing.assert_allclose(odds / odds.sum(1, keepdims=True), fitted.score, rtol=1e-9)
    with pytest.raises(ValueError, match="views: 18 features of 144 are in one"):
        linear_probe(more, data, split, views=in_turn(9, 9))


def test_overlapping_or_empty_splits_are_refused() -> None:
    data = labelled_arrays()
    a, b = data.where_subject(["sub0", "sub1"]), data.where_subject(["sub1", "sub2"])
    with pytest.raises(DataError, match="subject sub1 is in both train and test"):
        Split(a, data.where_subject(["sub3"]), b).check(data)
    with pytest.raises(DataError, match="the val part has no labelled window"):
        Split(a, np.array([], dtype=int), data.where_subject(["sub2"])).check(data)


def test_aggregation_is_the_mean_of_each_condition() -> None:
    y = np.array([0, 1, 1, 0])
    score = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]])
    labels, mean = aggregate(y, score, np.array(["b", "a", "a", "b"]))
    assert labels.tolist() == [1, 0]
    np.testing.assert_allclose(mean, [[0.3, 0.7], [0.8, 0.2]])
    labels, values = aggregate(
        np.array([3.0, 3.0, 5.0]), np.array([1.0, 2.0, 4.0]), np.array(["a", "a", "b"])
    )
    assert labels.tolist() == [3, 5]
    assert values.tolist() == [1.5, 4]


def test_the_summary_is_mean_and_deviation_over_seeds() -> None:
    rows = [{"protocol": "light", "metrics": {"auroc": a, "kappa": k}} for a, k in ((0.5, None), (0.7, 0.1))]
    auroc, kappa = summarise(rows)
    assert auroc == {
        "protocol": "light",
        "metric": "auroc",
        "mean": 0.6,
        "std": pytest.approx(0.1),
        "n_seeds": 2,
    }
    assert kappa["mean"] is None


def test_options_say_what_is_wrong() -> None:
    with pytest.raises(
        ValueError, match="protocols: got nonsense, expected some of linear, light, fine, scratch"
    ):
        ProbeConfig(protocols=("linear", "nonsense"))
    with pytest.raises(ValueError, match="classes: got only open"):
        ProbeConfig(classes=("open",))
    with pytest.raises(ValueError, match="seeds: got 0"):
        ProbeConfig(seeds=0)


@pytest.mark.parametrize("c", [1.0, "validation", "people"])
def test_a_probe_that_has_not_converged_says_so_every_time(
    c: float | str, features: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = labelled_arrays(classes=3)
    split = by_subject(data)
    assert linear_probe(features, data, split, c=c).facts["converged"] is True

    def hasty(**options: object) -> LogisticRegression:
        return LogisticRegression(**{**options, "max_iter": 1})

    for module in ("frozen", "people"):
        monkeypatch.setattr(f"eegm2.evaluation.protocols.{module}.LogisticRegression", hasty)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as a user may
        for _ in range(2):
            assert linear_probe(features, data, split, c=c).facts["converged"] is False


@pytest.mark.parametrize("c", [0.1, "validation"])
def test_a_value_is_ridges_with_the_penalty_of_the_lowest_squared_error(c: float | str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((48, 20)) * 3 + 1
    y = 40 + x[:, 0] * 2 + 3 * rng.standard_normal(48)
    data = LabelledWindows.from_arrays(np.zeros((48, 1, 8)), y, labelled_arrays().subject)
    split = by_subject(data)

    def ridge(c: float) -> Pipeline:
        return make_pipeline(StandardScaler(), Ridge(alpha=1 / c)).fit(x[split.train], y[split.train])

    losses = {k: np.mean((ridge(k).predict(x[split.val]) - y[split.val]) ** 2) for k in C_GRID}
    chosen = min(losses, key=losses.__getitem__) if isinstance(c, str) else c
    found = linear_probe(x, data, split, c=c)
    assert found.facts["c"] == chosen
    np.testing.assert_allclose(found.score, ridge(chosen).predict(x[split.test]))
    np.testing.assert_allclose(found.val_score, ridge(chosen).predict(x[split.val]))
    assert found.threshold is None
    if isinstance(c, str):
        assert found.facts["c_validation_loss"] == pytest.approx({f"{k:g}": v for k, v in losses.items()})
        assert 0.1 < chosen < max(C_GRID) or chosen in C_GRID
    head = found.learnt
    ((weight, bias),) = head.layers
    np.testing.assert_allclose(
        (((x - head.mean) / head.scale) @ weight.T + bias)[split.test, 0], found.score, rtol=1e-9
    )


def test_people_are_subjects_or_of_one_subject_the_recordings() -> None:
    data = labelled_arrays()
    data = replace(data, recording=np.array([f"r{i // 4}" for i in range(len(data))]))
    assert people_of(data, np.arange(12)).tolist() == data.subject[:12].tolist()
    assert people_of(data, np.arange(2, 7)).tolist() == ["r0", "r0", "r1", "r1", "r1"]


@pytest.mark.parametrize("how", ["validation", "half"])
@pytest.mark.parametrize("c", [1.0, "people"])
@pytest.mark.parametrize("classes", [2, 3])
def test_two_classes_are_told_at_what_was_best_on_validation_or_on_all_left_out(
    classes: int, c: float | str, how: str
) -> None:
    """Asked for half, or of three classes, the larger score decides."""
    data = labelled_arrays(classes=classes)
    split = by_subject(data)
    rng = np.random.default_rng(3)
    features = rng.standard_normal((48, 6)) + 0.7 * data.y[:, None]
    found = linear_probe(features, data, split, c=c, threshold=how)
    if how == "half" or classes == 3:
        assert found.threshold is None
        return
    rows, score = split.val, found.val_score
    if c == "people":
        rows = np.concatenate([split.train, split.val])
        score = fit_by_people(features[rows], data.y[rows], data.subject[rows]).left_out
    assert found.threshold == best_threshold(data.y[rows], score)
    assert found.threshold != 0.5
