"""Preparing said again in words of SciPy: offset, mixing, band, notches, resampling, and how good it was."""

from __future__ import annotations

import itertools
from typing import Any

import mne
import numpy as np
import pytest
from scipy import signal

from eegm2.data.config import SIGNAL_CHOICES, PreprocessingConfig, signal_differences
from eegm2.data.joins import JOIN, SKIP, canonical_marks, cuts, skipped
from eegm2.data.labels import LabelSpan
from eegm2.data.signal import microvolts
from eegm2.data.signal.overview import envelope, spectrogram
from eegm2.data.signal.preprocessing import Preprocessed, preprocess
from eegm2.data.signal.quality import (
    artefacts,
    clipped_share,
    flat_channels,
    line_noise,
    typical_amplitudes,
)
from eegm2.errors import DataError

NAMES = ("Fz", "Cz", "Pz", "Oz")
Array = np.ndarray


def eeg(n_times: int, rate_hz: float, n_chans: int = 4, seed: int = 0) -> Array:
    """Rhythms, noise and an offset of each channel, in µV."""
    rng, t = np.random.default_rng(seed), np.arange(n_times) / rate_hz
    x = 15 * np.sin(2 * np.pi * np.outer(3 + 4 * np.arange(n_chans), t)) + 10 * rng.standard_normal(
        (n_chans, n_times)
    )
    return x + 10 * np.sin(2 * np.pi * 50 * t) + 400 * np.arange(1, n_chans + 1)[:, None]


def prepared(
    x_uv: Array, rate_hz: float, names: Any = NAMES, marks: Any = (), **options: Any
) -> Preprocessed:
    info = mne.create_info(list(names[: len(x_uv)]), rate_hz, "eeg")
    raw = mne.io.RawArray(x_uv * 1e-6, info, verbose="error")
    return preprocess(raw, PreprocessingConfig(**options), where="a.edf", marks=marks)


def by_scipy(
    x: Array,
    rate_hz: float,
    band: tuple[float | None, float | None] | None,
    *,
    to_hz: float,
    loss_db: float = 1.0,
    stop_db: float = 40.0,
    notch_hz: float = 0.0,
) -> Array:
    """Chebyshev II with stop edges at 0.4 and 1.2 of the pass edges; notches of quality 30; polyphase."""
    padding = min(x.shape[1] - 1, round(5 * rate_hz))
    filters = []
    if band:
        low = band[0]
        passes = [edge for edge in band if edge is not None]
        stops = [0.4 * edge if edge is low else 1.2 * edge for edge in passes]
        filters.append(
            signal.iirdesign(passes, stops, loss_db, stop_db, ftype="cheby2", output="sos", fs=rate_hz)
        )
    k = 1
    while notch_hz and k * notch_hz <= 0.95 * rate_hz / 2:
        filters.append(signal.tf2sos(*signal.iirnotch(k * notch_hz, 30.0, fs=rate_hz)))
        k += 1
    for sos in filters:
        x = signal.sosfiltfilt(sos, x, axis=1, padtype="odd", padlen=padding)
    common = np.gcd(int(10 * to_hz), int(10 * rate_hz))
    return signal.resample_poly(x, int(10 * to_hz) // common, int(10 * rate_hz) // common, axis=1)


@pytest.mark.parametrize("rate_hz", [128.0, 160.0, 250.0, 500.0])
@pytest.mark.parametrize(
    ("options", "other"),
    [
        ({}, {}),
        ({"notch_hz": 50.0}, {"notch_hz": 50.0}),
        (
            {"l_freq_hz": 2.0, "h_freq_hz": 20.0, "gpass_db": 2.0, "gstop_db": 30.0, "sfreq_hz": 50.0},
            {"band": (2.0, 20.0), "loss_db": 2.0, "stop_db": 30.0, "to_hz": 50.0},
        ),
        ({"h_freq_hz": 0.0, "l_freq_hz": 1.0}, {"band": (1.0, None)}),
        ({"l_freq_hz": 0.0, "h_freq_hz": 30.0}, {"band": (None, 30.0)}),
        (
            {"l_freq_hz": 0.0, "h_freq_hz": 0.0, "notch_hz": 50.0, "sfreq_hz": 100.0},
            {"band": None, "notch_hz": 50.0, "to_hz": 100.0},
        ),
    ],
)
def test_a_recording_is_prepared_as_declared(rate_hz: float, options: Any, other: Any) -> None:
    x = eeg(1500, rate_hz)
    made = prepared(x, rate_hz, channels=("Pz", "Fz-Cz"), **options)
    free = x - np.median(x, axis=1, keepdims=True)
    mixed = np.stack([free[2], free[0] - free[1]])
    chosen = {"band": (0.5, 40.0), "to_hz": 128.0} | other
    expected = by_scipy(mixed, rate_hz, **chosen)
    assert made.array.shape == expected.shape
    assert made.sfreq_hz == chosen["to_hz"]
    np.testing.assert_allclose(made.array, expected, rtol=1e-4, atol=2e-3)


def test_what_is_kept_and_referenced_is_as_declared() -> None:
    x = eeg(900, 128.0)
    plain: Any = {"l_freq_hz": 0.0, "h_freq_hz": 0.0}
    three = ("Oz", "Fz", "Cz")
    kept = prepared(x, 128.0, channels=three, offset="keep", **plain).array
    np.testing.assert_allclose(kept, x[[3, 0, 1]], rtol=1e-5)
    average = prepared(x, 128.0, channels=three, offset="keep", reference="average", **plain).array
    np.testing.assert_allclose(average, x[[3, 0, 1]] - x[[3, 0, 1]].mean(0), rtol=1e-4, atol=2e-3)
    scaled = prepared(x, 128.0, channels=three, offset="keep", scale=-0.5, **plain).array
    np.testing.assert_allclose(scaled, -0.5 * x[[3, 0, 1]], rtol=1e-5)


def test_the_offset_is_the_median_of_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microvolts, "_OFFSET_SAMPLES", 4 * 101)
    monkeypatch.setattr(microvolts, "_BLOCK_SAMPLES", 4 * 333)
    x = eeg(1200, 128.0)
    x[:, 101:] += 30.0
    made = prepared(x, 128.0, l_freq_hz=0.0, h_freq_hz=0.0)
    np.testing.assert_allclose(made.array, x - np.median(x[:, :101], axis=1, keepdims=True), atol=2e-3)


def test_samples_that_are_no_numbers_are_laid_on_a_line_between_their_neighbours() -> None:
    x = eeg(900, 128.0)
    gone, line = x.copy(), x.copy()
    gone[1, 100:110] = gone[3, 105:120] = np.nan
    for channel, first, stop in ((1, 100, 110), (3, 105, 120)):
        ends = x[channel, [first - 1, stop]]
        line[channel, first:stop] = np.linspace(*ends, stop - first + 2)[1:-1]
    options: Any = {"l_freq_hz": 0.0, "h_freq_hz": 0.0, "offset": "keep"}
    made = prepared(gone, 128.0, nan="interpolate", **options)
    np.testing.assert_allclose(made.array, line, rtol=1e-5, atol=1e-3)
    assert made.quality["nan_share"] == pytest.approx(20 / 900, abs=1e-6)
    with pytest.raises(DataError, match=r"20 samples are not numbers, the first at 0\.781 s, in Cz Oz;"):
        prepared(gone, 128.0, **options)
    gone[0, :460] = np.nan
    with pytest.raises(DataError, match="460 samples are not numbers"):
        prepared(gone, 128.0, nan="interpolate", **options)


def test_quality_is_what_was_measured() -> None:
    rate_hz, n_times = 200.0, 6000
    x = eeg(n_times, rate_hz, 5)
    x[4] = np.clip(x[4], 1985, 2015)
    info = mne.create_info(["Fz", "EOG1", "Cz", "Pz", "Oz"], rate_hz, "eeg")
    raw = mne.io.RawArray(x * 1e-6, info, verbose="error")
    raw.info["bads"] = ["Pz"]
    made = preprocess(raw, PreprocessingConfig(), where="a.edf")
    used = [0, 2, 3, 4]
    quality = made.quality
    assert made.ch_names == ("Fz", "Cz", "Pz", "Oz")
    assert quality["duration_s"] == 30.0
    assert quality["source_sfreq_hz"] == rate_hz
    assert quality["n_chans"] == 4
    assert quality["bad_channels"] == ["Pz"]
    assert quality["dropped_channels"] == ["EOG1"]
    assert quality["flat_channels"] == quality["interpolated_channels"] == []
    assert quality["nan_share"] == 0
    assert quality["low_uv"] == pytest.approx(made.array.min(), abs=0.006)
    assert quality["high_uv"] == pytest.approx(made.array.max(), abs=0.006)
    some = made.array[:, :: made.array.shape[1] // 2000].astype(float)
    away = np.abs(some - np.median(some, axis=1, keepdims=True))
    assert quality["typical_uv"] == pytest.approx(np.median(1.4826 * np.median(away, axis=1)), rel=1e-3)
    ratio, hz = mains(x[used], rate_hz)
    assert quality["line_hz"] == hz == 50.0
    assert quality["line_noise_ratio"] == pytest.approx(ratio, rel=0.02)
    still = stays(x[4]) / (4 * n_times)
    assert quality["clipped_share"] == pytest.approx(still, abs=1e-5)
    assert still > 0.01


def mains(x: Array, rate_hz: float) -> tuple[float, float]:
    """The median over channels of the power within 1 Hz of 50 or 60 Hz over that 4 to 8 Hz beside it."""
    n = round(2 * rate_hz)
    pieces = min(30, x.shape[1] // n)
    starts = np.linspace(0, x.shape[1] - n, pieces).astype(int)
    cut = np.stack([x[:, s : s + n] - x[:, s : s + n].mean(1, keepdims=True) for s in starts])
    power = (np.abs(np.fft.rfft(cut * np.hanning(n))) ** 2).sum(0)
    f = np.arange(power.shape[1]) * rate_hz / n
    found = []
    for hz in (50.0, 60.0):
        beside = (np.abs(f - hz) >= 4) & (np.abs(f - hz) <= 8)
        ratio = power[:, np.abs(f - hz) <= 1].mean(1) / power[:, beside].mean(1)
        found.append((float(np.median(ratio)), hz))
    return max(found)


def stays(row: Array) -> int:
    """Count samples in runs of three or more at the lowest or highest value."""
    count = run = 0
    for place, value in enumerate(row):
        run = run + 1 if place and value == row[place - 1] else 1
        if value in (row.min(), row.max()):
            count += 3 if run == 3 else run > 3
    return int(count)


@pytest.mark.parametrize("seed", range(4))
def test_measures_are_as_defined(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((5, 3001)) * rng.uniform(1, 30, (5, 1))
    x[0] += 3 * x[0].std() * np.sin(2 * np.pi * 60 * np.arange(3001) / 250.0)
    x[2] = np.clip(np.round(x[2]), -5, 9)
    x = x.astype(np.float32)
    assert clipped_share(x) == pytest.approx(sum(map(stays, x)) / x.size, abs=1e-9)
    found, hz = line_noise(x, 250.0)
    assert (found, hz) == (pytest.approx(mains(x.astype(float), 250.0)[0], rel=1e-3), mains(x, 250.0)[1])
    away = np.abs(x - np.median(x, axis=1, keepdims=True))
    np.testing.assert_allclose(typical_amplitudes(x), 1.4826 * np.median(away, axis=1), rtol=1e-5)


def test_where_quality_draws_its_lines() -> None:
    t = np.linspace(0, 1, 500)
    for factor, flat in ((0.9e-3, ["Cz"]), (1.1e-3, [])):
        x = np.stack([t, factor * t, 3 * t, t]).astype(np.float32)
        assert flat_channels(x, NAMES) == flat
    rng = np.random.default_rng(0)
    for factor, noisy in ((3.6, []), (4.5, ["Cz"])):
        x = 20 * rng.standard_normal((4, 4000))
        x[1] *= factor
        assert prepared(x, 128.0).quality["noisy_channels"] == noisy
    for factor, refused in ((400.0, False), (620.0, True)):
        x = 20 * rng.standard_normal((4, 4000))
        x[2] *= factor
        if refused:
            with pytest.raises(DataError, match="whose scale is far from the others"):
                prepared(x, 128.0)
            assert "Pz" in prepared(x, 128.0, amplitude="any").quality["notes"]
        else:
            assert prepared(x, 128.0).quality["notes"] == ""
    for typical_uv, refused in ((0.15, True), (0.25, False), (1800.0, False), (2300.0, True)):
        x = rng.standard_normal((4, 4000))
        x *= typical_uv / prepared(x, 128.0, amplitude="any").quality["typical_uv"]
        if refused:
            with pytest.raises(DataError, match=r"EEG has 0\.2 to 2000"):
                prepared(x, 128.0)
        else:
            assert prepared(x, 128.0).quality["typical_uv"] == pytest.approx(typical_uv, rel=0.01)


@pytest.mark.parametrize(
    ("low", "high", "typical", "ratio", "kinds"),
    [
        (-900.0, 990.0, 10.0, 900.0, []),
        (-1010.0, 0.0, 10.0, 0.0, ["artefacts beyond 1,000"]),
        (0.0, 1010.0, 10.0, 0.0, ["artefacts beyond 1,000"]),
        (-1010.0, 1010.0, 60.0, 0.0, []),
        (0.0, 10.0, 10.0, 1001.0, ["mains at 60 Hz over 1,000"]),
    ],
)
def test_what_no_eeg_has_is_said(
    low: float, high: float, typical: float, ratio: float, kinds: list[str]
) -> None:
    measured = {
        "low_uv": low,
        "high_uv": high,
        "typical_uv": typical,
        "line_noise_ratio": ratio,
        "line_hz": 60.0,
    }
    found = artefacts(measured)
    assert len(found) == len(kinds)
    assert all(text.startswith(kind) for text, kind in zip(found, kinds))


def test_marks_are_in_the_time_of_what_was_prepared() -> None:
    x = eeg(2500, 250.0)
    marks = [LabelSpan(4.0, 0.0, "boundary"), LabelSpan(6.0, 1.0, SKIP), LabelSpan(1.0, 1.0, "open")]
    made = prepared(x, 250.0, marks=marks)
    joins = sorted(span.onset_s for span in made.marks if span.label == JOIN)
    assert joins == [4.0, 6.0, 7.0]
    assert [span for span in made.marks if span.label == SKIP] == [LabelSpan(6.0, 1.0, SKIP)]
    assert all(span.duration_s == 0 for span in made.marks if span.label == JOIN)
    assert len(made.marks) == 4
    assert [part.start for part in made.parts] == [0, 512, 768, 896]
    assert "4 parts" in made.quality["notes"]
    assert "the first ends at 4.000 s" in made.quality["notes"]
    assert "1.000 s not recorded" in made.quality["notes"]


def test_cuts_and_skips_in_samples() -> None:
    spans = [
        LabelSpan(0.3, 0.0, JOIN),
        LabelSpan(1.0, 0.5, SKIP),
        LabelSpan(2.9, 5.0, SKIP),
        LabelSpan(0.0, 0.0, JOIN),
    ]
    assert cuts(spans, 10.0, 30) == [3, 10, 15, 29]
    assert np.flatnonzero(skipped(spans, 10.0, 30)).tolist() == [10, 11, 12, 13, 14, 29]


def test_every_choice_that_changes_the_signal_is_compared_and_no_other() -> None:
    usual = {name: getattr(PreprocessingConfig(), name) for name in PreprocessingConfig.__dataclass_fields__}
    others = {"missing", "nan", "flat", "bads", "amplitude", "scale", "montage", "channels", "aliases"}
    for name, value in usual.items():
        changed = {**usual, name: "other" if isinstance(value, str) else 7.0}
        found = signal_differences(usual, changed)
        assert [entry[0] for entry in found] == ([] if name in others else [name]), name
    assert set(SIGNAL_CHOICES) == set(usual) - others
    older = {name: value for name, value in usual.items() if name != "offset"}
    assert signal_differences(older, usual) == []
    assert signal_differences(usual, {**usual, "l_freq_hz": 1.0}) == [("l_freq_hz", 0.5, 1.0)]


@pytest.mark.parametrize("n_points", [1, 7, 50])
def test_an_envelope_is_of_every_sample_once(n_points: int) -> None:
    x = np.random.default_rng(0).standard_normal((3, 107))
    edges = [int(107 * i / n_points) for i in range(n_points + 1)]
    found = envelope(x, n_points)
    for point, (first, stop) in enumerate(itertools.pairwise(edges)):
        np.testing.assert_allclose(found[:, 0, point], x[:, first:stop].min(1), rtol=1e-6)
        np.testing.assert_allclose(found[:, 1, point], x[:, first:stop].max(1), rtol=1e-6)


def test_a_spectrogram_is_welchs_relative_to_its_median() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4096)) * [[1], [2], [5]]
    f, _, power = signal.spectrogram(
        x, 128.0, signal.windows.hann(256, sym=False), 256, 192, detrend="constant", scaling="density"
    )
    n = power.shape[-1]
    columns = n // 4
    edges = [int(i * n / columns) for i in range(columns + 1)]
    mean = power.mean(0)
    held = np.stack([mean[:, a:b].mean(1) for a, b in itertools.pairwise(edges)], axis=1)
    kept = (f > 0) & (f <= 30)
    frequency_hz, change_db = spectrogram(x, 128.0, top_hz=30.0)
    np.testing.assert_allclose(frequency_hz, f[kept])
    expected = 10 * np.log10(held[kept])
    expected -= np.median(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(change_db, expected, atol=1e-6)


CHOICES: dict[str, Any] = {
    **{"reference": "average", "offset": "keep", "l_freq_hz": 0.0, "h_freq_hz": 30.0, "gpass_db": 0.3},
    **{
        "gstop_db": 60.0,
        "notch_hz": 50.0,
        "sfreq_hz": 100.0,
        "scale": 2.0,
        "channels": ("Oz", "Fz", "Cz", "Pz"),
    },
    **{"flat": "interpolate", "bads": "interpolate", "nan": "interpolate", "missing": "interpolate"},
}


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_changes_what_is_prepared(choice: str) -> None:
    x = eeg(1500, 160.0, 6)
    names = ["Fz", "Cz", "Pz", "Oz", "C3", "C4"]
    usual: dict[str, Any] = {"channels": tuple(names), "l_freq_hz": 0.5}
    if choice == "notch_hz":
        usual["h_freq_hz"] = 0.0
    if choice == "offset":
        usual["l_freq_hz"] = 0.0
    if choice == "flat":
        x[3] = 0.0
        usual["flat"] = "keep"
    if choice == "nan":
        x[2, 700] = np.nan
    if choice == "missing":
        usual["channels"] = (*names, "P3")
    info = mne.create_info(names, 160.0, "eeg")
    raw = mne.io.RawArray(x * 1e-6, info, verbose="error")
    raw.info["bads"] = ["C3"]
    found = []
    for options in (usual, {**usual, choice: CHOICES[choice]}):
        try:
            found.append(preprocess(raw, PreprocessingConfig(**options), where="a").array)
        except DataError:
            found.append(np.zeros(0))
    assert len(found[1])
    assert found[0].shape != found[1].shape or np.abs(found[0] - found[1]).max() > 0.1


@pytest.mark.parametrize(("times", "refused"), [(0.8e6, False), (1.3e6, True), (-1.3e6, True)])
def test_a_sample_a_million_times_the_usual_is_damage(times: float, refused: bool) -> None:
    x = eeg(1200, 128.0) - 400 * np.arange(1, 5)[:, None]
    x[2, 700] = times * np.median(np.abs(x))
    if refused:
        with pytest.raises(
            DataError, match=r"Pz has .* µV at 5\.469 s, .* is usual there; the file is damaged"
        ):
            prepared(x, 128.0, amplitude="any")
    else:
        prepared(x, 128.0, amplitude="any")


@pytest.mark.parametrize(("rate_hz", "to_hz", "cut"), [(250.0, 128.0, 1337), (160.0, 100.0, 1003)])
def test_each_part_is_prepared_alone_and_stays_on_the_recordings_grid(
    rate_hz: float, to_hz: float, cut: int
) -> None:
    """Less the median of its own first second; resampled where the whole recording's samples are."""
    x = eeg(2600, rate_hz)
    x[:, cut:] += 500 + 0.05 * np.arange(2600 - cut)
    made = prepared(x, rate_hz, marks=[LabelSpan(cut / rate_hz, 0.0, JOIN)], sfreq_hz=to_hz)
    first_s = round(rate_hz)
    up = round(to_hz / np.gcd(int(to_hz), int(rate_hz)))
    down = round(rate_hz / np.gcd(int(to_hz), int(rate_hz)))
    place = -(-cut * up // down)
    for start, stop, first, end in ((0, cut, 0, place), (cut, 2600, place, -(-2600 * up // down))):
        part = x[:, start:stop] - np.median(x[:, start : start + first_s], axis=1, keepdims=True)
        filtered = by_scipy(part, rate_hz, (0.5, 40.0), to_hz=rate_hz)
        whole = np.zeros((4, 2600))
        whole[:, start:stop] = filtered
        expected = signal.resample_poly(whole, up, down, axis=1)[:, first:end]
        np.testing.assert_allclose(made.array[:, first:end], expected, rtol=1e-4, atol=3e-3)


def test_marks_at_the_beginning_are_none_and_others_have_one_name() -> None:
    spans = [
        LabelSpan(0.0, 0.0, "boundary"),
        LabelSpan(2.0, 7.0, "EDGE boundary"),
        LabelSpan(3.0, 1.0, "open"),
    ]
    spans += [
        LabelSpan(4.0, 2.0, "BAD_ACQ_SKIP"),
        LabelSpan(2.0, 0.0, "BAD boundary"),
        LabelSpan(0.0, 1.0, "bad gap"),
    ]
    assert canonical_marks(spans) == (
        LabelSpan(2.0, 0.0, JOIN),
        LabelSpan(3.0, 1.0, "open"),
        LabelSpan(4.0, 2.0, SKIP),
        LabelSpan(0.0, 1.0, SKIP),
    )
