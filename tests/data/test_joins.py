"""Discontinuities: whatever a format calls them, each part is prepared alone and no window holds two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest
from scipy import signal

from eegm2.data.config import PrepareConfig, PreprocessingConfig, WindowConfig
from eegm2.data.files.readers import annotation_labels, read_raw
from eegm2.data.joins import JOIN, SKIP, at_the_step, canonical_marks, cuts, is_join, is_skip, parts
from eegm2.data.labels import LabelSpan
from eegm2.data.preparing.prepare import prepare
from eegm2.data.signal.filters import filters
from eegm2.data.signal.preprocessing import preprocess
from eegm2.data.store.recording_store import RecordingStore, StoreWriter
from eegm2.data.windows.dataset import WindowDataset
from tests.data.samples import eeg, write_edf

NAMES = ["Fz", "Cz", "Pz"]
ALONE = PrepareConfig(jobs=1)


def raw_with(
    marks: list[tuple[float, float, str]], rate: float = 250.0, step_uv: float = 3000.0, join_s: float = 20.1
) -> mne.io.RawArray:
    """Return 40 s whose offset jumps."""
    x = eeg(3, round(40 * rate), rate, 5)
    x[:, round(join_s * rate) :] += step_uv
    raw = mne.io.RawArray(x * 1e-6, mne.create_info(NAMES, rate, "eeg"), verbose="error")
    onset, duration, text = zip(*marks)
    return raw.set_annotations(mne.Annotations(onset, duration, text))


@pytest.mark.parametrize(
    "text",
    ["BAD boundary", "EDGE boundary", "boundary", "New Segment/", "New Segment", "DC Correction/",
     "Comment/LostSamples: 12", "Recording paused", "recording resumed", "Discontinuity",
     "Comment/boundary", "Comment/recording paused"],
)  # fmt: skip
def test_what_formats_call_a_join(text: str) -> None:
    assert is_join(text)
    (mark,) = canonical_marks([LabelSpan(3.0, 7.0, text)])
    assert mark == LabelSpan(3.0, 0.0, JOIN)


@pytest.mark.parametrize(
    "text", ["open", "pause", "boundary_condition", "new segment of the film", "BAD_jump", "32766"]
)
def test_what_is_no_join(text: str) -> None:
    assert not is_join(text)
    assert not is_skip(text)


def test_a_skip_as_a_comment_of_brainvision_is_no_label() -> None:
    assert canonical_marks([LabelSpan(3.0, 7.0, "Comment/BAD_ACQ_SKIP")]) == (LabelSpan(3.0, 7.0, SKIP),)
    assert not is_skip("Comment/skip")


def test_codes_mean_a_join_in_their_own_format_alone() -> None:
    spans = [LabelSpan(3.0, 0.0, "32766"), LabelSpan(4.0, 0.0, "768")]
    assert canonical_marks(spans, "a.gdf") == (LabelSpan(3.0, 0.0, JOIN), spans[1])
    assert canonical_marks(spans, "a.edf") == tuple(spans)
    assert canonical_marks([LabelSpan(3.0, 9.0, "-99")], "a.set") == (LabelSpan(3.0, 0.0, JOIN),)


def test_cuts_lie_where_a_part_begins() -> None:
    spans = [
        LabelSpan(0.0, 0.0, JOIN),  # the beginning
        LabelSpan(2559.5 / 128, 0.0, JOIN),  # EEGLAB: between two samples
        LabelSpan(30.0, 0.0, JOIN),
        LabelSpan(40.0, 2.0, SKIP),
        LabelSpan(60.0, 0.0, JOIN),  # the end
    ]
    assert cuts(spans, 128.0, 60 * 128) == [2560, 3840, 5120, 5376]
    assert parts(10, [4]) == [slice(0, 4), slice(4, 10)]


def test_times_of_few_digits_are_moved_to_the_step() -> None:
    n_times = 1 << 25  # hours at 1000 Hz, where a time in 32-bit floats is some samples off
    x = np.zeros((1, n_times), np.int8)
    x[:, n_times - 1000 :] = 100
    assert at_the_step(x, [n_times - 1002], 1000.0) == [n_times - 1000]
    assert at_the_step(x, [500], 1000.0) == [500]
    assert at_the_step(x, [n_times - 5000], 1000.0) == [n_times - 5000]  # no step near it


@pytest.mark.parametrize(
    ("rate", "to", "join_s"), [(250.0, 128.0, 20.1), (128.0, 128.0, 20.5), (512.0, 100.0, 20.3125)]
)
def test_a_part_is_prepared_as_if_it_were_alone(rate: float, to: float, join_s: float) -> None:
    config = PreprocessingConfig(sfreq_hz=to, h_freq_hz=40.0)
    raw = raw_with([(join_s, 0.0, "BAD boundary"), (5.0, 1.0, "open")], rate, join_s=join_s)
    made = preprocess(raw, config, where="x")
    cut = round(join_s * rate)
    chain = filters(config, rate)
    place = chain.n_out(cut)
    assert made.parts == [slice(0, place), slice(place, chain.n_out(raw.n_times))]
    first = preprocess(raw.copy().crop(0, (cut - 1) / rate).set_annotations(None), config, where="x").array
    np.testing.assert_allclose(made.array[:, : place - 20], first[:, : place - 20], atol=0.02)
    second = raw.get_data()[:, cut:] * 1e6
    second = second - np.median(second[:, : round(rate)], axis=1, keepdims=True)
    for sos, _ in chain.sections:
        second = signal.sosfiltfilt(sos, second, axis=1, padlen=min(chain.padding, second.shape[1] - 1))
    up, down = chain.ratio.numerator, chain.ratio.denominator
    lead = cut % down
    padded = np.concatenate([np.zeros((3, lead)), second], axis=1)
    taps = chain.taps if chain.taps is not None else None
    whole = padded if taps is None else signal.resample_poly(padded, up, down, axis=1, window=taps)
    expected = whole[:, whole.shape[1] - (made.array.shape[1] - place) :]
    np.testing.assert_allclose(made.array[:, place:], expected, atol=1e-3)
    across = preprocess(raw.copy().set_annotations(None), config, where="x").array
    assert np.abs(across[:, place : place + 20]).max() > 5 * np.abs(made.array[:, place : place + 20]).max()


def test_an_offset_that_is_kept_is_each_parts_own() -> None:
    config = PreprocessingConfig(l_freq_hz=0, h_freq_hz=0, sfreq_hz=128, offset="keep", amplitude="any")
    raw = raw_with([(20.1, 0.0, "boundary")])
    made = preprocess(raw, config, where="x").array
    assert made[:, :2000].mean() == pytest.approx(0, abs=5)
    assert made[:, -2000:].mean() == pytest.approx(3000, abs=5)
    place = filters(config, 250.0).n_out(round(20.1 * 250))
    assert np.abs(made[:, place + 1 : place + 40] - 3000).max() < 150


def test_windows_of_every_configuration_keep_to_one_part(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    raw_with([(20.1, 5.0, "boundary"), (2.0, 10.0, "open"), (30.0, 3.0, SKIP)]).save(
        tmp_path / "in" / "a_raw.fif", verbose="error"
    )
    prepare(tmp_path / "in", tmp_path / "out", ALONE)
    store = RecordingStore(tmp_path / "out")
    assert (
        "4 parts, each prepared alone, the first ends at 20.100 s, 3.000 s not recorded"
        in (store["a_raw"].quality["notes"])
    )
    for exclude in (("bad*", "edge*"), ()):
        windows = WindowDataset(store, WindowConfig(window_s=2.0, stride_s=0.5, exclude_labels=exclude))
        assert windows.classes == ("open",)
        for start in windows.start_s:
            assert not start < 20.1 - 0.008 < 20.1 + 0.008 < start + 2
            assert not (start + 2 > 30.01 and start < 32.99)
        assert np.ptp([np.abs(windows.window(0, int(s * 128))).max() for s in windows.start_s]) < 5


def test_a_skip_counts_neither_as_flat_nor_as_quiet(tmp_path: Path) -> None:
    raw = raw_with([(1.0, 30.0, SKIP)], step_uv=0.0)
    data = raw.get_data()
    data[:, 250 : 31 * 250] = 0
    raw = mne.io.RawArray(data, raw.info, verbose="error").set_annotations(raw.annotations)
    quality = preprocess(raw, PreprocessingConfig(), where="x").quality
    assert quality["flat_channels"] == []
    assert 10 < quality["typical_uv"] < 30
    assert quality["clipped_share"] < 0.01


def test_marks_of_a_table_and_of_the_file_hold_together(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    raw_with([(20.1, 0.0, "BAD boundary")]).save(tmp_path / "in" / "a_raw.fif", verbose="error")
    table = tmp_path / "t.csv"
    table.write_text("recording,label,onset,duration\na_raw,go,1,2\n")
    config = PrepareConfig(jobs=1, table=str(table))
    prepare(tmp_path / "in", tmp_path / "out", config)
    joins = [span for span in RecordingStore(tmp_path / "out")["a_raw"].labels if is_join(span.label)]
    assert [span.onset_s for span in joins] == [pytest.approx(20.1, abs=1 / 128)]
    table.write_text("recording,label,onset,duration\na_raw,stop,1,2\n")
    assert prepare(tmp_path / "in", tmp_path / "out", config).counts == {"updated": 1}
    labels = RecordingStore(tmp_path / "out")["a_raw"].labels
    assert [span.label for span in labels] == ["stop", JOIN]
    table.write_text("recording,label,onset,duration\na_raw,stop,1,2\na_raw,boundary,10,0\n")
    assert prepare(tmp_path / "in", tmp_path / "out", config).counts == {"prepared": 1}
    assert [span.label for span in RecordingStore(tmp_path / "out")["a_raw"].labels] == ["stop", JOIN, JOIN]


def test_an_edf_with_paused_recording(tmp_path: Path) -> None:
    path = write_edf(
        tmp_path / "a.edf", eeg(3, 2560), NAMES, annotations=[(8.0, 0, "Recording paused"), (9, 1, "x")]
    )
    assert annotation_labels(read_raw(path)) == (LabelSpan(8.0, 0.0, JOIN), LabelSpan(9.0, 1.0, "x"))


def test_what_an_earlier_version_prepared_across_a_join_is_prepared_again(tmp_path: Path) -> None:
    """Its label is there as the file has it, and no note on parts; other recordings stay as they are."""
    marks = {"joined": (20.0, 0.0, "boundary"), "whole": (20.0, 1.0, "eyes shut")}
    for name, mark in marks.items():
        (tmp_path / "in").mkdir(exist_ok=True)
        raw_with([mark]).save(tmp_path / "in" / f"{name}_raw.fif", verbose="error")
    prepare(tmp_path / "in", tmp_path / "store", ALONE)
    store = RecordingStore(tmp_path / "store")
    fresh = store.read("joined_raw")
    writer = StoreWriter(tmp_path / "store", store.preprocessing, store.ch_names)
    old = replace(store["joined_raw"], labels=(LabelSpan(*marks["joined"]),))
    old = replace(old, quality={**old.quality, "notes": ""})
    writer.write(old, fresh + 1)
    result = prepare(tmp_path / "in", tmp_path / "store", ALONE)
    assert {o.recording: o.status for o in result.outcomes} == {
        "joined_raw": "prepared",
        "whole_raw": "unchanged",
    }
    assert "1 recording prepared across joins by an earlier version" in result.messages[-1]
    np.testing.assert_array_equal(RecordingStore(tmp_path / "store").read("joined_raw"), fresh)
    again = prepare(tmp_path / "in", tmp_path / "store", ALONE)
    assert again.counts == {"unchanged": 2}
    assert not again.messages
