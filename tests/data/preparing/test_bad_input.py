"""What is wrong with recordings and tables, through the command: said in one line, and the rest goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.data.config import SplitConfig, WindowConfig
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.dataset import WindowDataset
from eegm2.data.windows.splits import split_subjects
from eegm2.errors import DataError
from tests.data.samples import eeg, write_edf

NAMES = ["Fz", "Cz", "Pz"]
X = eeg(3, 640)


def prepared(root: Path, *options: str) -> tuple[RecordingStore, dict[str, str], str]:
    """Run ``eegm2 prepare``; return the store, recording → reason of those skipped, and all it said."""
    out = root.parent / "out"
    command = ["prepare", str(root), "--out", str(out), "--jobs", "1", *options]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    report = json.loads((out / "prepare_report.json").read_text())
    skipped = {r["recording"]: r["reason"] for r in report["recordings"] if r["status"] == "skipped"}
    for name, reason in skipped.items():
        assert f"skipped     {name}: {reason}" in done.output
        assert "\n" not in reason
    assert not list(out.rglob(".tmp-*"))
    return RecordingStore(out), skipped, done.output


def test_recordings_that_cannot_be_used(tmp_path: Path) -> None:
    root = tmp_path / "in"
    good = write_edf(root / "a_good.edf", X, NAMES, annotations=[(0.0, 2.0, "open")])
    gap = write_edf(root / "gap.edf", X, NAMES, annotations=[(1.0, 0.5, "open")])
    content = bytearray(gap.read_bytes())
    content[192:197] = b"EDF+D"
    for record in (3, 4):
        stamp = f"+{record}\x14\x14".encode()
        at = content.index(stamp)
        content[at : at + len(stamp)] = f"+{record + 4}\x14\x14".encode()
    gap.write_bytes(content)
    write_edf(root / "rates.edf", [X[0], X[1], X[2][::2]], NAMES, [128, 128, 64])  # type: ignore[arg-type]
    write_edf(root / "twice.edf", eeg(4, 640), [*NAMES, "EEG Fz"])
    write_edf(root / "few.edf", eeg(1, 640), ["Pz"])
    write_edf(root / "short.edf", eeg(3, 640)[:, :128], NAMES)
    (root / "cut.edf").write_bytes(good.read_bytes()[:-700])
    flat = X.copy()
    flat[1] = 3.0
    write_edf(root / "flat.edf", flat, NAMES)
    write_edf(root / "loud.edf", 1000 * X, NAMES)
    write_edf(root / "eye.edf", eeg(2, 640), ["EOG1", "EOG2"])
    header = bytearray(good.read_bytes())
    header[244:252] = b"0       "
    (root / "rateless.edf").write_bytes(header)
    write_edf(root / "sub" / "a_good.bdf", X, NAMES, bdf=True)
    store, skipped, said = prepared(root)
    assert [info.id for info in store.recordings] == ["a_good", "short", "sub/a_good"]
    for name, reason in {
        "gap": "gap.edf: EDF+D with 1 gaps, the first from 3 s to 7 s; export each continuous part",
        "rates": "rates.edf: EEG channels of differing sampling rates (64 Hz: Pz; 128 Hz: Fz Cz)",
        "twice": "twice.edf: duplicate channels: Fz as 'Fz', 'EEG Fz'; say which is meant: --aliases",
        "few": "few.edf: missing 2 of 3 channels: Fz Cz (the file has Pz)",
        "cut": "cut.edf: truncated: ",
        "flat": "flat.edf: flat channels: Cz; choose others",
        "loud": "about 10^3 too large); use --scale 1e-3",
        "eye": "eye.edf: missing 3 of 3 channels",
        "rateless": "rateless.edf: no sampling rate",
    }.items():
        assert reason in skipped.pop(name), name
    assert skipped == {}
    assert "9 warnings; see prepare_report.json and quality.csv" in said
    with pytest.raises(
        DataError, match=r"window_s: got 9 s, longer than every recording \(the longest, a_good"
    ):
        WindowDataset(store, WindowConfig(window_s=9.0))


def test_samples_that_are_not_numbers(tmp_path: Path) -> None:
    import mne

    x = X * 1e-6
    x[1, 300] = np.nan
    (tmp_path / "in").mkdir()
    for name, values in (("good", X * 1e-6), ("holes", x)):
        raw = mne.io.RawArray(values, mne.create_info(NAMES, 128.0, "eeg"), verbose="error")
        raw.save(tmp_path / "in" / f"{name}_raw.fif", verbose="error")
    store, skipped, _ = prepared(tmp_path / "in")
    assert [info.id for info in store.recordings] == ["good_raw"]
    assert "1 samples are not numbers, the first at 2.344 s, in Cz; cut them out" in skipped["holes_raw"]


def test_annotations_outside_the_recording(tmp_path: Path) -> None:
    notes = [(0.0, 2.0, "in"), (4.0, 3.0, "over"), (60.0, 1.0, "out")]
    write_edf(tmp_path / "in" / "a.edf", X, NAMES, annotations=notes)
    store, skipped, said = prepared(tmp_path / "in")
    assert skipped == {}
    assert [span.label for span in store["a"].labels] == ["in", "over"]
    assert "look at     a: 1 annotations outside the recording left out" in said


def test_one_identity_for_two(tmp_path: Path) -> None:
    write_edf(tmp_path / "in" / "a.edf", X, NAMES)
    write_edf(tmp_path / "in" / "a.bdf", X, NAMES, bdf=True)
    store, skipped, _ = prepared(tmp_path / "in")
    assert len(store) == 1
    assert "a.edf: claims the identity 'a' of " in skipped["a (2)"]
    assert "a.bdf; rename one" in skipped["a (2)"]


def test_a_table_that_divides_a_subject(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        write_edf(tmp_path / "in" / f"{name}.edf", X, NAMES)
    table = tmp_path / "mine.csv"
    table.write_text("recording,subject,split\none,anna,train\ntwo,anna,test\nthree,bert,train\n")
    store, skipped, said = prepared(tmp_path / "in", "--table", str(table))
    assert (len(store), skipped) == (3, {})
    assert "mine.csv: subjects in more than one split: anna (test, train); keep each in one" in said
    with pytest.raises(DataError, match="split divides these subjects: anna; use --no-official"):
        split_subjects(store, SplitConfig(val=0.0))
    table.write_text("recording,subject,split\none,anna,train\none,anna,test\n")
    with pytest.raises(DataError, match=r"mine\.csv: line 3: split of 'one' is 'test', line 2 says 'train'"):
        prepared(tmp_path / "in", "--table", str(table))


def test_labels_missing_for_some(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        write_edf(tmp_path / "in" / f"{name}.edf", X, NAMES)
    table = tmp_path / "mine.csv"
    table.write_text("recording,label\none,calm\ntwo,\n")
    store, skipped, said = prepared(tmp_path / "in", "--table", str(table))
    assert (len(store), skipped) == (3, {})
    assert "mine.csv: no row for 1 recordings: three" in said
    windows = WindowDataset(store, WindowConfig(window_s=2.0), labelled=True)
    assert windows.unlabelled == ("three", "two")
    assert set(windows.recording_ids) == {"one"}
