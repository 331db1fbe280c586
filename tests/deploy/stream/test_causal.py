"""Causal preprocessing: any cut gives the same, delays are as stated, scaling is that of training."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal as dsp

from eegm2.data.config import PreprocessingConfig
from eegm2.data.signal.filters import band_filter
from eegm2.data.windows.scaling import scale_window
from eegm2.deploy.device.decisions import DecisionRule
from eegm2.deploy.device.scale import RunningScale, window_scale
from eegm2.deploy.stream.causal import CausalPreprocessor, StreamingResampler, causal_filter
from eegm2.errors import ConfigError, DataError
from tests.deploy.helpers import cuts


def pieces(x: np.ndarray, size: int | None) -> list[np.ndarray]:
    return np.split(x, np.cumsum(cuts(x.shape[1], size))[:-1], axis=1)


@pytest.mark.parametrize("size", [1, 7, 64, None])
@pytest.mark.parametrize("rates", [(250, 128), (256, 128), (128, 128), (100, 128), (500.5, 128)])
def test_resampling_in_any_cut_is_scipys(rates: tuple[float, float], size: int | None) -> None:
    x = np.random.default_rng(0).standard_normal((2, 400 if size == 1 else 1501))
    resampler = StreamingResampler(*rates)
    y = np.concatenate([*(resampler.push(part) for part in pieces(x, size)), resampler.flush()], axis=1)
    expected = dsp.resample_poly(x, resampler.up, resampler.down, axis=1)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [1, 13, None])
def test_the_filter_in_any_cut_is_one_pass_and_causal(size: int | None) -> None:
    config = PreprocessingConfig(notch_hz=50.0)
    x = np.random.default_rng(0).standard_normal((3, 700)).cumsum(1)
    whole = causal_filter(config, 250.0)[0].push(x)
    one = causal_filter(config, 250.0)[0]
    np.testing.assert_allclose(
        np.concatenate([one.push(p) for p in pieces(x, size)], axis=1), whole, atol=1e-9
    )
    prefix = causal_filter(config, 250.0)[0].push(x[:, :300])
    np.testing.assert_allclose(prefix, whole[:, :300], atol=1e-9)
    sos, _ = band_filter(config, 250.0)
    assert causal_filter(PreprocessingConfig(), 250.0)[0].sos == pytest.approx(sos)


@pytest.mark.parametrize("frequency_hz", [4.0, 10.0, 25.0])
def test_the_delay_of_a_burst_is_the_stated_one(frequency_hz: float) -> None:
    config = PreprocessingConfig(channels=("Cz",))
    preprocessor = CausalPreprocessor(["Cz"], 500.0, config, ("Cz",))
    t = np.arange(0, 12, 1 / 500)
    envelope = np.exp(-((t - 6) ** 2) / (2 * 0.6**2))
    y = preprocessor.push((envelope * np.sin(2 * np.pi * frequency_hz * t))[None])[0]
    power = np.abs(dsp.hilbert(y)) ** 2
    times = np.arange(len(y)) / 128
    centre = (times * power).sum() / power.sum()
    assert centre - 6 == pytest.approx(preprocessor.filter.delay_s(frequency_hz), abs=0.004)
    waits = preprocessor.resampler.delay_s
    assert len(y) / 128 == pytest.approx(12 - waits, abs=0.02)
    assert preprocessor.delay_s(frequency_hz) == pytest.approx(waits + centre - 6, abs=0.004)


def test_channels_are_found_by_name_whatever_their_order() -> None:
    config = PreprocessingConfig(l_freq_hz=0, h_freq_hz=0, channels=("F7-T7", "Cz"))
    x = np.random.default_rng(0).standard_normal((4, 50))
    preprocessor = CausalPreprocessor(["EEG CZ-REF", "T3", "EOG", "Fp7"], 128.0, config, ("Cz",))
    np.testing.assert_allclose(preprocessor.push(x), x[:1], rtol=1e-6)
    bipolar = CausalPreprocessor(["Cz", "T3", "F7", "ECG"], 128.0, config, ("F7-T7", "Cz"))
    np.testing.assert_allclose(bipolar.push(x), [x[2] - x[1], x[0]], rtol=1e-5)
    with pytest.raises(DataError, match=r"headset: missing 1 of 1 channels: Pz .*has Cz T7 F7"):
        CausalPreprocessor(["Cz", "T3", "F7"], 128.0, config, ("Pz",), where="headset")
    with pytest.raises(ConfigError, match="rate is 100 Hz, expected at least the model's 128 Hz"):
        CausalPreprocessor(["Cz"], 100.0, config, ("Cz",))
    with pytest.raises(DataError, match=r"got shape \(2, 50\), expected \(4, samples\)"):
        bipolar.push(x[:2])
    x[2, 3] = np.nan
    with pytest.raises(DataError, match="channel 0 of the montage has values that are not numbers"):
        bipolar.push(x)
    x[:] = 0
    x[3] = np.nan  # a channel that nobody wants may hold anything
    assert np.isfinite(bipolar.push(x)).all()


@pytest.mark.parametrize("method", ["quantile95", "robust", "zscore", "none"])
def test_one_window_of_baseline_scales_as_training_does(method: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 512)) * [[10], [20], [5]] + 3
    offset, scale = window_scale(x, method)
    expected = scale_window(x, method)
    np.testing.assert_allclose((x - offset) / scale, expected, rtol=1e-12)
    running = RunningScale(method, 128.0, calibration_s=4.0)
    first = running.push(x)
    assert first.shape == ((3, 512) if method == "none" else (3, 0))
    np.testing.assert_allclose(running.push(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [7, 100, None])
def test_artefacts_in_the_baseline_do_not_move_the_scale_and_cuts_do_not_matter(size: int | None) -> None:
    rng = np.random.default_rng(0)
    x = 10 * rng.standard_normal((2, 128 * 80))
    spoilt = x.copy()
    spoilt[:, 1000:3000] += 5000
    scales = []
    for signal in (x, spoilt):
        running = RunningScale("quantile95", 128.0)
        y = np.concatenate([running.push(p) for p in pieces(signal, size)], axis=1)
        assert y.shape[1] == 128 * 20
        scales.append(running.scale)
    np.testing.assert_allclose(scales[1], scales[0], rtol=0.05)
    np.testing.assert_allclose(scales[0], 19.6, rtol=0.05)


def test_the_scale_follows_slowly_if_asked_to() -> None:
    x = 10 * np.random.default_rng(0).standard_normal((1, 128 * 200))
    x[:, 128 * 60 :] *= 2
    fixed, moving = RunningScale("quantile95", 128.0), RunningScale("quantile95", 128.0, adapt_s=20.0)
    fixed.push(x)
    for part in pieces(x, 100):
        moving.push(part)
    assert fixed.scale.item() == pytest.approx(19.6, rel=0.05)
    assert moving.scale.item() == pytest.approx(39.2, rel=0.05)


def test_a_flat_baseline_and_missing_scales_are_refused() -> None:
    x = np.random.default_rng(0).standard_normal((2, 128 * 60))
    x[1] = 0
    with pytest.raises(DataError, match="baseline: channel 1 is flat"):
        RunningScale("quantile95", 128.0).push(x)
    with pytest.raises(ConfigError, match="calibration_s: got 0 without a scale"):
        RunningScale("quantile95", 128.0, calibration_s=0)
    with pytest.raises(ConfigError, match="scaling: got 'median'"):
        window_scale(x, "median")
    known = RunningScale("quantile95", 128.0, calibration_s=0, scale_uv=50.0)
    np.testing.assert_allclose(known.push(x[:1] * 50), x[:1], rtol=1e-5)


def test_decisions_are_smoothed_and_sticky() -> None:
    rule = DecisionRule(smooth=0.5, enter=0.65, leave=0.4)
    up = [rule.push(np.array([1 - p, p])) for p in (0.5, 0.9, 0.9, 0.9)]
    assert up == [None, 1, 1, 1]
    assert rule.probabilities == pytest.approx([0.15, 0.85])
    down = [rule.push(np.array([0.55, 0.45])) for _ in range(6)]
    assert down == [1] * 6, "0.45 lies above leave, so the decision is kept"
    assert [rule.push(np.array([1.0, 0.0])) for _ in range(3)][-1] == 0
    rule.reset()
    assert rule.push(np.array([0.5, 0.5])) is None
    with pytest.raises(ConfigError, match=r"smooth, enter, leave: got 0\.0, 0\.4, 0\.5"):
        DecisionRule(enter=0.4, leave=0.5)


@pytest.mark.parametrize(("asked_s", "window_s"), [(10.0, 4.0), (6.0, 4.0), (8.0, 4.0), (1.5, 4.0)])
def test_the_baseline_is_as_long_as_asked(asked_s: float, window_s: float) -> None:
    x = 20 * np.random.default_rng(0).standard_normal((2, 2000))
    scale = RunningScale("quantile95", 128.0, window_s=window_s, calibration_s=asked_s)
    n = round(asked_s * 128)
    assert scale.baseline_s == (0.0, asked_s)
    assert scale.push(x[:, : n - 1]).shape[1] == 0
    assert scale.push(x[:, n - 1 : n + 9]).shape[1] == 9
    np.testing.assert_allclose(scale.scale, 20 * 1.96, rtol=0.2)
