"""Data sets said again: thresholds, parts, presets and places in arrays, and what of a source is stored."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mne
import numpy as np
import pytest

from eegm2.data.config import PreprocessingConfig
from eegm2.data.files import safe_npy
from eegm2.data.joins import JOIN
from eegm2.data.labels import LabelSpan
from eegm2.data.preparing.settled import settled
from eegm2.data.preparing.tables import apply_table
from eegm2.data.preparing.worker import Job, prepare_one
from eegm2.data.recipes import (
    arrays,
    authors_npy,
    bids,
    crowdsourced,
    dreamer,
    moabb,
    stew,
    tuab,
    tuev,
    uea_ts,
)
from eegm2.data.recipes.base import SourceRecording, all_recipes
from eegm2.data.recipes.folder import subject_of
from eegm2.data.store.recording_store import RecordingStore

PLAIN = {"l_freq_hz": 0.0, "h_freq_hz": 0.0, "offset": "keep"}
EMOTIV = {"montage": "epoc14", "l_freq_hz": 0.5, "h_freq_hz": 40.0}


def test_each_recipe_asks_for_its_own_preprocessing() -> None:
    """Filters of the headset's sets as in the paper; what is filtered already stays as it is."""
    own = {name: recipe.preprocessing for name, recipe in all_recipes().items() if recipe.preprocessing}
    assert own == {
        "authors_npy": {**PLAIN, "sfreq_hz": 128.0, "amplitude": "any", "flat": "keep"},
        "crowdsourced": EMOTIV,
        "dreamer": EMOTIV,
        "moabb": PLAIN,
        "stew": EMOTIV,
        "tuab": {"montage": "tcp16"},
        "tuev": {"montage": "tcp16"},
        "uea_ts": PLAIN,
        "uea_ts_channels": PLAIN,
    }


def test_the_corpora_of_temple_are_tested_on_their_evaluation() -> None:
    assert tuab.SPLITS == tuev.SPLITS == {"train": "train", "eval": "test"}
    assert tuab.CLASSES == ("normal", "abnormal")


@pytest.mark.parametrize(("score", "group"), [(1.0, "low"), (3.0, "low"), (3.5, "high"), (5.0, "high")])
def test_emotion_is_high_above_three(score: float, group: str) -> None:
    scores = {"valence": [2.0, score], "arousal": [9.0, 6 - score], "dominance": [0.0, 3.0]}
    found = dreamer._recording(Path("D"), {"age": "30", "sex": "f", **scores}, 4, "stimuli", "film", 1)
    opposite = "high" if 6 - score > 3 else "low"
    facts = {"clip": "2", "age": "30", "sex": "f", "valence": f"{score:g}", "valence_class": group}
    facts |= {
        "arousal": f"{6 - score:g}",
        "arousal_class": opposite,
        "dominance": "3",
        "dominance_class": "low",
    }
    assert found.attributes == facts
    assert (found.subject, found.recording_id) == ("S04", "S04_clip02_film")
    assert found.labels == (LabelSpan(0.0, math.inf, "film"),)
    assert dreamer.SEGMENTS == {"baseline": "baseline", "stimuli": "film"}


@pytest.mark.parametrize(("rating", "group"), [(1, "low"), (4, "low"), (5, "high"), (9, "high")])
def test_workload_is_high_above_four(rating: int, group: str) -> None:
    ratings = {7: {"rest": 10 - rating, "task": rating}, 8: {"rest": 1, "task": 1}}
    found = stew._recording(Path("sub07_hi.txt"), ratings, Path("none.txt"))
    assert found.attributes == {"condition": "task", "rating": str(rating), "workload": group}
    assert found.labels == (LabelSpan(0.0, math.inf, "task"),)
    other = stew._recording(Path("sub07_lo.txt"), ratings, Path("none.txt"))
    assert other.attributes["rating"] == str(10 - rating)
    assert other.attributes["condition"] == "rest"
    assert stew.SFREQ_HZ == 128.0


def test_eyes_are_open_or_closed_until_the_next_mark_or_for_two_minutes() -> None:
    marks = [
        (200.0, 0.0, "Eyes closed"),
        (10.0, 0.0, "eyes-open start"),
        (60.0, 0.0, "EyesClosed"),
        (70.0, 0.0, "x"),
    ]
    marks += [(330.0, 15.0, "eye_open"), (390.0, 0.0, "eyes closed")]
    assert crowdsourced.eyes_spans(marks) == (
        LabelSpan(10.0, 50.0, "eyes_open"),
        LabelSpan(60.0, 120.0, "eyes_closed"),
        LabelSpan(200.0, 120.0, "eyes_closed"),
        LabelSpan(330.0, 15.0, "eyes_open"),
        LabelSpan(390.0, 120.0, "eyes_closed"),
    )


@pytest.mark.parametrize(
    ("line", "span"),
    [
        (["3", "1.5", "4.25", "2"], LabelSpan(1.5, 2.75, "gped")),
        (["0", "0", "1", "6"], LabelSpan(0.0, 1.0, "bckg")),
    ],
)
def test_an_event_lasts_from_its_start_to_its_end(line: list[str], span: LabelSpan) -> None:
    assert tuev._event(line, "x") == span


def test_windows_laid_end_to_end_keep_their_place_label_and_joins() -> None:
    rng = np.random.default_rng(0)
    windows = rng.standard_normal((4, 3, 10))
    raw = arrays.joined_windows(windows, ("a", "b", "c"), 50.0, "x")
    found = raw.get_data() * 1e6
    for number, window in enumerate(windows):
        np.testing.assert_allclose(found[:, 10 * number : 10 * number + 10], window, rtol=1e-9)
    assert sorted(set(raw.annotations.onset)) == pytest.approx([0.2, 0.4, 0.6])
    assert arrays.window_spans("xyxz", 10, 50.0) == tuple(
        LabelSpan(pytest.approx(0.2 * i), pytest.approx(0.2), label) for i, label in enumerate("xyxz")
    )
    joins = arrays.boundaries(4, 10, 50.0)
    assert [(j.onset_s, j.duration_s, j.label) for j in joins] == [
        (pytest.approx(t), 0.0, "BAD boundary") for t in (0.2, 0.4, 0.6)
    ]
    one = arrays.raw_from_array(np.array([[1, 2], [30, 40]]), ("a", "b"), 50.0, "x")
    np.testing.assert_allclose(one.get_data(), [[1e-6, 2e-6], [3e-5, 4e-5]])


def test_shifted_copies_are_put_back_into_channels() -> None:
    """Dimension k holds the samples from k n on of all channels laid end to end."""
    rng = np.random.default_rng(0)
    for n_dims, n_times in ((6, 30), (5, 17)):
        laid = rng.standard_normal(n_times + (n_dims - 1) * n_dims)
        dims = np.stack([laid[k * n_dims : k * n_dims + n_times] for k in range(n_dims)])
        assert uea_ts.is_shifted(dims)
        whole = uea_ts.whole_channels(dims)
        assert len(whole) == len(laid) // n_times
        np.testing.assert_array_equal(whole.ravel(), laid[: whole.size])
        assert not uea_ts.is_shifted(dims[::-1])
    assert [uea_ts.KNOWN[name].sfreq_hz for name in sorted(uea_ts.KNOWN)] == [100.0, 256.0, 256.0]
    assert [len(uea_ts.KNOWN[name].ch_names) for name in sorted(uea_ts.KNOWN)] == [28, 6, 7]


@pytest.mark.parametrize(
    ("path", "subject"),
    [
        ("sub-01/ses-2/eeg/sub-01_task-rest.edf", "sub-01"),
        ("sub-01/sub-02_x.edf", "sub-02"),
        ("group/sub-7/x.edf", "sub-7"),
        ("S01/day1/a.edf", "S01"),
        ("a.b.edf", "a.b"),
        ("resub-01.edf", "resub-01"),
    ],
)
def test_whose_a_file_is(path: str, subject: str) -> None:
    assert subject_of(Path(path)) == subject


def test_types_of_channels_are_what_bids_calls_them() -> None:
    same = {
        name: name.lower()
        for name in ("EEG", "EOG", "ECG", "EMG", "SEEG", "ECOG", "DBS", "BIO", "RESP", "GSR")
    }
    other = {"VEOG": "eog", "HEOG": "eog", "TRIG": "stim", "TEMP": "temperature", "EYEGAZE": "eyegaze"}
    assert {**same, **other, "PUPIL": "pupil"} == bids._TYPES


def test_the_file_that_applies_is_the_nearest_and_of_those_the_most_particular(tmp_path: Path) -> None:
    eeg = tmp_path / "sub-1" / "eeg"
    eeg.mkdir(parents=True)
    path = eeg / "sub-1_task-a_run-2_eeg.edf"
    for name in ("events.tsv", "task-a_events.tsv", "task-b_events.tsv"):
        (tmp_path / name).touch()
    assert bids.applying(path, tmp_path, "events.tsv") == tmp_path / "task-a_events.tsv"
    (tmp_path / "sub-1" / "sub-1_events.tsv").touch()
    assert bids.applying(path, tmp_path, "events.tsv") == tmp_path / "sub-1" / "sub-1_events.tsv"
    for name in ("sub-1_task-a_events.tsv", "sub-1_task-a_run-2_events.tsv", "sub-1_task-a_run-3_events.tsv"):
        (eeg / name).touch()
    assert bids.applying(path, tmp_path, "events.tsv") == eeg / "sub-1_task-a_run-2_events.tsv"


def read() -> Any:
    """Return 20 s of four channels at 250 Hz."""
    rng = np.random.default_rng(3)
    info = mne.create_info(["EEG Fz-REF", "EEG Cz-REF", "EEG Pz-REF"], 250.0, "eeg")
    return mne.io.RawArray(2e-5 * rng.standard_normal((3, 5000)), info, verbose="error")


def source(folder: Path, **changes: Any) -> SourceRecording:
    facts: dict[str, Any] = {
        "labels": (LabelSpan(15.0, 10.0, "b"), LabelSpan(-2.0, 5.0, "a"), LabelSpan(30.0, 1.0, "c")),
        "attributes": {"age": "30"},
        "split": "val",
        "session": "2",
    }
    return SourceRecording("rec", "who", folder / "x.edf", reader=read, **{**facts, **changes})


def test_what_is_said_of_a_source_is_in_the_store_and_can_change_without_reading(tmp_path: Path) -> None:
    out = tmp_path / "s"
    config = PreprocessingConfig(channels=("Pz", "Fz-Cz"), sfreq_hz=100.0)
    job = Job(str(out), str(tmp_path), config, "float32")
    assert prepare_one(source(tmp_path), job).status == "prepared"
    store = RecordingStore(out)
    info = store["rec"]
    assert (info.subject, info.session, info.split, info.attributes) == ("who", "2", "val", {"age": "30"})
    assert sorted(info.labels) == [LabelSpan(0.0, 3.0, "a"), LabelSpan(15.0, 5.0, "b")]
    assert (info.n_times, info.sfreq_hz, info.ch_names) == (2000, 100.0, ("Pz", "Fz-Cz"))
    assert info.quality["duration_s"] == 20.0
    assert "1 labels outside the recording left out" in info.quality["notes"]
    samples = store.read("rec")
    assert settled(source(tmp_path), job, store) is not None
    given = settled(source(tmp_path), job, store)
    assert given is not None
    assert given.status == "unchanged"
    changes: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"attributes": {"age": "31"}}, {"attributes": {"age": "31"}}),
        ({"split": "test"}, {"split": "test"}),
        ({"session": "3"}, {"session": "3"}),
        ({"labels": (LabelSpan(19.0, 9.0, "z"),)}, {"labels": (LabelSpan(19.0, 1.0, "z"),)}),
    ]
    for change, stored in changes:
        given = settled(source(tmp_path, **change), job, store)
        assert given is not None
        assert given.status == "updated"
        store = RecordingStore(out)
        assert store["rec"] == dataclasses.replace(info, **stored)
        settled(source(tmp_path), job, store)
        store = RecordingStore(out)
    np.testing.assert_array_equal(store.read("rec"), samples)
    assert settled(source(tmp_path, labels=(LabelSpan(9.0, 0.0, JOIN),)), job, store) is None, (
        "must be prepared anew"
    )


def test_events_and_people_of_bids_are_those_of_their_tables(tmp_path: Path) -> None:
    eeg = tmp_path / "sub-07" / "ses-2" / "eeg"
    eeg.mkdir(parents=True)
    (eeg / "sub-07_ses-2_task-rest_run-3_eeg.edf").write_bytes(b"0")
    table = "onset\tduration\ttrial_type\tvalue\n4.5\t1.5\tb\t1\n1\tn/a\ta\t2\nn/a\t1\ta\t2\n2\t0\tn/a\t9\n"
    events = eeg / "sub-07_ses-2_task-rest_run-3_events.tsv"
    events.write_text(table)
    (tmp_path / "participants.tsv").write_text("participant_id\tage\tsex\nsub-06\t1\tm\nsub-07\t44\tn/a\n")
    (found,) = bids.discover(tmp_path)
    assert (found.subject, found.session) == ("sub-07", "2")
    assert found.attributes == {"age": "44", "task": "rest", "run": "3"}
    assert found.labels == (LabelSpan(1.0, 0.0, "a"), LabelSpan(4.5, 1.5, "b"))
    assert any("2 of 4 events" in note for note in found.notes)
    (found,) = bids.discover(tmp_path, "value")
    assert found.labels == (LabelSpan(1.0, 0.0, "2"), LabelSpan(2.0, 0.0, "9"), LabelSpan(4.5, 1.5, "1"))


def test_a_table_of_ones_own_says_when_and_how_long(tmp_path: Path) -> None:
    """Ends as well as durations, decimal commas, whole recordings; a label of n/a is none."""
    table = tmp_path / "t.csv"
    table.write_text("file;start;end;label;age\nrec;1,5;4;a;30\nrec;0;;b;30\nrec;2;3;n/a;30\n")
    (made,), _, _ = apply_table([source(tmp_path, labels=None)], table, tmp_path)
    assert made.labels == (LabelSpan(0.0, math.inf, "b"), LabelSpan(1.5, 2.5, "a"))
    assert made.attributes == {"age": "30"}
    table.write_text("recording,label,subject,session,split\nrec,whole,me,9,test\n")
    (made,), _, named = apply_table([source(tmp_path)], table, tmp_path)
    assert made.labels == (LabelSpan(0.0, math.inf, "whole"),)
    assert (made.subject, made.session, made.split, named) == ("me", "9", "test", {"rec"})


def test_a_table_goes_before_what_was_found(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("recording,age,group\nrec,44,x\n")
    (made,), _, named = apply_table([source(tmp_path)], table, tmp_path)
    assert made.attributes == {"age": "44", "group": "x"}
    assert made.labels == source(tmp_path).labels
    assert named == set()


@pytest.mark.parametrize(
    ("key", "split", "what"),
    [
        *(("train_data", "train", "data"), ("valid_label", "val", "labels"), ("Validation_X", "val", "data")),
        *(("val_y", "val", "labels"), ("test_labels", "test", "labels"), ("testx", "test", "data")),
    ],
)
def test_parts_of_the_authors_files_are_what_their_keys_say(
    key: str, split: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows, labels = np.zeros((2, 3, 4)), np.array([1.0, 0.0])
    stem = key.replace(key[len(authors_npy.KEY.match(key)["split"]) :], "")  # type: ignore[index]
    other = f"{stem}_label" if what == "data" else f"{stem}_data"
    content = {key: windows if what == "data" else labels, other: labels if what == "data" else windows}
    content["All_train_data"] = windows
    monkeypatch.setattr(safe_npy, "read_pickled_dict", lambda path: content)
    ((found, (x, y)),) = authors_npy.read_splits(Path("a.npy")).items()
    assert (found, x.shape, y) == (split, (2, 3, 4), ("1", "0"))
    assert authors_npy.SFREQ_HZ == 128.0


def test_trials_of_moabb_are_written_in_microvolts(tmp_path: Path) -> None:
    volts = 1e-5 * np.random.default_rng(0).standard_normal((4, 2, 50))
    held = SimpleNamespace(get_data=lambda copy: volts, ch_names=["C3", "C4"], info={"sfreq": 100.0})
    rows = [{"subject": s, "session": "0", "run": r} for s, r in ((1, "0"), (1, "1"), (2, "0"), (1, "0"))]
    metadata = SimpleNamespace(iterrows=lambda: enumerate(rows))
    paradigm = SimpleNamespace(get_data=lambda dataset, subjects, return_epochs: (held, [*"abab"], metadata))
    moabb.save_moabb(SimpleNamespace(code="Fake"), paradigm, tmp_path / "m")
    np.testing.assert_allclose(np.load(tmp_path / "m" / "X.npy"), 1e6 * volts, rtol=1e-5)
    found = {r.recording_id: r for r in moabb.discover(tmp_path / "m")}
    assert sorted(found) == ["sub-1_ses-0_run-0", "sub-1_ses-0_run-1", "sub-2_ses-0_run-0"]
    first = found["sub-1_ses-0_run-0"]
    assert [s.label for s in first.labels if s.label != JOIN] == ["a", "b"]
    np.testing.assert_allclose(first.load().get_data(), np.hstack([volts[0], volts[3]]), rtol=1e-5)
