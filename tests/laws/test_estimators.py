"""Laws of estimators: they are the protocols behind another signature, whatever unit or scale comes in."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import mne
import numpy as np
import pytest
import torch

from eegm2.data.windows.scaling import scale_window
from eegm2.errors import ConfigError
from eegm2.evaluation.config import FitConfig
from eegm2.evaluation.estimators.base import Learner
from eegm2.evaluation.estimators.braindecode import EEGM2ForClassification
from eegm2.evaluation.estimators.input_facts import InputFacts, PreprocessingWarning
from eegm2.evaluation.estimators.sklearn import EEGM2Classifier, EEGM2Encoder, EEGM2Regressor
from eegm2.evaluation.protocols.frozen import light_probe, linear_probe
from eegm2.evaluation.protocols.modes import run_protocol
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from eegm2.model.config import EEGM2Config
from eegm2.model.features import feature_views, n_features
from eegm2.model.network import build_model
from tests.evaluation.helpers import labelled_arrays, tiny_model

RNG = np.random.default_rng(21)
N, WHO = 60, np.repeat([f"s{i}" for i in range(6)], 10)
SHAPE = EEGM2Config.preset("covariance", n_chans=4, width=2, n_virtual=0, sfreq_hz=64.0)
TARGETS: dict[str, Any] = {
    "2": np.tile([0, 1], N // 2), "3": np.tile([2, 0, 1], N // 3), "value": 30 + 7 * RNG.standard_normal(N)
}  # fmt: skip
SHORT: dict[str, Any] = {"lr": 3e-3, "max_epochs": 3, "patience": 5, "batch_size": 16}


def knowing(table: np.ndarray, kind: str, **options: Any) -> Any:
    """Return an estimator that has the features of every window; a window holds its own number."""
    base: Any = EEGM2Regressor if kind == "value" else EEGM2Classifier

    class Knowing(base):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)

        def _frozen_features(self, windows: np.ndarray) -> np.ndarray:
            return table[windows[:, 0, 0].astype(int)]

        def _network(self, n_chans: int, seed: int) -> Any:
            return SimpleNamespace(config=SHAPE)

    return Knowing(scaling="none", **options)


def numbered(n: int = N) -> np.ndarray:
    return np.repeat(np.arange(n, dtype=float)[:, None, None], 8, axis=2)


def answers(estimator: Any, x: np.ndarray) -> np.ndarray:
    return estimator.predict_proba(x) if hasattr(estimator, "predict_proba") else estimator.predict(x)


def table_of(kind: str, n_columns: int) -> np.ndarray:
    told = TARGETS[kind] - np.mean(TARGETS[kind])
    table = RNG.standard_normal((N, n_columns)) * RNG.uniform(0.2, 5, n_columns) + RNG.uniform(
        -9, 9, n_columns
    )
    table[:, 0] += told
    return table


def split_of(estimator: Learner, y: np.ndarray, groups: np.ndarray) -> Split:
    n_classes = 0 if y.dtype.kind == "f" else len(np.unique(y))
    train, val = estimator._validation_part(y, n_classes, groups, 3)
    assert not set(groups[train]) & set(groups[val])
    return Split(train, val, np.arange(len(y)))


def as_data(x: np.ndarray, y: np.ndarray, who: np.ndarray) -> LabelledWindows:
    classes = () if y.dtype.kind == "f" else tuple("abc"[: len(np.unique(y))])
    return LabelledWindows.from_arrays(x, y, who, classes=classes)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("protocol", ["linear", "light"])
def test_an_estimator_of_frozen_features_is_the_probe_of_them(protocol: str, kind: str) -> None:
    """Standardised by those that it learns from, in fitting as in asking."""
    table, y = table_of(kind, 5), TARGETS[kind]
    estimator = knowing(table, kind, protocol=protocol, random_state=3, validation=0.4, C=0.2, **SHORT)
    estimator.fit(numbered(), y, groups=WHO)
    data, split = as_data(numbered(), y, WHO), split_of(estimator, y, WHO)
    if protocol == "light":
        expected = light_probe(table, data, split, seed=3, config=FitConfig(**SHORT)).score
    else:
        expected = linear_probe(table, data, Split(split.test, split.val, split.test), c=0.2).score
    np.testing.assert_allclose(answers(estimator, numbered()), expected, rtol=1e-4, atol=1e-5)
    some = np.array([5, 1, 40])
    np.testing.assert_allclose(answers(estimator, numbered()[some]), expected[some], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["2", "value"])
@pytest.mark.parametrize("c", [1.0, "people"])
def test_an_estimator_trusts_views_as_the_probe_does(c: Any, kind: str) -> None:
    """Of the covariance preset's features: alike, or as far as people left out say."""
    feature = "tangent_spread_state"
    views = feature_views(feature, SHAPE)
    assert len(views) > 1
    table, y = table_of(kind, n_features(feature, SHAPE)), TARGETS[kind]
    estimator = knowing(table, kind, protocol="linear", features=feature, C=c)
    estimator.fit(numbered(), y, groups=WHO)
    every, nobody = np.arange(N), np.arange(0)
    split = Split(every, nobody if c == "people" else every, every)
    probe = linear_probe(table, as_data(numbered(), y, WHO), split, c=c, views=views)
    np.testing.assert_allclose(answers(estimator, numbered()), probe.score, rtol=1e-4, atol=1e-6)
    plain = linear_probe(table, as_data(numbered(), y, WHO), split, c=c)
    assert np.abs(plain.score - probe.score).max() > 1e-3, "views are something here"


@pytest.mark.parametrize("kind", ["2", "value"])
@pytest.mark.parametrize("protocol", ["fine", "scratch"])
def test_an_estimator_of_a_whole_network_is_the_protocol(protocol: str, kind: str) -> None:
    data = labelled_arrays(per_subject=6)
    y = data.y if kind == "2" else 30.0 + 5 * data.y + np.random.default_rng(0).random(len(data))
    base: Any = EEGM2Classifier if kind == "2" else EEGM2Regressor
    how: dict[str, Any] = {
        **SHORT,
        "head": "statistics",
        "layer_decay": 0.5,
        "freeze": ("network.encoder.conv3",),
    }
    estimator = base(tiny_model(), protocol=protocol, scaling="none", random_state=3, validation=0.4, **how)
    estimator.fit(data.x, y, groups=data.subject)
    split = split_of(estimator, y, data.subject)
    made = run_protocol(
        protocol, as_data(data.x, y, data.subject), split, model=tiny_model(), seed=3, config=FitConfig(**how)
    )
    np.testing.assert_allclose(answers(estimator, data.x), made.score, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("protocol", ["linear", "light"])
@pytest.mark.parametrize("kind", ["2", "value"])
def test_units_of_features_and_of_a_value_change_nothing(kind: str, protocol: str) -> None:
    table, y = table_of(kind, 4), TARGETS[kind]
    options: dict[str, Any] = {"protocol": protocol, "validation": 0.4, **SHORT}
    usual = answers(knowing(table, kind, **options).fit(numbered(), y, groups=WHO), numbered())
    other = table * [1000.0, 0.01, 1.0, -3.0] + [0.0, 5.0, -40.0, 1.0]
    if protocol == "light":
        other[:, 3] = table[:, 3]  # a perceptron's weights are not drawn alike for either sign
    found = answers(knowing(other, kind, **options).fit(numbered(), y, groups=WHO), numbered())
    np.testing.assert_allclose(found, usual, rtol=2e-3, atol=2e-4)
    if kind == "value":
        fahrenheit = answers(
            knowing(table, kind, **options).fit(numbered(), 1.8 * y + 32, groups=WHO), numbered()
        )
        np.testing.assert_allclose(fahrenheit, 1.8 * usual + 32, rtol=1e-4)


@pytest.mark.parametrize("scaling", ["none", "zscore", "robust", "quantile95"])
def test_a_module_scales_its_windows_itself(scaling: Any) -> None:
    x = (20 * RNG.standard_normal((3, 3, 64)) + np.array([[5.0], [0.0], [-30.0]])).astype(np.float32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = EEGM2ForClassification(3, 64, 2, width=2, scaling=scaling).eval()
    with torch.no_grad():
        features = module.body(torch.from_numpy(np.ascontiguousarray(scale_window(x, scaling))))
        torch.testing.assert_close(module(torch.from_numpy(x)), module.final_layer(features))


@pytest.mark.parametrize("head", ["flatten", "statistics", "attention"])
@pytest.mark.parametrize("drop", [0.0, 0.35])
def test_dropout_is_the_one_asked_for(drop: float, head: Any) -> None:
    module = EEGM2ForClassification(3, 64, 2, width=2, head=head, drop_prob=drop)
    found = {m.p for m in module.body.head.modules() if isinstance(m, torch.nn.Dropout)}
    assert found == {drop}


def test_facts_of_a_header_are_where_they_belong() -> None:
    header = {
        "ch_names": ["Fz", "Cz"], "sfreq_hz": 200, "windows": {"scaling": "robust", "window_s": 3.0},
        "preprocessing": {"l_freq_hz": 0.5, "h_freq_hz": 45.0, "notch_hz": 50.0},
    }  # fmt: skip
    assert InputFacts.of_header(header, "it") == InputFacts(("Fz", "Cz"), 200.0, (0.5, 45.0), "robust", "it")
    assert InputFacts.of_header({}, "it") == InputFacts((), 0.0, (0.0, 0.0), "", "it")


@pytest.mark.parametrize(
    ("highpass", "lowpass", "rate_hz", "told"),
    [
        (1.0, 40.0, 128.0, False),
        (0.5, 40.0, 128.0, False),
        (0.49, 40.0, 128.0, True),
        (1.0, 50.0, 128.0, False),
        (1.0, 50.1, 128.0, True),
        (1.0, 0.0, 128.0, True),
        (1.0, 0.0, 90.0, False),
        (30.0, 35.0, 128.0, False),
    ],
)
def test_what_was_filtered_out_in_training_is_told(
    highpass: float, lowpass: float, rate_hz: float, told: bool, recwarn: pytest.WarningsRecorder
) -> None:
    """Of a network trained on 1 to 40 Hz: what begins below a half of it, or ends a quarter above."""
    facts = InputFacts(("Fz",), rate_hz, (1.0, 40.0), "", "it")
    facts.warn_of_filters({"highpass": highpass, "lowpass": lowpass})
    assert [w.category for w in recwarn] == ([PreprocessingWarning] if told else [])


def test_no_edge_that_training_did_not_have_is_told(recwarn: pytest.WarningsRecorder) -> None:
    for band, info in (((0.0, 40.0), (0.0, 40.0)), ((1.0, 0.0), (1.0, 64.0)), ((0.0, 0.0), (0.0, 64.0))):
        InputFacts(("Fz",), 128.0, band, "", "it").warn_of_filters({"highpass": info[0], "lowpass": info[1]})
    assert not list(recwarn)


@pytest.mark.parametrize(
    ("seconds", "rate_hz", "n_times"),
    [(0.29, 100.0, 29), (2.0, 32.0, 64), (0.57, 100.0, 57), (0.254, 100.0, 25)],
)
def test_seconds_of_a_window_are_the_nearest_samples(seconds: float, rate_hz: float, n_times: int) -> None:
    module = EEGM2ForClassification(3, None, 2, rate_hz, input_window_seconds=seconds, width=2)
    assert module.n_times == module.get_config()["n_times"] == n_times
    assert module(torch.zeros(1, 3, n_times)).shape == (1, 2)


def test_probabilities_are_those_of_logits_however_large() -> None:
    logits = np.array([[2000.0, 1999.0, 0.0], [-3000.0, -3000.0, -3001.0], [0.0, 0.0, 0.0]])
    estimator = EEGM2Classifier(protocol="fine")
    estimator.model_, estimator.classes_ = None, np.array(["a", "b", "c"])
    estimator._outputs = lambda X: logits  # type: ignore[method-assign]
    e = np.e
    expected = [
        [e / (e + 1), 1 / (e + 1), 0],
        [e / (2 * e + 1), e / (2 * e + 1), 1 / (2 * e + 1)],
        [1 / 3] * 3,
    ]
    np.testing.assert_allclose(estimator.predict_proba(None), expected, atol=1e-12)
    assert estimator.predict(None).tolist() == ["a", "a", "a"]


@pytest.mark.parametrize(("preset", "width"), [("eegm2", 3), ("light", 2), ("unet", 2), ("covariance", 4)])
@pytest.mark.parametrize(("rate_hz", "seed"), [(None, 0), (200.0, 5)])
def test_a_network_of_ones_own_has_the_shape_rate_and_seed_that_are_asked(
    preset: str, width: int, rate_hz: float | None, seed: int
) -> None:
    """Arrays have no rate of their own, Epochs have."""
    names = ["Fz", "Cz", "Pz", "Oz", "C3"]
    x: Any = 20e-6 * RNG.standard_normal((3, 5, 256))
    if rate_hz is not None:
        x = mne.EpochsArray(x, mne.create_info(names, rate_hz, "eeg"), verbose="error")
    encoder = EEGM2Encoder(preset=preset, width=width, random_state=seed, ch_names=names).fit(x)
    shape = EEGM2Config.preset(preset, n_chans=5, width=width)
    if preset == "covariance" and rate_hz is not None:
        shape = shape.replace(sfreq_hz=rate_hz)
    assert encoder.network_.config == shape
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        expected = dict(build_model(shape).named_parameters())
    for name, parameter in encoder.network_.named_parameters():
        torch.testing.assert_close(parameter, expected[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("preset", ["eegm2", "covariance"])
@pytest.mark.parametrize("rate_hz", [None, 200.0])
def test_a_module_of_ones_own_has_the_shape_and_rate_that_are_asked(
    preset: str, rate_hz: float | None
) -> None:
    described = [{"ch_name": name} for name in ("Fz", "Cz", "Pz", "Oz", "C3")]
    module = EEGM2ForClassification(
        n_times=256, n_outputs=3, sfreq=rate_hz, chs_info=described, preset=preset, width=4, head="statistics"
    )
    shape = EEGM2Config.preset(preset, n_chans=5, width=4)
    if preset == "covariance" and rate_hz is not None:
        shape = shape.replace(sfreq_hz=rate_hz)
    assert module.body.network.config == shape
    for n_outputs in (3, 5, 1):
        if n_outputs != 3:
            module.reset_head(n_outputs)
        assert module.n_outputs == module.get_config()["n_outputs"] == n_outputs
        assert module(torch.zeros(2, 5, 256)).shape == (2, n_outputs)
        again = EEGM2ForClassification.from_config(module.get_config())
        assert again.body.network.config == shape
        again.load_state_dict(module.state_dict())


@pytest.mark.parametrize(
    ("rate_hz", "refused"), [(200.0, False), (200.0005, False), (200.01, True), (199.9, True)]
)
def test_another_rate_is_refused_to_a_thousandth_of_a_hertz(rate_hz: float, refused: bool) -> None:
    facts = InputFacts(("Fz",), 200.0, whose="it")
    with pytest.raises(ConfigError, match="X: sampled at") if refused else contextlib.nullcontext():
        facts.refuse_rate(rate_hz)
    InputFacts().refuse_rate(rate_hz)
