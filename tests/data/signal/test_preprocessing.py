"""The declared preprocessing: the paper's band, exact resampling, and amplitudes that cannot be EEG."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
from scipy import signal

from eegm2.config import from_dict, to_dict
from eegm2.data.config import PreprocessingConfig
from eegm2.data.joins import JOIN
from eegm2.data.labels import LabelSpan
from eegm2.data.signal import preprocessing
from eegm2.data.signal.filters import band_filter, notch_filters, resampling_ratio
from eegm2.data.signal.preprocessing import default_channels, preprocess
from eegm2.data.signal.quality import clipped_share, flat_channels, line_noise
from eegm2.errors import ConfigError, DataError
from tests.data.samples import eeg

NAMES = ["Fz", "Cz", "Pz", "Oz"]


def raw_of(x_uv: np.ndarray, sfreq_hz: float = 128.0, names: list[str] | None = None) -> mne.io.RawArray:
    info = mne.create_info(names or NAMES[: len(x_uv)], sfreq_hz, "eeg")
    return mne.io.RawArray(x_uv * 1e-6, info, verbose="error")


def run(x_uv: np.ndarray, rate_hz: float = 128.0, names: list[str] | None = None, **options: Any) -> Any:
    return preprocess(raw_of(x_uv, rate_hz, names), PreprocessingConfig(**options), where="a.edf")


@pytest.mark.parametrize("sfreq_hz", [128.0, 160.0, 250.0, 512.0, 2048.0])
def test_band_is_the_papers(sfreq_hz: float) -> None:
    sos, note = band_filter(PreprocessingConfig(), sfreq_hz)
    assert sos is not None
    assert note == ""
    frequency = np.array([0.05, 0.2, 0.5, 1, 10, 39, 40, 48, 55])
    gain_db = 20 * np.log10(np.abs(signal.freqz_sos(sos, frequency, fs=sfreq_hz)[1]) + 1e-12)
    assert (gain_db[[0, 1, 7, 8]] <= -40 + 1e-6).all()
    assert (gain_db[2:7] >= -1 - 1e-6).all()


@pytest.mark.parametrize(("low", "high", "kept"), [(0.5, 0.0, 60.0), (0.0, 40.0, 0.1), (0.0, 0.0, 60.0)])
def test_one_sided_and_no_band(low: float, high: float, kept: float) -> None:
    times = np.arange(0, 60, 1 / 256)
    x = 50 * np.sin(2 * np.pi * kept * times)[None]
    made = run(x, 256.0, l_freq_hz=low, h_freq_hz=high, sfreq_hz=256.0, flat="keep")
    np.testing.assert_allclose(made.array[0, 2560:-2560], x[0, 2560:-2560], atol=0.5)


@pytest.mark.parametrize("sfreq_hz", [128.0, 160.0])
@pytest.mark.parametrize("high", [0.0, 40.0])
def test_a_kept_offset_outlasts_what_does_not_high_pass(sfreq_hz: float, high: float) -> None:
    x = eeg(2, 2000, sfreq_hz, offset_uv=4200)
    x[1] -= 300
    options: Any = {"l_freq_hz": 0.0, "h_freq_hz": high, "channels": ("Fz", "Fz-Cz")}
    made = run(x, sfreq_hz, offset="keep", **options)
    np.testing.assert_allclose(np.median(made.array, axis=1), [4200, 300], atol=5)
    np.testing.assert_allclose(made.array[:, [0, -1]].mean(1), [4200, 300], atol=80)  # nor do the ends fall
    if sfreq_hz == 128 and not high:
        np.testing.assert_allclose(made.array[0], x[0], rtol=1e-6)
    for other in (run(x, sfreq_hz, **options), run(x, sfreq_hz, offset="keep")):
        assert np.abs(np.median(other.array, axis=1)).max() < 5


def test_slow_recordings_have_no_low_pass_and_say_so() -> None:
    made = run(eeg(2, 1000, 64.0), 64.0)
    assert made.quality["notes"] == "no low-pass: recorded at 64 Hz"
    assert made.array.shape == (2, 2000)


@pytest.mark.parametrize("sfreq_hz", [100.0, 128.0, 160.0, 200.0, 250.0, 256.0, 500.0, 1000.0])
def test_resampling_keeps_a_rhythm_in_place(sfreq_hz: float) -> None:
    n_times = round(20 * sfreq_hz)
    times = np.arange(n_times) / sfreq_hz
    x = 50 * np.sin(2 * np.pi * 10 * times)[None] + 4200  # as an EPOC file: a large offset
    made = run(x, sfreq_hz)
    assert made.array.shape == (1, 2560)
    assert made.array.dtype == np.float32
    expected = 50 * np.sin(2 * np.pi * 10 * np.arange(2560) / 128)
    np.testing.assert_allclose(made.array[0, 640:-640], expected[640:-640], atol=1.0)
    assert not np.allclose(made.array[0, 640:-640], 1.05 * expected[640:-640], atol=1.0)


def test_ratio_of_odd_rates() -> None:
    assert resampling_ratio(250.0000001, 128.0) == resampling_ratio(250.0, 128.0)
    for rate in (249.97, 199.9997, 128.0001, 1024.5):
        assert float(resampling_ratio(rate, 128.0)) == pytest.approx(128.0 / rate, rel=1e-5)


def test_notch_removes_mains_and_harmonics() -> None:
    times = np.arange(0, 20, 1 / 512)
    x = np.stack([100 * np.sin(2 * np.pi * 50 * times) + 100 * np.sin(2 * np.pi * 100 * times)])
    rhythm = 30 * np.sin(2 * np.pi * 10 * times)
    made = run(x + rhythm, 512.0, notch_hz=50.0, h_freq_hz=0.0, sfreq_hz=512.0)
    np.testing.assert_allclose(made.array[0, 2560:-2560], rhythm[2560:-2560], atol=1.5)
    assert len(notch_filters(PreprocessingConfig(notch_hz=50.0), 512.0)) == 4


def test_differences_are_taken_before_filtering() -> None:
    x = eeg(3, 1280)
    one = run(x, channels=("Fz-Cz", "Cz-Pz"))
    two = run(x, channels=("Fz", "Cz", "Pz"))
    np.testing.assert_allclose(one.array[1], two.array[1] - two.array[2], atol=1e-3)
    assert one.ch_names == ("Fz-Cz", "Cz-Pz")


def test_default_channels_leave_out_what_is_not_eeg() -> None:
    raw = raw_of(eeg(4, 640), names=["EEG FP1-REF", "EOG1", "T3", "ECG"])
    assert default_channels(raw, "a.edf") == ("Fp1", "T7")
    made = preprocess(raw, PreprocessingConfig(), where="a.edf")
    assert made.quality["dropped_channels"] == ["EOG1", "ECG"]
    with pytest.raises(DataError, match=r"a\.edf: has no EEG channels \(found EOG1 \(eeg\) ECG \(eeg\)\)"):
        default_channels(raw_of(eeg(2, 640), names=["EOG1", "ECG"]), "a.edf")


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (1e6, r"about 10\^6 too large, as if microvolts had been stored as volts\); use --scale 1e-6"),
        (1e3, r"about 10\^3 too large\); use --scale 1e-3 if the unit is wrong, or --amplitude any"),
        (1e-3, r"about 10\^3 too small\); use --scale 1e3"),
        (1e-6, r"about 10\^6 too small, as if volts had been stored as microvolts\); use --scale 1e6"),
    ],
)
def test_amplitudes_that_cannot_be_eeg(factor: float, message: str) -> None:
    x = eeg(3, 1280, offset_uv=4200)
    with pytest.raises(DataError, match=message):
        run(x * factor)
    np.testing.assert_allclose(run(x * factor, scale=1 / factor).array, run(x).array, rtol=1e-3, atol=0.05)
    assert run(x * factor, amplitude="any").quality["typical_uv"] == pytest.approx(17 * factor, rel=0.3)


def test_not_a_number() -> None:
    x = eeg(3, 1280)
    bad = x.copy()
    bad[1, 256:266] = np.nan
    bad[2, 300] = np.inf
    with pytest.raises(
        DataError, match=r"11 samples are not numbers, the first at 2\.000 s, in Cz Pz; cut them"
    ):
        run(bad)
    made = run(bad, nan="interpolate")
    assert made.quality["nan_share"] == pytest.approx(11 / 1280, abs=1e-5)
    np.testing.assert_allclose(made.array[0], run(x).array[0], atol=1e-3)
    bad[:] = np.nan
    with pytest.raises(DataError, match="1280 samples are not numbers"):
        run(bad, nan="interpolate")


def test_flat_channels() -> None:
    x = eeg(4, 1280)
    x[2] = 37.0
    with pytest.raises(
        DataError, match=r"a\.edf: flat channels: Pz; choose others, or use --flat interpolate"
    ):
        run(x)
    kept = run(x, flat="keep")
    assert kept.quality["flat_channels"] == ["Pz"]
    np.testing.assert_allclose(kept.array[2], 0, atol=1e-6)
    names = ["Fz", "C3", "Cz", "C4", "Pz"]
    x = np.vstack([eeg(2, 1280), np.zeros(1280), eeg(2, 1280)])
    filled = run(x, names=names, flat="interpolate")
    assert filled.quality["interpolated_channels"] == ["Cz"]
    assert filled.array[2].std() > 1
    assert run(x, names=names, channels=("Fz", "C3")).quality["flat_channels"] == []  # only wanted ones count


def test_too_short() -> None:
    with pytest.raises(DataError, match=r"a\.edf: 5 samples at 128 Hz are too short"):
        run(eeg(2, 5))


def test_average_reference_sums_to_zero() -> None:
    np.testing.assert_allclose(run(eeg(3, 640), reference="average").array.sum(0), 0, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "exact"),
    [
        ({"reference": "average"}, False),
        ({"channels": ("Oz", "Fz", "Pz", "Cz")}, True),
        ({"channels": ("Pz-Cz", "Oz")}, False),
        ({"channels": ("Oz", "Fz"), "offset": "keep", "l_freq_hz": 0.0}, True),
    ],
)
@pytest.mark.parametrize("joined", [False, True])
def test_a_large_recording_is_mixed_in_its_own_memory(
    options: dict[str, Any], exact: bool, joined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = raw_of(eeg(4, 2560) + 100 * np.arange(4)[:, None])
    marks = [LabelSpan(10.0, 0.0, JOIN)] if joined else []
    arrays = []
    for most in (1 << 28, 0):
        monkeypatch.setattr(preprocessing, "_LARGE_BYTES", most)
        made = preprocess(raw, PreprocessingConfig(**options), where="a.edf", marks=marks)
        assert len(made.marks) == len(marks)
        arrays.append(made.array)
    assert not np.shares_memory(*arrays)
    if exact:
        np.testing.assert_array_equal(*arrays)
    else:
        np.testing.assert_allclose(arrays[1], arrays[0], rtol=0, atol=1e-6 * np.abs(arrays[0]).max())
        assert (arrays[1] != arrays[0]).any()  # it was mixed in float32


def test_the_offset_is_removed_or_kept() -> None:
    x = eeg(2, 640, offset_uv=300.0)
    plain = {"l_freq_hz": 0.0, "h_freq_hz": 0.0}
    removed, kept = run(x, **plain).array, run(x, offset="keep", **plain).array
    np.testing.assert_allclose(kept, x, rtol=1e-5, atol=1e-3)
    assert np.abs(np.median(removed, axis=1)).max() < 1


def test_removing_the_offset_is_what_older_stores_did() -> None:
    config = PreprocessingConfig(channels=("Fz", "Cz"))
    info = json.loads((Path(__file__).parents[2] / "formats/store-1/recordings/r0.json").read_text())
    assert config.sha256() == info["preprocessing_sha256"]
    assert dataclasses.replace(config, offset="keep").sha256() != config.sha256()


def test_config_survives_json_and_refuses_nonsense() -> None:
    config = PreprocessingConfig(channels=("Fz", "Cz"), notch_hz=50.0)
    again = from_dict(PreprocessingConfig, to_dict(config))
    assert again == config
    assert again.sha256() == config.sha256() != dataclasses.replace(config, notch_hz=60.0).sha256()
    for options, message in (
        ({"montage": "tcp16", "channels": ("Fz",)}, "channels: got 1 together with montage 'tcp16'"),
        ({"sfreq_hz": -1.0}, r"sfreq_hz: got -1\.0"),
        ({"l_freq_hz": 50.0}, r"l_freq_hz: got 50\.0, expected less than h_freq_hz"),
        ({"h_freq_hz": 70.0}, r"h_freq_hz: got 70\.0, above half of sfreq_hz \(128"),
        ({"gstop_db": 0.5}, r"expected 0 < gpass_db < gstop_db"),
        ({"scale": 0.0}, "scale: got 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            PreprocessingConfig(**options)  # type: ignore[arg-type]


def test_memory_stays_below_twice_the_recording() -> None:
    x = eeg(16, 60_000, 500.0) * 1e-6
    raw = mne.io.RawArray(x, mne.create_info(16, 500.0, "eeg"), verbose="error")
    config = PreprocessingConfig(flat="keep")
    preprocess(raw, config, where="a.edf")  # compiles, which takes memory of its own
    tracemalloc.start()
    preprocess(raw, config, where="a.edf")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * x.nbytes


def test_quality_measures() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(3, 4000)).astype(np.float32)
    x[1] = 5.0
    assert flat_channels(x, ["a", "b", "c"]) == ["b"]
    assert clipped_share(x) == 0.0
    clipped = np.clip(x, -1.0, 1.0)
    at_edge = np.abs(clipped[[0, 2]]) == 1.0
    assert 0 < clipped_share(clipped) < at_edge.sum() / x.size
    times = np.arange(4000) / 250
    quiet, _ = line_noise(x[[0, 2]], 250.0)
    loud, which = line_noise(x[[0, 2]] + 5 * np.sin(2 * np.pi * 60 * times, dtype=np.float32), 250.0)
    assert quiet is not None
    assert loud is not None
    assert quiet < 2 < 50 < loud
    assert which == 60.0
    assert line_noise(x, 100.0) == (None, None)
