"""BIDS as the standard has it: inheritance, columns of events, types and status of channels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eegm2.data.config import PrepareConfig
from eegm2.data.labels import LabelSpan
from eegm2.data.preparing.finding import find_recordings
from eegm2.data.preparing.prepare import prepare
from eegm2.data.recipes.bids import applying, read_events
from eegm2.data.store.recording_store import RecordingStore
from eegm2.errors import ConfigError, DataError
from tests.data.samples import eeg, write_edf

NAMES = ["Fz", "Cz", "Pz", "Oz", "X1", "X2"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of one subject, two tasks."""
    for seed, task in enumerate(("rest", "odd")):
        path = tmp_path / "in" / "sub-01" / "ses-a" / "eeg" / f"sub-01_ses-a_task-{task}_eeg.edf"
        write_edf(path, eeg(6, 1280, seed=seed), NAMES)
    (tmp_path / "in" / "dataset_description.json").write_text(
        json.dumps({"Name": "x", "BIDSVersion": "1.9.0"})
    )
    return tmp_path / "in"


def store_of(root: Path, **options: object) -> RecordingStore:
    prepare(root, root.parent / "out", PrepareConfig(jobs=1, **options))  # type: ignore[arg-type]
    return RecordingStore(root.parent / "out")


def test_side_files_higher_up_hold_below(root: Path) -> None:
    rows = "".join(f"{name}\t{'EOG' if name[0] == 'X' else 'EEG'}\n" for name in NAMES)
    (root / "channels.tsv").write_text(f"name\ttype\n{rows}")
    (root / "task-rest_events.tsv").write_text("onset\tduration\ttrial_type\n1\t5\tfar\n")
    near = root / "sub-01" / "sub-01_events.tsv"
    near.write_text("onset\tduration\ttrial_type\n1\t5\tnear\n")
    (root / "sub-01" / "ses-a" / "eeg" / "sub-02_events.tsv").write_text(
        "onset\tduration\ttrial_type\n0\t1\tother\n"
    )
    (root / "sub-01" / "ses-a" / "sub-01_run-1_events.tsv").write_text(
        "onset\tduration\ttrial_type\n0\t1\tother\n"
    )
    store = store_of(root)
    assert store.ch_names == ("Fz", "Cz", "Pz", "Oz")
    assert {info.labels for info in store.recordings} == {(LabelSpan(1.0, 5.0, "near"),)}
    near.unlink()
    recording = next(root.rglob("*task-rest_eeg.edf"))
    assert applying(recording, root, "events.tsv") == root / "task-rest_events.tsv"
    assert applying(next(root.rglob("*task-odd_eeg.edf")), root, "events.tsv") is None
    specific = root / "sub-01" / "ses-a" / "eeg" / "sub-01_ses-a_task-rest_events.tsv"
    specific.write_text("onset\tduration\ttrial_type\n2\t1\town\n")
    (specific.parent / "sub-01_ses-a_events.tsv").write_text("onset\tduration\ttrial_type\n")
    assert applying(recording, root, "events.tsv") == specific


def test_values_where_trial_type_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.tsv"
    path.write_text("onset\tduration\ttrial_type\tvalue\n1\t2\tn/a\t11\n5\t2\tn/a\t12\n")
    assert read_events(path)[0] == (LabelSpan(1.0, 2.0, "11"), LabelSpan(5.0, 2.0, "12"))
    path.write_text("onset\tduration\ttrial_type\tvalue\n1\t2\tstim\t11\n5\t2\tstim\t12\n6\t0\tn/a\t3\n")
    spans, notes = read_events(path)
    assert [span.label for span in spans] == ["stim", "stim"]
    assert "1 of 3 events of events.tsv have no onset or no trial_type and are left out" in notes[0]
    assert (
        "trial_type 'stim' stands for 2 codes in the column value (11 12); --label-column value" in notes[1]
    )
    assert [span.label for span in read_events(path, "value")[0]] == ["11", "12", "3"]
    path.write_text("onset\tduration\tstim_file\n1\t2\ta.png\n")
    with pytest.raises(DataError, match=r"has columns onset, duration, stim_file.*--label-column"):
        read_events(path)
    assert [span.label for span in read_events(path, "stim_file")[0]] == ["a.png"]
    path.write_text("")
    assert read_events(path) == ((), ())


def test_the_label_column_is_an_option_and_known_to_bids_alone(root: Path, tmp_path: Path) -> None:
    (root / "events.tsv").write_text("onset\tduration\ttrial_type\tvalue\n1\t2\tgo\t11\n")
    store = store_of(root, label_column="value")
    assert [span.label for info in store.recordings for span in info.labels] == ["11", "11"]
    write_edf(tmp_path / "plain" / "a.edf", eeg(6, 1280), NAMES)
    with pytest.raises(ConfigError, match="label_column: recipe 'folder' reads no table of events"):
        prepare(tmp_path / "plain", tmp_path / "o", PrepareConfig(jobs=1, label_column="value"))


def channels(root: Path, bad: str) -> None:
    rows = "".join(f"{name}\tEEG\t{'bad' if name == bad else 'good'}\n" for name in NAMES[:4])
    (root / "channels.tsv").write_text(
        f"name\ttype\tstatus\n{rows}X1\tMISC\tn/a\nX2\tREF\tgood\nX9\tEEG\tgood\n"
    )


@pytest.mark.parametrize("bads", ["report", "interpolate", "refuse"])
def test_bad_channels_are_reported_interpolated_or_refused(bads: str, root: Path) -> None:
    channels(root, "Cz")
    names = ("Fz", "Cz", "Pz", "Oz")
    if bads == "refuse":
        with pytest.raises(DataError, match="channels marked as bad: Cz; leave the recording out, or"):
            store_of(root, bads=bads, channels=names)
        return
    if bads == "interpolate":  # three good channels are too few for that
        with pytest.raises(DataError, match="cannot interpolate Cz"):
            store_of(root, bads=bads, channels=names)
        return
    quality = store_of(root, bads=bads, channels=names).recordings[0].quality
    assert quality["bad_channels"] == ["Cz"]
    assert "channels.tsv names channels that the recording lacks: X9" in quality["notes"]


def test_what_bids_keeps_apart_is_named_and_so_are_people_without_recordings(root: Path) -> None:
    write_edf(root / "derivatives" / "clean" / "sub-01_eeg.edf", eeg(6, 1280), NAMES)
    write_edf(root / "sub-01" / "ieeg" / "sub-01_task-x_ieeg.edf", eeg(6, 1280), NAMES)
    write_edf(root / "sub-01" / "eeg" / "rest.edf", eeg(6, 1280), NAMES)
    (root / "participants.tsv").write_text("participant_id\tage\n01\t31\nsub-07\t5\n")
    found = find_recordings(root, PrepareConfig())
    reasons = {left.path: left.reason for left in found.left_out}
    assert "where BIDS keeps processed data" in reasons["derivatives/clean/sub-01_eeg.edf"]
    assert "another modality (_ieeg)" in reasons["sub-01/ieeg/sub-01_task-x_ieeg.edf"]
    assert "--recipe folder takes all" in reasons["sub-01/eeg/rest.edf"]
    assert found.sources[0].attributes["age"] == "31"
    assert "participants.tsv names people without a recording: sub-07" in found.sources[0].notes[0]


def test_names_of_channels_tsv_are_understood_as_those_of_files_are(root: Path) -> None:
    for seed, path in enumerate(root.rglob("*_eeg.edf")):
        write_edf(path, eeg(6, 1280, seed=seed), [f"EEG {name}" for name in NAMES])
    channels(root, "Cz")
    store = store_of(root, channels=("Fz", "Cz", "Pz", "Oz"))
    assert {tuple(info.quality["bad_channels"]) for info in store.recordings} == {("EEG Cz",)}
    assert all("lacks: X9" in info.quality["notes"] for info in store.recordings)
