"""Centring by recording: takes off what tells recordings apart, and refuses what it would spoil."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.features.centring import (
    WARM_UP_WINDOWS,
    RunningMean,
    centre_features,
    centred,
    side_by_side,
)
from eegm2.evaluation.protocols.frozen import light_probe, linear_probe
from eegm2.evaluation.scores.metrics import classification_metrics
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from tests.evaluation.experiments import FOLDS, HEAD, MODELS, evaluate, model, rows_of
from tests.evaluation.helpers import labelled_store
from tests.evaluation.protocols.test_frozen import QUICK


def shifted() -> tuple[np.ndarray, LabelledWindows, Split]:
    """Return features in which a small effect rides on a large offset of every recording."""
    rng = np.random.default_rng(0)
    recording = np.repeat([f"r{i}" for i in range(12)], 20)
    y = np.tile([0, 1], 120)
    offset = np.repeat(rng.normal(0, 30, (12, 5)), 20, axis=0)
    features = offset + rng.normal(0, 1, (240, 5)) + 2.0 * y[:, None]
    data = LabelledWindows.from_arrays(np.zeros((240, 1, 8)), y, recording, recording)
    parts = [
        np.flatnonzero(np.isin(recording, [f"r{i}" for i in who])) for who in (range(6), (6, 7), range(8, 12))
    ]
    return features, data, Split(*parts)


def auroc(score: np.ndarray, data: LabelledWindows, split: Split) -> float:
    return classification_metrics(data.y[split.test], score).values["auroc"]


def test_the_mean_of_every_recording_is_gone_and_differences_within_stay() -> None:
    features, data, _ = shifted()
    found = centre_features(features, data, "recording")
    for name in np.unique(data.recording):
        np.testing.assert_allclose(found[data.recording == name].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.diff(found[:20], axis=0), np.diff(features[:20], axis=0), atol=1e-12)
    assert centre_features(features, data, "none") is features


@pytest.mark.parametrize("n", [40, 15, 4])
def test_a_running_mean_is_of_what_came_before_in_time(n: int) -> None:
    """By hand; windows of the warm-up take the mean at its end. A stream's own mean says the same."""
    rng = np.random.default_rng(1)
    features, recording = rng.standard_normal((2 * n, 3)) + 5, np.repeat(["a", "b"], n)
    start_s = np.concatenate([rng.permutation(n), rng.permutation(n)]).astype(float)
    found = centred(features, recording, "running", start_s)
    for name in ("a", "b"):
        rows = np.flatnonzero(recording == name)
        rows = rows[np.argsort(start_s[rows])]
        stream = RunningMean()
        for place, row in enumerate(rows):
            until = max(place + 1, min(WARM_UP_WINDOWS, n))
            mean = features[rows[:until]].mean(0)
            np.testing.assert_allclose(found[row], features[row] - mean)
            stream.push(features[row])
            assert stream.known == (place + 1 >= WARM_UP_WINDOWS)
            if stream.known:
                np.testing.assert_allclose(stream.mean, mean)
    order = np.argsort(np.r_[start_s[:n], n + start_s[n:]])
    np.testing.assert_allclose(centred(features[order], recording[order], "running"), found[order])


def test_targets_are_not_used() -> None:
    features, data, _ = shifted()
    other = replace(data, y=1 - data.y)
    np.testing.assert_array_equal(
        centre_features(features, data, "recording"), centre_features(features, other, "recording")
    )


@pytest.mark.parametrize("probe", [linear_probe, lambda *a, **k: light_probe(*a, config=QUICK, **k)])
def test_probes_find_what_offsets_hide(probe: object) -> None:
    features, data, split = shifted()
    plain, less = (probe(features, data, split, centre=how) for how in ("none", "recording"))  # type: ignore[operator]
    assert auroc(less.score, data, split) > 0.9
    assert auroc(plain.score, data, split) < auroc(less.score, data, split) - 0.05


def test_recordings_of_one_class_each_are_refused() -> None:
    features, data, split = shifted()
    constant = replace(data, y=np.repeat(np.arange(12) % 2, 20))
    with pytest.raises(DataError, match="each of the 12 recordings has one target throughout"):
        linear_probe(features, constant, split, centre="recording")


def test_models_and_baselines_of_an_experiment_are_centred(tmp_path: Path) -> None:
    labelled_store(tmp_path / "store")
    centre = {"linear": "", "linear_centred": 'centre = "recording"'}
    text = HEAD.replace("[0, 1]", "[0]") + FOLDS
    for name, how in centre.items():
        text += model(name, f'protocol = "linear"\npretrained = "random"\npreset = "s5"\nwidth = 4\n{how}')
    tuned = 'protocol = "fine"\npretrained = "random"\npreset = "s5"\nwidth = 4\n'
    tuned += 'fit = {max_epochs = 1, head = "statistics"}\n'
    text += model("fine", tuned) + model("fine_centred", tuned + 'centre = "recording"')
    text += model("band", MODELS["band_power"].replace('c = "validation"', 'centre = "recording"'))
    result = evaluate(tmp_path, text)
    assert result.exit_code == 0, result.output
    scores = {
        path.name.split("-")[0]: np.load(path, allow_pickle=False)["score"]
        for path in (tmp_path / "out" / "cells").glob("*-fold0-*.npz")
    }
    for name in ("linear", "fine"):
        assert scores[name].shape == scores[f"{name}_centred"].shape
        assert np.abs(scores[name] - scores[f"{name}_centred"]).max() > 1e-3
    rows = {row["model"] for row in rows_of(tmp_path)}
    assert rows == {"linear", "linear_centred", "fine", "fine_centred", "band"}
    flat = tuned.replace('head = "statistics"', 'head = "flatten"') + 'centre = "recording"'
    with pytest.raises(ConfigError, match=r"model 'flat': centre: got 'recording' with head 'flatten'.*fit"):
        evaluate(tmp_path, text + model("flat", flat))


def test_windows_side_by_side_are_told_from_those_that_overlap() -> None:
    start_s = np.array([0.0, 1.0, 1.5, 2.0, 3.9, 4.0, 9.0, 10.9, 11.0])
    expected = [True, False, False, True, False, True, True, False, True]
    np.testing.assert_array_equal(side_by_side(start_s, 2.0), expected)
    assert side_by_side(start_s, 0.0).all()
    thirds = np.arange(7) * (43 / 128)  # a third of a second in whole samples: none overlaps another
    assert side_by_side(thirds, 43 / 128).all()
