"""scikit-learn's estimator checks, pipelines, searches, Epochs, MOABB, skorch, braindecode's signature."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from eegm2 import (
    EEGM2Classifier,
    EEGM2Encoder,
    EEGM2ForClassification,
    EEGM2Regressor,
    log_covariance,
)
from eegm2.errors import ConfigError
from eegm2.evaluation.features.representation import extract_features
from tests.evaluation.helpers import (
    CHANNELS,
    SFREQ_HZ,
    fake_run,
    installed_braindecode,
    labelled_arrays,
    labelled_store,
    tiny_model,
)

SMALL = {"width": 2, "scaling": "none"}


class _Flat:
    """Lets scikit-learn's checks, which make tables, reach the estimators: a row is a window of one channel.

    Only the shape is adapted; everything that the checks exercise is the estimators' own.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = True, False
        if tags.classifier_tags is not None:
            tags.classifier_tags.poor_score = True
        if tags.regressor_tags is not None:
            tags.regressor_tags.poor_score = True
        return tags

    def _shaped(self, X: np.ndarray) -> np.ndarray:
        if X.ndim != 2:
            raise ValueError(f"Expected 2D array, got {X.ndim}D array instead. Reshape your data.")
        return np.tile(X, max(1, -(-8 // X.shape[1])))[:, None]


class FlatEncoder(_Flat, EEGM2Encoder): ...


class FlatClassifier(_Flat, EEGM2Classifier): ...


class FlatRegressor(_Flat, EEGM2Regressor): ...


def expected_failures(estimator: Any) -> dict[str, str]:
    """Return the check that float32 decides; the test of a window alone and among others has its bound."""
    return {
        "check_methods_subset_invariance": "asks for 1e-7; float32 depends on the batch in the sixth digit"
    }


@parametrize_with_checks(
    [
        FlatEncoder(**SMALL),
        FlatClassifier(protocol="linear", features="covariance", **SMALL),
        FlatClassifier(protocol="light", max_epochs=1, **SMALL),
        FlatClassifier(protocol="scratch", max_epochs=1, batch_size=500, **SMALL),
        FlatRegressor(protocol="linear", **SMALL),
        FlatRegressor(protocol="fine", max_epochs=1, batch_size=500, **SMALL),
    ],
    expected_failed_checks=expected_failures,
)
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def windows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return microvolts of 48 windows, string labels and subjects."""
    data = labelled_arrays()
    return data.x * 20, np.array(data.classes)[data.y], data.subject


@pytest.mark.parametrize("protocol", ["linear", "light", "scratch"])
def test_a_classifier_finds_the_rhythm_and_repeats(protocol: str, windows: tuple) -> None:
    x, y, groups = windows
    made = EEGM2Classifier(protocol=protocol, width=4, lr=3e-3, max_epochs=20, batch_size=8)
    made.fit(x[:32], y[:32], groups=groups[:32])
    assert made.score(x[32:], y[32:]) > 0.9
    assert made.classes_.tolist() == ["middle", "slow"]
    again = clone(made).fit(x[:32], y[:32], groups=groups[:32])
    np.testing.assert_array_equal(again.predict_proba(x), made.predict_proba(x))
    restored = pickle.loads(pickle.dumps(made))  # noqa: S301 (our own bytes)
    np.testing.assert_array_equal(restored.predict(x), made.predict(x))


def test_a_window_alone_gives_what_it_gives_among_others(windows: tuple) -> None:
    x, y, _ = windows
    for made in (EEGM2Encoder(width=4).fit(x), EEGM2Classifier(protocol="linear", width=4).fit(x, y)):
        method = made.transform if isinstance(made, EEGM2Encoder) else made.predict_proba
        np.testing.assert_allclose(
            np.concatenate([method(x[i : i + 1]) for i in range(8)]), method(x)[:8], atol=1e-4
        )


def test_a_regressor_finds_a_value(windows: tuple) -> None:
    x, y, _ = windows
    values = np.where(y == "slow", 10.0, 30.0)
    for protocol in ("linear", "light"):
        made = EEGM2Regressor(protocol=protocol, width=4, max_epochs=40, lr=3e-3, batch_size=8)
        assert made.fit(x[:32], values[:32]).score(x[32:], values[32:]) > 0.6


def test_it_works_in_pipelines_searches_and_grouped_cross_validation(windows: tuple) -> None:
    x, y, groups = windows
    pipeline = make_pipeline(EEGM2Encoder(tiny_model()), StandardScaler(), LogisticRegression())
    assert cross_val_score(pipeline, x, y, groups=groups, cv=GroupKFold(3)).mean() > 0.9
    grid = {"eegm2classifier__C": [0.01, 1.0], "eegm2classifier__scaling": ["quantile95", "zscore"]}
    search = GridSearchCV(make_pipeline(EEGM2Classifier(protocol="linear", width=2)), grid, cv=2)
    assert set(search.fit(x, y).best_params_) == set(grid)


def test_the_penalty_has_its_name_of_scikit_learn_and_the_former_one_for_now(windows: tuple) -> None:
    x, y, groups = windows

    def shares(**penalty: Any) -> np.ndarray:
        return EEGM2Classifier(protocol="linear", width=2, **penalty).fit(x, y, groups).predict_proba(x)

    weak = shares(C=1e-6)
    assert np.ptp(weak) < 0.1 < np.ptp(shares())
    with pytest.warns(DeprecationWarning, match=r"c is called C now.*c ends in version 0\.3"):
        np.testing.assert_array_equal(shares(c=1e-6), weak)
    by_people = EEGM2Classifier(protocol="linear", width=2, C="people")
    assert by_people.fit(x, y, groups).score(x, y) > 0.9
    with pytest.raises(ConfigError, match="C: 'people' leaves people out; say in fit's groups who"):
        by_people.fit(x, y)


def test_a_checkpoint_gives_its_own_features(tmp_path: Path, windows: tuple) -> None:
    x, _, _ = windows
    run = fake_run(tmp_path / "run", labelled_store(tmp_path / "store", subjects=1))
    by_path = EEGM2Encoder(str(run)).fit_transform(x)
    q = np.quantile(np.abs(x), 0.95, axis=2, keepdims=True)
    np.testing.assert_allclose(by_path, extract_features(tiny_model(), x / q), rtol=1e-3, atol=1e-4)
    pairs = EEGM2Encoder(str(run), features="covariance").fit_transform(x)
    expected = log_covariance(tiny_model().encode(torch.from_numpy((x / q).astype(np.float32)))).detach()
    np.testing.assert_allclose(pairs, expected, rtol=1e-2, atol=1e-2)
    with pytest.raises(ConfigError, match="features: got 'mean', expected statistics or covariance"):
        EEGM2Encoder(str(run), features="mean").fit_transform(x)
    with pytest.raises(ConfigError, match=r"checkpoint: has 3 channels, X has 2; use eegm2.adapt_channels"):
        EEGM2Encoder(str(run)).fit(x[:, :2])
    with pytest.raises(ConfigError, match="protocol: got 'deep', expected one of linear"):
        EEGM2Classifier(protocol="deep", width=2).fit(x, np.arange(48) % 2)
    with pytest.raises(ValueError, match=r"got shape \(48, 96\), expected \(n, n_chans, n_times\)"):
        EEGM2Encoder(width=2).fit(x.reshape(48, -1))


def test_epochs_are_read_in_microvolts(windows: tuple) -> None:
    x, y, _ = windows
    info = mne.create_info([*CHANNELS, "STI"], SFREQ_HZ, ["eeg"] * 3 + ["stim"])
    volts = np.concatenate([x * 1e-6, np.zeros_like(x[:, :1])], axis=1)
    epochs = mne.EpochsArray(volts, info, verbose="error")
    made = EEGM2Encoder(width=4, scaling="none").fit(x)
    np.testing.assert_allclose(made.transform(epochs), made.transform(x), rtol=1e-3, atol=1e-3)
    assert EEGM2Classifier(protocol="linear", width=4).fit(epochs, y).score(epochs, y) > 0.9


@pytest.mark.filterwarnings("ignore")
def test_moabb_evaluates_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_MNE_FAKE_HOME_DIR", "MNE_DATA"):
        monkeypatch.setenv(name, str(tmp_path))
    pytest.importorskip("moabb", reason="needs moabb")
    from moabb.datasets.fake import FakeDataset
    from moabb.evaluations import CrossSubjectEvaluation
    from moabb.paradigms import LeftRightImagery

    mne.set_log_level("error")
    dataset = FakeDataset(
        ["left_hand", "right_hand"], n_subjects=2, n_sessions=1, n_runs=1, paradigm="imagery"
    )
    evaluation = CrossSubjectEvaluation(
        LeftRightImagery(resample=128.0), datasets=[dataset], overwrite=True, hdf5_path=str(tmp_path)
    )
    pipelines = {"eegm2": EEGM2Classifier(protocol="linear", width=2)}
    results = evaluation.process(pipelines)
    assert len(results) == 2
    assert results["score"].between(0, 1).all()


@pytest.mark.parametrize("head", ["flatten", "statistics", "attention"])
def test_braindecodes_signature_with_skorch(head: str, windows: tuple) -> None:
    skorch = pytest.importorskip("skorch", reason="needs skorch")
    x, y, _ = windows
    codes = (y == "slow").astype(np.int64)
    torch.manual_seed(0)
    network = skorch.NeuralNetClassifier(
        EEGM2ForClassification,
        module__n_chans=3,
        module__n_times=32,
        module__n_outputs=2,
        module__sfreq=SFREQ_HZ,
        module__width=4,
        module__head=head,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=3e-3,
        max_epochs=12,
        batch_size=8,
        train_split=None,
        verbose=0,
    )
    network.fit(x[:32].astype(np.float32), codes[:32])
    assert network.score(x[32:].astype(np.float32), codes[32:]) > 0.9


def test_the_last_layer_is_named_and_sizes_may_come_from_elsewhere() -> None:
    info = mne.create_info(3, 64.0, "eeg")
    made = EEGM2ForClassification(
        n_outputs=4, chs_info=info["chs"], sfreq=64.0, input_window_seconds=0.5, checkpoint=tiny_model()
    )
    x = torch.randn(2, 3, 32)
    assert made(x).shape == (2, 4)
    assert isinstance(made.final_layer, torch.nn.Linear)
    names = [name for name, _ in made.named_parameters()]
    assert len(names) == len(set(names))
    assert "final_layer.weight" in names
    made.reset_head(7)
    assert made(x).shape == (2, 7)
    with pytest.raises(ConfigError, match="n_chans: got 4, but chs_info gives 3"):
        EEGM2ForClassification(4, 32, chs_info=info["chs"])
    with pytest.raises(ConfigError, match="n_times: not given, nor input_window_seconds"):
        EEGM2ForClassification(4)
    with pytest.raises(ConfigError, match="checkpoint: has 3 channels, got n_chans=4"):
        EEGM2ForClassification(4, 32, checkpoint=tiny_model())


def test_another_sampling_rate_than_the_checkpoints_is_refused(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", labelled_store(tmp_path / "store", subjects=1))
    assert EEGM2ForClassification(3, 64, sfreq=SFREQ_HZ, checkpoint=run).n_chans == 3
    with pytest.raises(ConfigError, match=r"sfreq: got 128 Hz, .* was trained at 32 Hz; resample"):
        EEGM2ForClassification(3, 64, sfreq=128.0, checkpoint=run)


def test_braindecodes_classifier_trains_it(windows: tuple) -> None:
    installed_braindecode()
    from braindecode import EEGClassifier

    x, y, _ = windows
    module = EEGM2ForClassification(3, 32, 2, width=2)
    network = EEGClassifier(module, train_split=None, max_epochs=1, batch_size=16, verbose=0)
    network.fit(x.astype(np.float32), (y == "slow").astype(np.int64))
    assert network.predict_proba(x.astype(np.float32)).shape == (48, 2)


@pytest.mark.parametrize(("protocol", "lr", "max_epochs"), [("light", 1e-3, 100), ("fine", 1e-4, 30)])
def test_every_option_of_the_fit_reaches_it(protocol: str, lr: float, max_epochs: int) -> None:
    """Rate and epochs that are not given are the protocol's."""
    asked: dict[str, Any] = {"patience": 9, "batch_size": 7, "head": "statistics", "layer_decay": 0.5}
    asked |= {"freeze": ("network.encoder",), "device": "cuda"}
    found = EEGM2Classifier(protocol=protocol, **asked)._config()
    assert {name: getattr(found, name) for name in asked} == asked
    assert (found.lr, found.max_epochs) == (lr, max_epochs)
    given = EEGM2Classifier(protocol=protocol, lr=0.5, max_epochs=2)._config()
    assert (given.lr, given.max_epochs) == (0.5, 2)
