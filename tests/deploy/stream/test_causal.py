"""Causal preprocessing: any cut gives the same, delays are as stated, scaling is that of training."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import signal as dsp

from eegm2.data.config import PreprocessingConfig
from eegm2.data.signal.filters import band_filter
from eegm2.data.signal.quality import typical_amplitude
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
    np.testing.assert_allclose(
        (x - offset) / (scale + (1e-8 if method != "none" else 0)), expected, rtol=1e-9
    )
    running = RunningScale(method, 128.0, calibration_s=4.0)
    first = running.push(x)
    assert first.shape == ((3, 512) if method == "none" else (3, 0))
    np.testing.assert_allclose(running.push(x), expected, rtol=1e-5, atol=1e-6)


def test_scaling_by_recording_is_one_number_from_the_baseline_and_then_runs() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 512 * 6)) * [[10], [20], [80]]
    fixed = RunningScale("recording", 128.0, calibration_s=8.0)
    moving = RunningScale("recording", 128.0, calibration_s=8.0, adapt_s=8.0)
    y = fixed.push(x)
    expected = np.median([typical_amplitude(x[:, i : i + 512]) for i in (0, 512)])
    assert expected == pytest.approx(20, rel=0.1)
    np.testing.assert_allclose(y, x[:, 1024:] / expected, rtol=1e-6, atol=1e-6)
    moving.push(x)
    moving.push(3 * x)
    assert moving.scale is not None
    assert np.ptp(moving.scale) == 0
    assert expected < moving.scale[0, 0] < 3 * expected


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


@pytest.mark.parametrize("cut", [1, 3, 1000])
@pytest.mark.parametrize("method", ["quantile95", "robust", "zscore", "recording"])
@pytest.mark.parametrize(("window", "baseline"), [(16, 16), (16, 60), (16, 64), (40, 24)])
def test_the_scale_is_the_median_over_the_baselines_windows_and_then_moves_by_whole_ones(
    window: int, baseline: int, method: str, cut: int
) -> None:
    """Written out: windows spread evenly, then ``s ← s (s' / s)^r`` with every factor within 1.5."""
    rate_hz, adapt_s = 8.0, 3.0
    x = np.random.default_rng(1).standard_normal((2, baseline + 5 * window + 3)) * [[10], [30]] + 2
    x[:, baseline + 2 * window :] *= 10  # moves more than it may
    x[:, baseline + 3 * window :] -= 400
    x[:, baseline + 4 * window :] += 900
    running = RunningScale(method, rate_hz, window_s=window / 8, calibration_s=baseline / 8, adapt_s=adapt_s)
    there, parts = 0, []
    for piece in pieces(x, cut):
        assert running.calibrated == (there >= baseline)
        if not running.calibrated:
            assert running.baseline_s == (there / 8, baseline / 8)
        parts.append(running.push(piece))
        there += piece.shape[1]
    length = min(window, baseline)
    count = int(np.ceil(baseline / length))
    starts = [round(i * (baseline - length) / max(count - 1, 1)) for i in range(count)]
    measured = [window_scale(x[:, start : start + length], method) for start in starts]
    offset, scale = (np.median([m[i] for m in measured], axis=0) for i in (0, 1))
    rate, expected = 1 - np.exp(-window / rate_hz / adapt_s), []
    for start in range(baseline, x.shape[1], window):
        now = x[:, start : start + window]
        expected.append((now - offset) / (scale + 1e-8))
        if now.shape[1] == window:
            here, size = window_scale(now, method)
            step = np.clip(here - offset, -scale, scale)
            scale = scale * np.clip(size / scale, 1 / 1.5, 1.5) ** rate
            offset = offset + rate * step
    np.testing.assert_allclose(np.concatenate(parts, axis=1), np.concatenate(expected, axis=1), rtol=1e-5)


@pytest.mark.parametrize("method", ["quantile95", "none"])
def test_a_scale_that_is_given_needs_no_baseline_and_stays_unless_asked(method: str) -> None:
    x = np.random.default_rng(2).standard_normal((2, 50))
    known = np.array([[1.0], [2.0]]), np.array([[10.0], [20.0]])
    for running, expected in (
        (RunningScale(method, 8.0, calibration_s=0, known=known), (x - known[0]) / known[1]),
        (RunningScale(method, 8.0, calibration_s=0, scale_uv=4.0), x / 4),
    ):
        assert running.calibrated
        np.testing.assert_allclose(running.push(x[:, :20]), expected[:, :20], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(running.push(x[:, 20:]), expected[:, 20:], rtol=1e-6, atol=1e-6)
        assert running.baseline_s[0] == 0
    plain = RunningScale("none", 8.0, calibration_s=0, adapt_s=1.0)
    np.testing.assert_allclose(plain.push(x), x, rtol=1e-6)


@pytest.mark.parametrize("given", ["words", "complex", "masked", "whole numbers", "single"])
def test_a_scale_takes_numbers_alone(given: str) -> None:
    made = {
        "words": np.array([["a", "b"]]),
        "complex": np.ones((1, 2), complex),
        "masked": np.ma.masked_array(np.ones((1, 2)), [[True, False]]),
        "whole numbers": np.array([[4, 8]], np.int16),
        "single": np.array([[4, 8]], np.float32),
    }[given]
    running = RunningScale("quantile95", 8.0, scale_uv=4.0)
    if given in ("whole numbers", "single"):
        np.testing.assert_allclose(running.push(made), [[1, 2]], rtol=1e-6)
        return
    with pytest.raises(DataError, match="expected numbers; give a dense array"):
        running.push(made)


SOURCES = ["Cz", "Fz", "Pz", "Oz", "C3", "C4", "EMG"]


@pytest.mark.parametrize(
    ("wanted", "options", "used"),
    [
        (("Cz", "Pz"), {}, {"Cz", "Pz"}),
        (("Fz-Cz",), {}, {"Fz", "Cz"}),
        (("Cz", "Fz", "Pz", "C3"), {"reference": "average"}, {"Cz", "Fz", "Pz", "C3"}),
        (("Cz", "P3"), {"missing": "interpolate"}, {"Cz", "Fz", "Pz", "Oz", "C3", "C4"}),
    ],
    ids=["two", "a pair", "the average", "a neighbour"],
)
def test_what_is_used_is_what_changes_something(
    wanted: tuple[str, ...], options: dict[str, str], used: set[str]
) -> None:
    config = PreprocessingConfig(channels=wanted, sfreq_hz=64.0, h_freq_hz=20.0, **options)  # type: ignore[arg-type]
    x = np.random.default_rng(0).standard_normal((7, 200))

    def answer(x: np.ndarray) -> np.ndarray:
        return CausalPreprocessor(SOURCES, 64.0, config, wanted).push(x)

    made, plain = CausalPreprocessor(SOURCES, 64.0, config, wanted), answer(x)
    moves = set()
    for number, name in enumerate(SOURCES):
        other = x.copy()
        other[number, 50:] += 5
        if not np.array_equal(answer(other), plain):
            moves.add(name)
    assert moves == used == {name for name, u in zip(SOURCES, made.used, strict=True) if u}
    assert {made._names[i] for i in made.electrodes()[1]} == used


@pytest.mark.parametrize("shape", [(7,), (6, 5), (7, 5, 1), (8, 5)])
def test_samples_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    made = CausalPreprocessor(
        SOURCES, 64.0, PreprocessingConfig(sfreq_hz=64.0, h_freq_hz=20.0), ("Cz",), where="amp"
    )
    with pytest.raises(DataError, match=rf"amp: .*{re.escape(str(shape))}|amp: push"):
        made.push(np.zeros(shape))
