"""The books of a head on made-up people: who judges it, who stops its fit, what pretraining saw of them."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eegm2.data.config import WindowConfig
from eegm2.data.windows.dataset import WindowDataset
from eegm2.data.windows.splits import SplitManifest
from eegm2.deploy.config import ENTER, LEAVE, StreamConfig
from eegm2.deploy.device.decisions import StreamCentring
from eegm2.deploy.heads.as_streamed import StreamedAs, StreamedWindows
from eegm2.deploy.heads.decisions import SlidingFeatures, rule_of, steps_of
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.heads.fit import (
    _baseline,
    _inner_split,
    _judgement,
    _left_out,
    _offline,
    _refuse_one_class,
    _seen,
    fit_dense,
)
from eegm2.deploy.stream.streaming import StreamingEEGM2
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.features.centring import centred
from eegm2.evaluation.protocols.kept import HeadArrays
from eegm2.evaluation.scores.metrics import classification_metrics
from eegm2.model.statistics import FEATURES
from tests.data.samples import write_store
from tests.deploy.helpers import network

RNG = np.random.default_rng(0)


def people(n: int, each: int = 6) -> np.ndarray:
    return np.repeat([f"s{i:02d}" for i in range(n)], each)


@pytest.mark.parametrize(
    ("val", "n", "expected"), [(0.2, 20, 4), (0.25, 8, 2), (0.5, 7, 3), (0.1, 5, 1), (0.9, 6, 3)]
)
def test_a_share_of_the_people_judges_drawn_by_the_seed(val: float, n: int, expected: int) -> None:
    who = people(n)
    y = np.tile([1, 9], len(who) // 2)
    drawn = {_left_out(who, y, val, seed) for seed in range(8)}
    assert all(len(set(names)) == len(names) and set(names) <= set(who) for names in drawn)
    assert {len(names) for names in drawn} <= {expected, expected + 1}
    assert len(drawn) > 1
    mixed = RNG.permutation(len(who))
    assert _left_out(who[mixed], y[mixed], val, 3) == _left_out(who, y, val, 3)
    assert _left_out(who, y, 0.0, 3) == _left_out(who[:6], y[:6], val, 3) == ()


def test_who_judges_is_stratified_by_what_people_have_in_whatever_order() -> None:
    """Of 12 people with one class, 6 with another and 6 with both, a third of each."""
    who = people(24)
    number = np.array([int(name[1:]) for name in who])
    both = np.where((np.arange(len(who)) + (number >= 20)) % 2, 1, 9)
    y = np.where(number < 12, 1, np.where(number < 18, 9, both))
    for seed in range(6):
        asked = [int(name[1:]) for name in _left_out(who, y, 1 / 3, seed)]
        found = [sum(low <= i < high for i in asked) for low, high in ((0, 12), (12, 18), (18, 24))]
        assert found == [4, 2, 2]


def test_a_fifth_of_the_people_stops_a_fit_where_the_others_have_every_class() -> None:
    who = people(10)
    y = np.tile([0, 1, 2], 20)
    split = _inner_split(who, y, 1)
    assert split is not None
    assert not set(who[split.train]) & set(who[split.val])
    assert sorted([*split.train, *split.val]) == list(range(60))
    assert len(set(who[split.val])) == 2
    assert len(split.test) == 0
    assert _inner_split(people(1), y[:6], 1) is None
    assert _inner_split(people(2), np.repeat([0, 1], 6), 1) is None, "each class has one person"


MANIFEST = SplitManifest(("a", "b", "c"), ("d",), ("e", "f"), 0, "subject", "store")


@pytest.mark.parametrize(
    ("split", "left_out", "sha256", "said"),
    [
        (None, ("a",), "store", "no split beside it"),
        (MANIFEST, ("a",), "other", "another store or was not split by subject"),
        (SplitManifest(("a",), (), ("e",), 0, "recording", "store"), ("a",), "store", "not split by subject"),
        (MANIFEST, ("e", "f"), "store", "saw 0 of them"),
        (MANIFEST, ("a", "d", "e"), "store", "saw 2 of them"),
        (MANIFEST, ("d", "new"), "store", "saw 1 of them"),
    ],
)
def test_what_pretraining_saw_of_who_judges_is_said(
    split: SplitManifest | None, left_out: tuple[str, ...], sha256: str, said: str
) -> None:
    assert said in _seen(split, left_out, sha256)


def head_of(classes: tuple[str, ...]) -> DenseHead:
    weight = RNG.standard_normal((len(classes), 3))
    return DenseHead.from_arrays(
        HeadArrays(np.zeros(3), np.ones(3), ((weight, np.zeros(len(classes))),), "softmax"), classes
    )


def test_a_head_is_judged_on_decisions_of_people_left_out_in_its_own_order_of_classes() -> None:
    """A class that the head lacks is not asked for; windows without a decision do not count."""
    who, y = people(4), np.tile([0, 1, 2], 8)
    decided = np.arange(24) % 6 > 1
    made = StreamedWindows(RNG.standard_normal((24, 3)), y, who, decided, decided)
    head = head_of(("c", "a"))
    found = _judgement(head, made, ("a", "b", "c"), ("s01", "s03"))
    rows = np.flatnonzero(decided & np.isin(who, ["s01", "s03"]) & (y != 1))
    truth = np.where(y[rows] == 2, 0, 1)
    expected = classification_metrics(truth, head(made.features[rows]), classes=("c", "a"))
    assert found["metrics"] == expected.plain()
    assert (found["n_windows"], found["n_subjects"]) == (len(rows), 2)
    nobody = _judgement(head, made, ("a", "b", "c"), ())
    assert (nobody["metrics"], nobody["n_windows"], nobody["n_subjects"]) == (None, 0, 0)
    assert "nobody was left out" in nobody["notes"]["metrics"]
    undecided = dataclasses.replace(made, decided=np.zeros(24, bool))
    assert "lower --warm-up" in _judgement(head, undecided, ("a", "b", "c"), ("s01",))["notes"]["metrics"]


NAMES = ("Fz", "Cz", "Pz")


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> WindowDataset:
    store = write_store(tmp_path_factory.mktemp("books") / "store", 2, ch_names=NAMES, n_times=1024)
    return WindowDataset(store, WindowConfig(window_s=2.0), labelled=True)


@pytest.mark.parametrize("centre", ["none", "running"])
@pytest.mark.parametrize("kind", ["statistics", "covariance"])
def test_the_usual_evaluation_has_the_streams_features_and_centring(
    kind: str, centre: str, windows: WindowDataset
) -> None:
    """Of separate windows; all of them are judged, each by itself."""
    model = network("light", n_chans=3)
    found = _offline(model, windows, StreamedAs(kind, "quantile95", 2.0, 0.5, 8.0, 0.0, centre, 1), 3)
    with torch.no_grad():
        x = torch.stack([windows[i]["x"] for i in range(len(windows))])
        expected = FEATURES[kind](model.encode(x)).numpy().astype(float)
    if centre == "running":
        expected = centred(expected, windows.recording_ids, "running")
    np.testing.assert_allclose(found.features, expected, rtol=1e-4, atol=1e-5)
    assert found.features.dtype == np.float32
    assert found.y.tolist() == [windows[i]["y"] for i in range(len(windows))]
    assert found.subjects.tolist() == windows.subjects.tolist()
    assert found.apart.all()
    assert found.decided.all()


@pytest.mark.parametrize("protocol", ["linear", "light"])
@pytest.mark.parametrize("kind", ["statistics", "covariance"])
def test_a_head_has_the_classes_that_are_there_under_their_names(protocol: str, kind: str) -> None:
    who = people(5, 12)
    y = np.where(np.arange(60) % 2, 3, 1)
    features = RNG.standard_normal((60, 4)).astype(np.float32) + 3 * (y == 3)[:, None]
    made = fit_dense(features, y, who, ("zero", "one", "two", "three"), protocol, kind, {}, 0)
    assert made.classes == ("one", "three")
    assert made.facts["n_windows"] == 60
    assert made(features)[:, 1] @ (y == 3) > 0.7 * (y == 3).sum()
    if protocol == "linear":
        assert made.facts["c"] == (1.0 if kind == "statistics" else made.facts["c"])
        assert ("n_left_out" in made.facts) == (kind != "statistics")


@pytest.mark.parametrize(("y", "said"), [([2, 2], "of c only"), ([], "of none only")])
def test_one_class_makes_no_head(y: list[int], said: str) -> None:
    _refuse_one_class("here", np.array([0, 2]), ("a", "b", "c"), "")
    with pytest.raises(
        DataError, match=f"here: labelled windows {said}; a head needs at least two classes, so"
    ):
        _refuse_one_class("here", np.array(y), ("a", "b", "c"), ", so")


@pytest.mark.parametrize(
    ("labels", "step_s", "expected_s"),
    [([0, 1] * 10, 4.0, 20.0), ([0] * 2 + [1] * 8, 2.0, 2.0), ([0] + [1] * 9, 2.0, 20.0)],
    ids=["usual", "shorter", "never"],
)
def test_the_usual_baseline_is_shortened_where_it_would_take_a_class(
    labels: list[int], step_s: float, expected_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is as long as recordings with labels allow."""
    asked: list[tuple[list[str], float]] = []

    def usual(recordings: list[Any], window_s: float) -> float:
        asked.append(([info.id for info in recordings], window_s))
        return 20.0

    monkeypatch.setattr("eegm2.deploy.heads.fit.usual_baseline", usual)
    windows: Any = SimpleNamespace(
        recordings=[SimpleNamespace(id="a"), SimpleNamespace(id="b")],
        unlabelled=("b",),
        config=SimpleNamespace(window_s=2.0),
        labels=np.array(labels),
        start_s=step_s * np.arange(len(labels)),
    )
    assert _baseline(windows) == expected_s
    assert asked == [(["a"], 2.0)]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.0625, 1), (0.5, 8), (4.0, 64), (0.09375, None), (0.03, None), (0.0, None)]
)
def test_durations_are_whole_steps_or_refused(seconds: float, expected: int | None) -> None:
    if expected is not None:
        assert steps_of("hop_s", seconds, 128.0, 8) == expected
        return
    with pytest.raises(ConfigError, match=r"hop_s: got .* expected a positive multiple of 0\.0625 s"):
        steps_of("hop_s", seconds, 128.0, 8)


OWN = {"enter": 0.8, "leave": 0.7}


@pytest.mark.parametrize(
    ("facts", "asked", "expected"),
    [
        ({}, {}, (ENTER, LEAVE, None)),
        ({"threshold": 0.4}, {}, (ENTER, LEAVE, 0.4)),
        ({"threshold": 0.4}, {"enter": 0.9}, (0.9, LEAVE, None)),
        ({"threshold": 0.4}, {"leave": 0.2}, (ENTER, 0.2, None)),
        ({"threshold": 0.4, **OWN}, {}, (0.8, 0.7, None)),
        (OWN, {"leave": 0.1}, (0.8, 0.1, None)),
        (OWN, {"enter": 0.65}, (0.65, 0.65, None)),
        ({"enter": 0.8}, {}, (0.8, LEAVE, None)),
        ({"leave": 0.55}, {}, (ENTER, 0.55, None)),
    ],
)
def test_a_decision_is_by_what_is_asked_for_else_by_the_heads_own_levels_else_its_threshold(
    facts: dict[str, float], asked: dict[str, float], expected: tuple[float, float, float | None]
) -> None:
    found = rule_of(facts, StreamConfig(smooth=0.3, **asked))  # type: ignore[arg-type]
    assert (found["enter"], found["leave"], found["threshold"]) == expected
    assert found["smooth"] == 0.3


@pytest.mark.parametrize("warm_up", [1, 3])
@pytest.mark.parametrize("hop_s", [0.5, 1.0])
def test_a_stream_decides_on_features_less_their_running_mean_once_that_is_known(
    warm_up: int, hop_s: float
) -> None:
    """Windows side by side count for the mean; every window from then on is decided; a reset forgets both."""
    model = network("light", n_chans=3)
    x = torch.from_numpy(RNG.standard_normal((1, 3, 64 * 8)).astype(np.float32))
    length, hop = (steps_of("s", seconds, 64.0, model.config.step_samples) for seconds in (1.0, hop_s))
    sliding = SlidingFeatures(length, hop, config=model.config)
    whole = [(end, features.numpy()) for end, features in sliding.push(model.encode(x))]
    assert [end * model.config.step_samples for end, _ in whole] == list(range(64, 513, round(64 * hop_s)))
    stream = StreamingEEGM2(model)
    for _ in range(2):
        sliding.reset()
        centring = StreamCentring(length, warm_up)
        parts = [stream.advance(part)[0] for part in x.split([200, 312], dim=2)] + [stream.finish()[0]]
        seen = [(end, f.numpy()) for part in parts for end, f in sliding.push(part)]
        found = [(end, centring.take(features, end)) for end, features in seen]
        found = [(end, features) for end, features in found if features is not None]
        expected, counted = [], []
        for end, features in whole:
            if end % length == 0:
                counted.append(features)
            if len(counted) >= warm_up:
                expected.append((end, features - np.mean(counted, axis=0)))
        assert [end for end, _ in found] == [end for end, _ in expected]
        for (_, ours), (_, theirs) in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
        stream.reset()
