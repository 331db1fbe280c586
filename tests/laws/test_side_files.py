"""What lies beside samples: bad channels, marks, companions, names, joins; each where and whose it is."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
import torch

from eegm2.data.channels import _NOT_EEG, canonical, eeg_channels, looks_like_eeg, parse_aliases
from eegm2.data.config import PreprocessingConfig
from eegm2.data.files import readers
from eegm2.data.files.edf_stream import GrowingEdf
from eegm2.data.files.headsets.programs import read_mindmonitor, read_muselsl
from eegm2.data.files.readers import annotation_labels, read_raw
from eegm2.data.joins import JOIN
from eegm2.data.labels import LabelSpan
from eegm2.data.preparing.one_file import recording_of
from eegm2.data.preparing.prepare_report import PrepareResult, conclude
from eegm2.data.preparing.settled import settled
from eegm2.data.preparing.worker import Job, RecordingOutcome, files_sha256, prepare_one
from eegm2.data.recipes import bids, crowdsourced
from eegm2.data.recipes.arrays import EPOC14, TCP16
from eegm2.data.signal.preprocessing import preprocess
from eegm2.data.signal.quality import read_quality
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.pool import StorePool
from eegm2.errors import ConfigError
from eegm2.training.config import PretrainConfig
from eegm2.training.run_record import refuse_electrodes
from tests.data.samples import eeg, write_edf
from tests.laws.test_data_sets_by_their_papers import source
from tests.training.stores import tiny_store


def raw_of(names: list[str], rate_hz: float = 250.0, seconds: float = 8.0, seed: int = 0) -> Any:
    x = 2e-5 * np.random.default_rng(seed).standard_normal((len(names), round(seconds * rate_hz)))
    return mne.io.RawArray(x, mne.create_info(names, rate_hz, "eeg"), verbose="error")


def test_bad_channels_are_those_of_the_file_and_of_the_table_that_says_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any case and spelling; of another status, or none, is not bad; types are the table's."""
    raw = raw_of(["EEG Fz-REF", "EEG Cz-REF", "EEG Pz-REF", "EEG Oz-REF", "aux", "eye"])
    raw.info["bads"] = ["EEG Pz-REF"]
    monkeypatch.setattr(readers, "read_raw", lambda path: raw)
    rows = ["name\ttype\tstatus", "Fz\tEEG\tBad", "EEG Cz-REF\teeg\tgood", "Pz\tEEG\tn/a", "Oz\tEEG\t"]
    rows += ["aux\tMISC\tn/a", "eye\tVEOG\tbad"]
    (tmp_path / "channels.tsv").write_text("\n".join(rows) + "\n")
    found = bids.read_with_types(Path("x"), tmp_path / "channels.tsv")
    assert found.info["bads"] == ["EEG Pz-REF", "EEG Fz-REF", "eye"]
    assert found.get_channel_types() == ["eeg"] * 4 + ["misc", "eog"]


@pytest.mark.parametrize(
    ("place", "subject"),
    [
        ("anna/{}.edf", "anna"),
        ("group/anna/{}.edf", "group"),
        ("{}.edf", "P07"),
        ("other name.edf", "other name"),
        ("bob/other name.edf", "bob"),
    ],
)
def test_whose_an_export_is(place: str, subject: str, tmp_path: Path) -> None:
    """The first folder's, or that of the field after the headset."""
    path = tmp_path / place.format("Eyes_EPOCX_P07_2021.07.10T21.48.59+11.00")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    (found,) = crowdsourced.discover(tmp_path)
    assert found.subject == subject


def test_of_several_forms_of_an_export_the_plain_edf_is_read(tmp_path: Path) -> None:
    for name in ("a.csv", "a.md.csv", "a.edf", "a.md.edf", "b.md.pm.edf", "b.csv"):
        (tmp_path / name).write_text("title:x\n" if name.endswith("csv") else "0")
    found = {r.recording_id: r for r in crowdsourced.discover(tmp_path)}
    assert found["a"].path.name == "a.edf"
    assert found["b"].path.name == "b.csv"
    assert {path.name for path in found["a"].claims} == {"a.csv", "a.md.csv", "a.md.edf"}


def test_marks_of_headset_programs_are_at_the_sample_that_follows_them(tmp_path: Path) -> None:
    """Rows of marks hold no sample; what stands in a row of samples is of that one."""
    x = np.random.default_rng(0).normal(800, 20, (4, 600))
    places = {0: "1", 17: "2", 18: "3", 599: "4"}
    names = ("TP9", "AF7", "AF8", "TP10")
    lines = ["TimeStamp," + ",".join(f"RAW_{name}" for name in names) + ",Elements"]
    for i, row in enumerate(x.T):
        stamp = f"2024-03-01 10:00:{i / 256:09.6f}"
        if i in places:
            lines.append(f"{stamp},,,,,/Marker/{places[i]}")
        lines.append(f"{stamp}," + ",".join(f"{value:.5f}" for value in row) + ",")
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    samples = [line for line in lines if "/Marker" not in line]
    inside = [f"{line}/Marker/{places[i - 1]}" if i - 1 in places else line for i, line in enumerate(samples)]
    (tmp_path / "n.csv").write_text("\n".join(inside) + "\n")
    for name in ("m.csv", "n.csv"):
        found = read_mindmonitor(tmp_path / name)
        assert found.marks == [(float(at), text) for at, text in places.items()]
        np.testing.assert_allclose(found.x_uv, x, atol=1e-4)
    lines = ["timestamps," + ",".join(names) + ",Right AUX,Marker0"]
    lines += [
        f"{1.7e9 + i / 256:.6f},{','.join(f'{v:.5f}' for v in x[:, i])},9,{places.get(i, 0)}"
        for i in range(600)
    ]
    (tmp_path / "l.csv").write_text("\n".join(lines) + "\n")
    found = read_muselsl(tmp_path / "l.csv")
    assert found.marks == [(float(at), f"marker {text}") for at, text in places.items()]
    assert found.ch_names == [*names]
    np.testing.assert_allclose(found.x_uv, x, atol=1e-4)


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
def test_what_was_recorded_is_read_with_its_annotations(suffix: str, tmp_path: Path) -> None:
    """Samples to a tenth of a microvolt, and every annotation at its onset for its length."""
    x = eeg(2, 1000, 100.0) + np.array([[4100.0], [-300.0]])
    file = GrowingEdf(tmp_path / f"a{suffix}", ("Fz", "Cz"), 100.0, np.median(x, axis=1))
    spans = [(0.5, 0.02, "short"), (1.0, 0.0, "instant"), (2.25, 1.5, "long"), (3.0, 6.5, "longer")]
    for span in spans:
        file.annotate(*span)
    for first in range(0, 1000, 100):
        file.write(x[:, first : first + 100])
    assert file.noted
    assert (file.clipped, file.records) == (0, 10)
    file.close()
    raw = read_raw(tmp_path / f"a{suffix}")
    np.testing.assert_allclose(1e6 * raw.get_data(), x, atol=0.051)
    assert annotation_labels(raw) == tuple(LabelSpan(*span) for span in spans)


def test_a_recording_is_as_it_was_if_all_its_files_are(tmp_path: Path) -> None:
    files = [tmp_path / name for name in "abc"]
    for path in files[:2]:
        path.write_bytes(path.name.encode() * 50)
    usual = files_sha256(files)
    assert usual == files_sha256(files)
    others = [files_sha256(files[:2]), files_sha256(files[::-1])]
    files[1].write_bytes(b"x" * 50)
    others.append(files_sha256(files))
    files[2].write_bytes(b"")
    others.append(files_sha256(files))
    files[2].unlink()
    files[1].write_bytes(b"b" * 50)
    assert len({usual, *others}) == 5
    assert files_sha256(files) == usual


def test_a_recording_is_prepared_again_when_any_of_its_files_says_something_else(tmp_path: Path) -> None:
    """Touched it is not; the facts of all its files are kept with it."""
    main, beside = tmp_path / "x.edf", tmp_path / "events.tsv"
    main.write_bytes(b"samples")
    beside.write_bytes(b"1")
    given = source(tmp_path, files=(beside,))
    config = PreprocessingConfig(channels=("Pz", "Fz"), sfreq_hz=100.0)
    job = Job(str(tmp_path / "s"), str(tmp_path), config, "float32")
    assert prepare_one(given, job).status == "prepared"
    info = RecordingStore(tmp_path / "s")["rec"]
    assert info.source_sha256 == files_sha256([main, beside])
    assert [size for size, _ in info.source_stat] == [7, 1]
    for path in (main, beside):
        content = path.read_bytes()
        path.write_bytes(content)
        os.utime(path, (1e9, 1e9))
        again = settled(given, job, RecordingStore(tmp_path / "s"))
        assert again is not None
        assert again.status == "unchanged"
        path.write_bytes(content[::-1] + b"?")
        assert settled(given, job, RecordingStore(tmp_path / "s")) is None
        path.write_bytes(content)


def test_the_table_of_a_store_is_of_what_is_in_it_and_else_says_why_not(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "s", subjects=2, seconds=2)
    outcomes = (
        RecordingOutcome("rec0", "sub0", "1", "a.edf", "skipped", "damaged"),
        RecordingOutcome("rec1", "sub1", "1", "b.edf", "unchanged"),
        RecordingOutcome("rec2", "sub2", "", "c.edf", "skipped", "too short", {"duration_s": 0.5}),
        RecordingOutcome("rec3", "sub3", "", "d.edf", "removed", "gone"),
    )
    result = PrepareResult(str(tmp_path / "s"), "folder", store.preprocessing, outcomes)
    conclude(result, "then", 3)
    rows = {row["recording"]: row for row in read_quality(store.storage)}
    assert {name: row["status"] for name, row in rows.items()} == {
        "rec0": "in store",
        "rec1": "in store",
        "rec2": "rejected",
    }
    assert (rows["rec2"]["subject"], rows["rec2"]["reason"], rows["rec2"]["duration_s"]) == (
        "sub2",
        "too short",
        0.5,
    )
    report = json.loads((tmp_path / "s" / "prepare_report.json").read_text())
    assert report["counts"] == {"skipped": 2, "unchanged": 1, "removed": 1}
    assert (report["found"], report["interrupted"], report["started"]) == (3, False, "then")
    assert [(r["recording"], r["status"]) for r in report["recordings"]] == [
        (o.recording, o.status) for o in outcomes
    ]


def test_a_file_of_a_data_set_is_whose_the_data_set_says(tmp_path: Path) -> None:
    """Its companions too; a file of no layout is its own name's."""
    eeg_folder = tmp_path / "set" / "sub-07" / "eeg"
    eeg_folder.mkdir(parents=True)
    (tmp_path / "set" / "dataset_description.json").write_text("{}")
    (tmp_path / "set" / "participants.tsv").write_text("participant_id\tage\nsub-07\t44\n")
    main = write_edf(eeg_folder / "sub-07_task-rest_eeg.edf", eeg(2, 512), ("Fz", "Cz"))
    table = eeg_folder / "sub-07_task-rest_events.tsv"
    table.write_text("onset\tduration\ttrial_type\n1\t2\ta\n")
    for path in (main, table):
        found = recording_of(path)
        assert (found.subject, found.recording_id, found.path) == ("sub-07", "sub-07_task-rest", main)
        assert found.labels == (LabelSpan(1.0, 2.0, "a"),)
        assert found.attributes["age"] == "44"
    (tmp_path / "plain").mkdir()
    alone = write_edf(tmp_path / "plain" / "visit 3.edf", eeg(2, 512), ("Fz", "Cz"))
    found = recording_of(alone)
    assert (found.subject, found.recording_id, found.path) == ("visit 3", "visit 3", alone)


@pytest.mark.parametrize(
    ("text", "theirs", "ours"),
    [("A=Fz", "A", "Fz"), ("x=y=Cz", "x=y", "Cz"), (" EEG 1 = t3 ", "EEG 1", "T7"), ("a==Pz", "a=", "Pz")],
)
def test_an_alias_is_all_before_the_last_sign(text: str, theirs: str, ours: str) -> None:
    assert parse_aliases([text]) == {theirs: ours}


@pytest.mark.parametrize(
    "reference",
    ["REF", "LE", "AR", "AVG", "AVE", "CAR", "Average", "A1A2", "M1M2", "A1+A2", "M1+M2", "ref", "avg"],
)
def test_a_reference_is_no_part_of_a_name(reference: str) -> None:
    for name in (f"EEG Cz-{reference}", f"cz_{reference}", f"EEG:CZ {reference}", f"Cz - {reference}"):
        assert canonical(name) == "Cz"
    assert canonical(f"X9-{reference}") == "X9"
    assert canonical("Cz-A1") == "Cz-A1"


def test_what_a_name_says_to_be_something_else_is_no_eeg() -> None:
    others = """EOG left, ECG, EKG1, EMG chin, Resp abd, PHOTIC, IBI, BURSTS, SUPPR, Status, Trigger, STI 014,
    Marker, DC 3, ROC, LOC, Pulse, SpO2, SaO2, Temp rect, GyroX, ACC x, Counter, Battery, GSR, Pleth, Airflow,
    Thor, Abdo, Snore, Event, EDF Annotations, Time"""
    for name in others.split(","):
        assert not looks_like_eeg(name.strip()), name
    for name in ("Fz", "EEG 12", "C3-P3", "E7", "T3", "X1"):
        assert looks_like_eeg(name)
    assert eeg_channels(["EEG T3-REF", "ECG", "EEG 12", "Cz", "Time"]) == ("T7", "12", "Cz")
    assert _NOT_EEG.flags & 2


def test_channels_of_headset_and_corpus_in_the_order_of_the_paper() -> None:
    """Left from front to back, then right from back to front; chains outside, then inside, left first."""
    assert " ".join(EPOC14) == "AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4"
    assert [canonical(name) for name in TCP16] == [
        *("Fp1-F7", "F7-T7", "T7-P7", "P7-O1", "Fp2-F8", "F8-T8", "T8-P8", "P8-O2"),
        *("Fp1-F3", "F3-C3", "C3-P3", "P3-O1", "Fp2-F4", "F4-C4", "C4-P4", "P4-O2"),
    ]


@pytest.mark.parametrize(
    ("from_hz", "to_hz"), [(250.0, 100.0), (500.0, 128.0), (100.0, 128.0), (128.0, 128.0)]
)
def test_a_join_is_where_the_next_part_begins_in_what_is_stored(from_hz: float, to_hz: float) -> None:
    """At a whole sample, and as many samples before it as the parts before are long."""
    places = [n for n in (501, 777, 1003, 1499) if n < 8 * from_hz - 100]
    raw = raw_of(["Fz", "Cz"], from_hz)
    raw.set_annotations(mne.Annotations([n / from_hz for n in places], 0.0, "boundary"))
    config = PreprocessingConfig(channels=("Fz", "Cz"), sfreq_hz=to_hz, h_freq_hz=30.0)
    made = preprocess(raw, config, where="x")
    ratio = Fraction(to_hz) / Fraction(from_hz)
    begins = [math.ceil(n * ratio) for n in places]
    assert [mark.label for mark in made.marks] == [JOIN] * len(places)
    found = np.array([mark.onset_s for mark in made.marks]) * to_hz
    np.testing.assert_allclose(found, begins, atol=1e-3)
    assert [part.start for part in made.parts] == [0, *begins]
    assert made.parts[-1].stop == made.array.shape[1] == math.ceil(raw.n_times * ratio)


def test_a_pool_says_of_its_stores_what_they_have_in_common(tmp_path: Path) -> None:
    names = ("Fp1", "Fp2", "O1", "O2")
    alike = [tiny_store(tmp_path / name, subjects=2, seconds=1, seed=n) for n, name in enumerate("ab")]
    other = tiny_store(tmp_path / "c", subjects=2, seconds=1, channels=names, seed=5)
    for stores in (alike[:1], alike):
        pool = StorePool(stores)
        assert pool.preprocessing == alike[0].preprocessing
        assert pool.preprocessing.channels == ("F3", "C3", "P3")
        assert set(pool.montages) == {("F3", "C3", "P3")}
    pool = StorePool([*alike, other])
    assert pool.preprocessing == dataclasses.replace(other.preprocessing, channels=())
    assert pool.montages == (("F3", "C3", "P3"), ("F3", "C3", "P3"), names)
    assert (pool.sfreq_hz, len(pool), pool.names) == (32.0, 3, ("a", "b", "c"))
    assert pool.url == ", ".join(store.url for store in (*alike, other))
    assert StorePool(alike[0]).manifest_sha256 == alike[0].manifest_sha256
    assert StorePool(alike[0]).hashes() == {}
    assert StorePool(alike).hashes() == {name: store.manifest_sha256 for name, store in zip("ab", alike)}


def test_fixed_electrodes_are_the_same_in_the_same_order(tmp_path: Path) -> None:
    names = ("Fp1", "Fp2", "O1", "O2")
    stores = [
        tiny_store(tmp_path / str(n), subjects=1, seconds=1, channels=own, seed=n)
        for n, own in enumerate([names, names, names[::-1], ("F3", "F4", "P3", "P4")])
    ]
    fixed, anyone = PretrainConfig(width=4), PretrainConfig(preset="covariance", objective="oscillatory")
    refuse_electrodes(StorePool(stores[:2]), fixed)
    refuse_electrodes(StorePool(stores), anyone)
    for other in stores[2:]:
        with pytest.raises(
            ConfigError, match=f"the stores differ: 0 has Fp1 Fp2 O1 O2; .* {' '.join(other.ch_names)}"
        ):
            refuse_electrodes(StorePool([stores[0], other]), fixed)


def test_a_store_gives_what_was_written_of_each_recording(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "s", subjects=3, seconds=4, splits=("train", "val", "test"))
    again = RecordingStore(tmp_path / "s")
    assert [info.split for info in again.recordings] == ["train", "val", "test"]
    for info in store.recordings:
        whole = again.read(info.id)
        assert whole.shape == (3, 128)
        np.testing.assert_array_equal(again.view(info.id, 5, 50), whole[:, 5:50].T)
        np.testing.assert_array_equal(again.read(info.id, 100), whole[:, 100:])
        assert info.duration_s == 4.0
    assert torch.equal(torch.from_numpy(store.read("rec1")), torch.from_numpy(again.read("rec1")))
    assert again.verify() == {}
