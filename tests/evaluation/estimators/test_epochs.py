"""What a model knows of its input is used: names, rate and scaling of checkpoints and of fitted Epochs."""

from __future__ import annotations

import warnings
from pathlib import Path

import mne
import numpy as np
import pytest
from sklearn.model_selection import cross_val_score

from eegm2 import EEGM2Classifier, EEGM2Encoder, EEGM2ForClassification
from eegm2.errors import ConfigError
from eegm2.evaluation.config import Features
from eegm2.evaluation.estimators.input_facts import InputFacts, PreprocessingWarning
from eegm2.model.features import KINDS
from tests.evaluation.helpers import CHANNELS, SFREQ_HZ, fake_run, labelled_store

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 3, 64)) * 20e-6
X[1::2, :1] *= 3
Y = np.arange(20) % 2


def epochs(data: np.ndarray, names: tuple[str, ...] = CHANNELS, rate: float = SFREQ_HZ) -> mne.EpochsArray:
    info = mne.create_info(list(names), rate, "eeg")
    return mne.EpochsArray(data, info, verbose="error")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fake_run(tmp_path / "run", labelled_store(tmp_path / "store"))


@pytest.mark.filterwarnings("ignore::eegm2.evaluation.estimators.input_facts.PreprocessingWarning")
def test_another_order_is_put_in_order_and_other_channels_are_refused(run: Path) -> None:
    encoder = EEGM2Encoder(checkpoint=str(run))
    expected = encoder.fit_transform(epochs(X))
    turned = tuple(name.upper() for name in CHANNELS[::-1])
    np.testing.assert_array_equal(encoder.fit_transform(epochs(X[:, ::-1], turned)), expected)
    np.testing.assert_array_equal(encoder.fit(epochs(X)).transform(epochs(X[:, ::-1], turned)), expected)
    np.testing.assert_array_equal(encoder.fit(X * 1e6).transform(epochs(X[:, ::-1], turned)), expected)
    other = ("O1", "O2", "Oz")
    with pytest.raises(ConfigError, match=r"X: has channels O1 O2 Oz, checkpoint .*run has F3 C3 P3; pick"):
        encoder.fit(epochs(X, other))
    with pytest.raises(ConfigError, match=r"X: sampled at 500 Hz, checkpoint .* has 32 Hz; resample"):
        encoder.fit(epochs(X, rate=500.0))
    with pytest.raises(ConfigError, match=r"scaling: got 'zscore', .* trained with 'quantile95'"):
        EEGM2Encoder(checkpoint=str(run), scaling="zscore").fit(epochs(X))


def test_what_was_fitted_is_what_is_predicted() -> None:
    model = EEGM2Classifier(protocol="linear", width=2).fit(epochs(X), Y)
    expected = model.predict_proba(epochs(X))
    np.testing.assert_array_equal(model.predict_proba(epochs(X[:, [2, 0, 1]], ("P3", "F3", "C3"))), expected)
    np.testing.assert_array_equal(model.predict_proba(X * 1e6), expected)
    with pytest.raises(ConfigError, match=r"has channels F3 C3 Pz, the training Epochs has F3 C3 P3"):
        model.predict(epochs(X, ("F3", "C3", "Pz")))
    with pytest.raises(ConfigError, match=r"sampled at 64 Hz, the training Epochs has 32 Hz"):
        model.predict(epochs(X, rate=64.0))


def test_a_network_in_memory_knows_too(run: Path) -> None:
    from eegm2.training.checkpoint import load_checkpoint

    network = load_checkpoint(run).model
    with pytest.raises(ConfigError, match="X: has channels O1 O2 Oz, the checkpoint has F3 C3 P3"):
        EEGM2Encoder(checkpoint=network).fit(epochs(X, ("O1", "O2", "Oz")))
    described = [{"ch_name": name} for name in CHANNELS[::-1]]
    with pytest.raises(ConfigError, match=r"chs_info: has the order P3 C3 F3, checkpoint .* has F3 C3 P3"):
        EEGM2ForClassification(n_times=64, chs_info=described, checkpoint=str(run))


def test_filters_and_bad_channels_are_told() -> None:
    facts = InputFacts(CHANNELS, 128.0, (0.5, 40.0), whose="it")
    raw = epochs(X, rate=128.0)
    with pytest.warns(PreprocessingWarning, match=r"0 to 64 Hz, it was trained on 0\.5 to 40 Hz; filter"):
        facts.warn_of_filters(raw.info)
    with raw.info._unlock():
        raw.info["highpass"], raw.info["lowpass"] = 0.5, 40.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        facts.warn_of_filters(raw.info)
    raw.info["bads"] = ["C3"]
    with pytest.warns(PreprocessingWarning, match="marked as bad: C3"):
        EEGM2Encoder(width=2).fit(raw)


def test_epochs_in_cross_validation() -> None:
    model = EEGM2Classifier(protocol="linear", width=2)
    np.testing.assert_array_equal(
        cross_val_score(model, epochs(X), Y, cv=2), cross_val_score(model, X * 1e6, Y, cv=2)
    )


def test_features_have_names_and_come_as_a_table() -> None:
    encoder = EEGM2Encoder(width=2).set_output(transform="default")
    assert encoder.fit_transform(X * 1e6).shape == (20, 9 * 8)
    assert list(encoder.get_feature_names_out())[:2] == ["min_000", "min_001"]
    assert len(set(encoder.get_feature_names_out())) == 9 * 8
    covariance = EEGM2Encoder(width=2, features="covariance").fit(X * 1e6)
    assert len(covariance.get_feature_names_out()) == covariance.transform(X * 1e6).shape[1]
    pandas = pytest.importorskip("pandas")
    table = encoder.set_output(transform="pandas").fit_transform(X * 1e6)
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == list(encoder.get_feature_names_out())


@pytest.mark.parametrize("kind", KINDS)
def test_every_column_has_a_name(kind: Features) -> None:
    """Also of networks whose features are not of all channels of the representation."""
    names = ("Fz", "Cz", "Pz", "Oz")
    encoder = EEGM2Encoder(preset="covariance", width=4, features=kind, ch_names=names)
    windows = np.random.default_rng(0).standard_normal((2, len(names), 256))
    made = encoder.fit_transform(windows)
    assert len(set(encoder.get_feature_names_out())) == made.shape[1]


def test_epochs_that_say_nothing_of_their_filter_may_hold_anything() -> None:
    facts = InputFacts(whose="the model", sfreq_hz=128.0, band_hz=(1.0, 30.0))
    for info in ({"highpass": None, "lowpass": None}, {"highpass": 0.0, "lowpass": 0.0}):
        with pytest.warns(UserWarning, match="said to hold 0 to 64 Hz, the model was trained on 1 to 30 Hz"):
            facts.warn_of_filters(info)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        facts.warn_of_filters({"highpass": 1.0, "lowpass": 30.0})


@pytest.mark.parametrize("preset", ["eegm2", "covariance"])
def test_a_list_of_epochs_is_read_as_one_would_be(preset: str) -> None:
    """In the channel order of the first, at its rate; a network of one's own takes the rate of either."""
    x, names = RNG.standard_normal((6, 4, 512)) * 20e-6, ("Fz", "Cz", "Pz", "Oz")
    encoder = EEGM2Encoder(preset=preset, width=4)
    expected = encoder.fit_transform(epochs(x, names, 256.0))
    parts = [epochs(x[:4], names, 256.0), epochs(x[4:, ::-1], names[::-1], 256.0)]
    np.testing.assert_array_equal(encoder.fit_transform(parts), expected)
    with pytest.raises(ConfigError, match="sampled at 128 Hz, the first of the Epochs has 256 Hz; resample"):
        encoder.fit([parts[0], epochs(x, names, 128.0)])
    with pytest.raises(ConfigError, match=r"has channels Fz Cz Pz O1, the first of .* has Fz Cz Pz Oz"):
        encoder.fit([parts[0], epochs(x, ("Fz", "Cz", "Pz", "O1"), 256.0)])
