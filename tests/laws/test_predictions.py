"""Laws of predictions: what a head was learnt with it is asked with, and its answer is told as it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch

from eegm2.data.config import PreprocessingConfig, WindowConfig
from eegm2.data.windows.scaling import scale_window
from eegm2.deploy.config import ExportConfig, StreamConfig
from eegm2.deploy.device.scale import RunningScale
from eegm2.deploy.export import check
from eegm2.deploy.export.bundle import bundle_facts
from eegm2.deploy.export.packing import unpacked
from eegm2.deploy.heads.decisions import rule_of
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.heads.windowed import WindowedHead, is_windowed, windowed_head
from eegm2.deploy.live.pipeline import Pipeline, centring, scaled
from eegm2.deploy.predict.classifier import Classifier
from eegm2.deploy.predict.flags import recording_warnings
from eegm2.deploy.predict.reaction import reactions
from eegm2.deploy.predict.recording import _answers
from eegm2.deploy.predict.tables import recording_table, window_table
from eegm2.deploy.stream.causal import CausalPreprocessor
from eegm2.deploy.trained_model import TrainedModel
from tests.deploy.helpers import network

NAMES, RATE_HZ = ("Fz", "Cz", "Pz"), 128.0


def classifier(classes: tuple[str, ...] = ("a", "b"), **facts: Any) -> Classifier:
    checkpoint: Any = SimpleNamespace(windows=WindowConfig(window_s=4.0, scaling="quantile95"))
    return Classifier(checkpoint, classes, facts, None, None, "linear", "0")


def test_windows_are_cut_and_scaled_as_the_heads_were() -> None:
    assert classifier(scaling="zscore", window_s=3.0).windows == WindowConfig(window_s=3.0, scaling="zscore")
    assert classifier().windows == WindowConfig(window_s=4.0, scaling="quantile95")


@pytest.mark.parametrize(("asked", "cut"), [(None, 0.3), (0.8, 0.8)])
def test_a_recording_is_decided_as_its_windows_are(asked: float | None, cut: float) -> None:
    p = np.array([0.1, 0.35, 0.9, 0.62])
    each, whole = _answers(classifier(threshold=0.3), np.stack([1 - p, p], 1), asked)
    assert [row["decision"] for row in each] == ["b" if one >= cut else "a" for one in p]
    assert whole["decision"] == ("b" if p.mean() >= cut else "a")
    assert whole["shares"] == {"a": np.mean(p < cut), "b": np.mean(p >= cut)}
    assert whole["probabilities"] == pytest.approx([1 - p.mean(), p.mean()])


def test_the_spread_of_a_value_is_that_of_its_windows() -> None:
    values = np.array([[30.0], [40.0], [65.0]])
    each, whole = _answers(classifier(()), values, None)
    assert whole == pytest.approx({"value": 45.0, "value_sd": np.std(values)}, abs=1e-5)
    assert [row["value"] for row in each] == [30.0, 40.0, 65.0]


def test_a_column_holds_the_probability_of_the_class_it_names() -> None:
    answer = {"probabilities": [0.5, 0.2, 0.3], "decision": "z"}
    model = {"classes": ["z", "a", "m"]}
    row = {"start_s": 0.0, "stop_s": 2.0, "label": "", "flags": [], **answer}
    facts = {
        **dict.fromkeys(("recording", "subject", "session", "source"), "x"),
        **answer, "duration_s": 2.0, "shares": {"z": 1.0, "a": 0.0, "m": 0.0}, "n_windows": 1, "n_flagged": 0,
        "warnings": [], "quality": {}, "windows": [row],
    }  # fmt: skip
    for table in (recording_table([facts], model), window_table([facts], model)):
        (found,) = table
        assert {name: found[f"p_{name}"] for name in "zam"} == {"z": 0.5, "a": 0.2, "m": 0.3}
    assert recording_table([facts], model)[0]["share_z"] == 1.0


class Alpha(Classifier):
    """Takes the power of alpha in the first channel for the second class."""

    def features(self, x: np.ndarray, *_: Any) -> np.ndarray:
        power = np.abs(np.fft.rfft(x[:, 0]))[:, 20]
        return power[:, None] / 100

    def probabilities(self, x: Any, features: Any, *_: Any) -> np.ndarray:
        p = 1 / (1 + np.exp(1 - features))
        return np.concatenate([1 - p, p], axis=1)


def test_what_speaks_for_a_class_is_positive_for_it() -> None:
    t = np.arange(256) / RATE_HZ
    x = 0.1 * np.random.default_rng(0).standard_normal((4, 5, 256))
    x[:, 0] += np.sin(2 * np.pi * 10 * t)
    own = classifier(scaling="none")
    model = Alpha(own.checkpoint, own.classes, own.facts, None, None, "", "")
    bands = {"theta": (4.0, 8.0), "alpha": (8.0, 13.0)}
    found = reactions(
        model, x.astype(np.float32), np.ones(4), None, ("Fz", "Cz", "Pz", "C3", "C4"), 128, bands
    )
    channels, rhythms = np.array(found["channels"]), np.array(found["bands"])
    assert channels.shape == (2, 5)
    assert channels[1, 0] > 0.5
    assert rhythms[1, 1] > 0.3
    np.testing.assert_allclose(channels[:, 1:], 0, atol=1e-3)
    np.testing.assert_allclose(rhythms[:, 0], 0, atol=1e-3)
    np.testing.assert_allclose(channels[0], -channels[1], atol=1e-3)


@pytest.mark.parametrize(("typical", "warned"), [(1.0, True), (4.0, False), (50.0, False), (95.0, True)])
def test_an_amplitude_far_from_those_learnt_from_is_noted(typical: float, warned: bool) -> None:
    info: Any = SimpleNamespace(quality={}, sfreq_hz=128.0, ch_names=NAMES, subject="new")
    own = classifier(range={"typical_uv": [10.0, 30.0]})
    assert bool(recording_warnings(info, typical, 0.5, own, ())) == warned


@pytest.mark.parametrize("n_times", [0, 256])
@pytest.mark.parametrize("calibration_s", [None, 20.0])
def test_a_head_that_was_fitted_as_streamed_is_no_head_of_windows(
    n_times: int, calibration_s: float | None
) -> None:
    """A probe tells its samples, a head of a stream its baseline; with both it is of a stream."""
    facts = {"n_times": n_times} if n_times else {}
    facts |= {"calibration_s": calibration_s} if calibration_s else {}  # type: ignore[dict-item]
    assert is_windowed(facts) == bool(n_times and not calibration_s)
    head = head_of()
    head.facts = facts
    made = windowed_head(network("light"), head, None, classes=head.classes, facts=facts)
    assert isinstance(made, WindowedHead) == is_windowed(facts)
    assert (made is head) != is_windowed(facts)


@pytest.mark.parametrize("reference", ["average", "none"])
def test_a_stream_has_the_reference_of_the_store(reference: str) -> None:
    """The mean over the channels that the model has is taken off, of whatever else the device sends."""
    kinds = get_args(get_type_hints(PreprocessingConfig)["reference"])
    kind = "average" if reference == "average" else next(one for one in kinds if one != "average")
    config = PreprocessingConfig(channels=NAMES, reference=kind, l_freq_hz=0, h_freq_hz=0)
    causal = CausalPreprocessor(["Pz", "Oz", "Fz", "Cz"], RATE_HZ, config, NAMES)
    x = np.array([[5.0], [100.0], [-3.0], [0.5]]) + np.random.default_rng(0).standard_normal((4, 32))
    expected = x[[2, 3, 0]]
    if reference == "average":
        expected = expected - expected.mean(0)
    np.testing.assert_allclose(causal.push(x), expected, atol=1e-5)


@pytest.mark.parametrize("offset", ["remove", "keep"])
@pytest.mark.parametrize("l_freq_hz", [0.0, 1.0])
def test_only_what_is_taken_off_offline_is_taken_off_a_stream(offset: Any, l_freq_hz: float) -> None:
    """An offset that is to be removed is the first sample's; without a high-pass it stays."""
    config = PreprocessingConfig(channels=NAMES, l_freq_hz=l_freq_hz, h_freq_hz=0, offset=offset)
    causal = CausalPreprocessor(list(NAMES), RATE_HZ, config, NAMES)
    x = np.full((3, 32), 1000.0)
    x[:, 16:] += 1
    begun = causal.push(x)
    assert causal.from_zero == (offset == "remove" and l_freq_hz > 0)
    if not l_freq_hz:
        np.testing.assert_allclose(begun, x, rtol=1e-6)
    elif offset == "remove":
        np.testing.assert_allclose(begun[:, :16], 0, atol=1e-6)
    else:
        gain = abs(causal.filter.response(np.zeros(1))[0])
        np.testing.assert_allclose(begun[:, :16], 1000 * gain, atol=1e-3)


@pytest.mark.parametrize("scaling", ["zscore", "robust", "none"])
def test_a_window_of_a_stream_is_scaled_as_those_learnt_from(scaling: Any) -> None:
    seen: list[np.ndarray] = []

    class Network(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.numpy())
            return torch.zeros(1, 2)

    x = 20 + 7 * np.random.default_rng(0).standard_normal((3, 256))
    WindowedHead(Network(), ("a", "b"), {"n_times": 256, "scaling": scaling}).features(x)
    np.testing.assert_allclose(seen[0][0], scale_window(x, scaling), atol=1e-4)


FACTS: dict[str, Any] = {
    "scaling": "zscore", "window_s": 3.0, "hop_s": 1.0, "calibration_s": 21.0, "adapt_s": 33.0,
    "features": "statistics", "centre": "running", "warm_up": 7, "threshold": 0.4,
}  # fmt: skip


def trained(**preprocessing: Any) -> TrainedModel:
    config = PreprocessingConfig(channels=NAMES, **preprocessing)
    return TrainedModel(network("light"), NAMES, RATE_HZ, "quantile95", 2.0, config, "m", "0")


def head_of(**facts: Any) -> DenseHead:
    return DenseHead(
        np.zeros(288), np.ones(288), [(np.ones((2, 288)), np.zeros(2))], ("a", "b"), facts={**FACTS, **facts}
    )


def test_stream_and_device_do_what_the_head_was_fitted_with() -> None:
    """Scaling, window, baseline, adaption, centring and threshold are the head's, not the model's."""
    model, head = trained(), head_of()
    made = bundle_facts(model, head, ExportConfig())
    how = scaled(model, StreamConfig(), head)
    for name in ("scaling", "window_s", "calibration_s", "adapt_s", "features", "centre", "warm_up", "hop_s"):
        assert made[name] == FACTS[name], name
    for name in ("window_s", "calibration_s", "adapt_s", "features"):
        assert getattr(how, name) == FACTS[name], name
    assert how.method == "zscore"
    assert made["rule"] == rule_of(FACTS, ExportConfig())
    assert made["rule"]["threshold"] == 0.4
    centre = centring(StreamConfig(), head, 12)
    assert centre is not None
    assert (centre.mean.warm_up, centre.window_steps) == (7, 12)
    own = rule_of({"enter": 0.8, "leave": 0.7}, StreamConfig())
    assert (own["enter"], own["leave"]) == (0.8, 0.7)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_a_declared_scale_is_applied_wherever_a_signal_comes_from(scale: float) -> None:
    """In a stream and on a device, once: both see the microvolts that a store has."""
    config = PreprocessingConfig(channels=NAMES, scale=scale, l_freq_hz=0, h_freq_hz=0)
    causal = CausalPreprocessor(list(NAMES), RATE_HZ, config, NAMES)
    x = np.random.default_rng(0).standard_normal((3, 64))
    np.testing.assert_allclose(causal.push(x), scale * x, rtol=1e-5)
    matrix = unpacked(bundle_facts(trained(scale=scale), head_of(), ExportConfig())["matrix"])
    np.testing.assert_allclose(matrix, scale * np.eye(3))


def test_the_delays_of_a_stream_add_up() -> None:
    pipeline = Pipeline(trained(), StreamConfig(scale_uv=20.0, calibration_s=0.0))
    source: Any = SimpleNamespace(ch_names=list(NAMES), sfreq_hz=250.0, name="source")
    pipeline.connect(source)
    told = pipeline.latency_s()
    assert min(told["filter_s"], told["resampling_s"], told["network_s"]) > 0
    assert told["total_s"] == pytest.approx(told["filter_s"] + told["resampling_s"] + told["network_s"])


def test_an_export_is_as_far_off_as_at_its_worst_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "CHECKED", ((1, 8), (1, 16), (1, 24)))
    monkeypatch.setattr(check, "_expected", lambda model, part, x: {"y": x.numpy()})
    part: Any = SimpleNamespace(name="encoder")
    model: Any = SimpleNamespace(config=SimpleNamespace(step_samples=8, n_chans=2))

    def run(x: np.ndarray) -> dict[str, np.ndarray]:
        y = x.copy()
        if x.shape[2] == 16:
            y.flat[np.abs(x).argmax()] *= 1.25
        return {"y": y}

    assert check.compare(part, model, run)[0] == pytest.approx(0.25, rel=1e-5)


def test_a_scale_follows_later_windows_as_fast_as_it_was_told() -> None:
    rng = np.random.default_rng(0)
    scale = RunningScale("zscore", 64.0, window_s=1.0, calibration_s=4.0, adapt_s=5.0)
    scale.push(rng.standard_normal((1, 256)))
    assert scale.scale is not None
    before = scale.scale.copy()
    scale.push(1.2 * rng.standard_normal((1, 64 * 50)))
    assert float((scale.scale / before)[0, 0]) == pytest.approx(1.2, rel=0.1)
