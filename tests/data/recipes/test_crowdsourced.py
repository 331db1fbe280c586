"""Crowdsourced: EmotivPRO exports as EDF and CSV, marks in three places."""

import numpy as np
import pytest

from eegm2.data.labels import LabelSpan
from eegm2.data.recipes import crowdsourced
from eegm2.data.recipes.arrays import EPOC14
from eegm2.errors import DataError

STEM = "Eyes_EPOCX_{}_2021.07.10T21.48.59+11.00"
MARKS = "latency,duration,type,marker_value,key,timestamp,marker_id\n"


def write_csv(path, n=512, names=EPOC14, header="title:x, sampling rate:eeg_128;mot_32, version:2.2"):
    values = 4200 + np.random.default_rng(0).standard_normal((n, len(names)))
    columns = ["Timestamp", "EEG.Counter", *(f"EEG.{name}" for name in names), "MarkerIndex"]
    lines = [header, ",".join(columns)]
    lines += [
        ",".join([f"{i / 128:.4f}", str(i % 128), *(f"{v:.3f}" for v in row), ""])
        for i, row in enumerate(values)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return values


def test_edf_with_interval_markers(tmp_path, edf):
    stem = STEM.format("P07")
    edf(tmp_path / f"{stem}.edf", EPOC14, sfreq_hz=128)
    edf(tmp_path / f"{stem}.md.edf", EPOC14, sfreq_hz=128)
    rows = "2.0,3.0,Eyes_Opened,1,-1,0,1\n5.5,0.0,key_a,9,9,0,2\n6.0,4.0,Eyes_Closed,3,-1,0,3\n"
    (tmp_path / f"{stem}_intervalMarker.csv").write_text(MARKS + rows)
    (recording,) = crowdsourced.discover(tmp_path)
    assert recording.subject == "P07"
    assert recording.path.name == f"{stem}.edf"
    assert recording.labels == (LabelSpan(2.0, 3.0, "eyes_open"), LabelSpan(6.0, 4.0, "eyes_closed"))
    assert recording.files == (tmp_path / f"{stem}_intervalMarker.csv",)
    assert tuple(recording.load().ch_names) == EPOC14


def test_edf_with_annotations_only(tmp_path, edf):
    notes = ((1.0, 0.0, "eyes open"), (2.0, 0.0, "blink"), (6.0, 2.0, "EyesClosed"))
    edf(tmp_path / "anna b" / "session.edf", EPOC14, sfreq_hz=128, annotations=notes)
    (recording,) = crowdsourced.discover(tmp_path)
    assert (recording.subject, recording.labels) == ("anna b", None)
    raw = recording.load()
    assert list(raw.annotations.description) == ["eyes_open", "eyes_closed"]
    np.testing.assert_allclose(raw.annotations.duration, [5.0, 2.0])


def test_csv_export_labelled_by_its_name(tmp_path):
    values = write_csv(tmp_path / "p1" / "eyes-closed run.md.csv")
    (tmp_path / "p1" / "summary.csv").write_text("a,b\n1,2\n")
    (recording,) = crowdsourced.discover(tmp_path)
    assert recording.subject == "p1"
    assert [span.label for span in recording.labels] == ["eyes_closed"]
    raw = recording.load()
    assert raw.info["sfreq"] == 128
    np.testing.assert_allclose(raw.get_data(), values.T * 1e-6, atol=1e-9)


def test_marks_without_duration_last_two_minutes_at_most():
    spans = crowdsourced.eyes_spans([(10.0, 0.0, "eyes_closed"), (300.0, 0.0, "Eyes Open")])
    assert spans == (LabelSpan(10.0, 120.0, "eyes_closed"), LabelSpan(300.0, 120.0, "eyes_open"))


def test_malformed_marks_are_reported(tmp_path, edf):
    edf(tmp_path / "a.edf", EPOC14, sfreq_hz=128)
    edf(tmp_path / "b.edf", EPOC14, sfreq_hz=128)
    (tmp_path / "a_intervalMarker.csv").write_text("onset,what\n1,eyes_open\n")
    a, b = crowdsourced.discover(tmp_path)
    assert "a_intervalMarker.csv: cannot read the marks" in a.problem
    assert b.problem is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": EPOC14[:-1]}, r"x\.csv: not an EmotivPRO export .*AF4"),
        ({"header": "title:x, version:2"}, r"x\.csv: the first line names no sampling rate"),
    ],
)
def test_broken_csv_exports(tmp_path, options, message):
    write_csv(tmp_path / "x.csv", n=4, **options)
    (recording,) = crowdsourced.discover(tmp_path)
    with pytest.raises(DataError, match=message):
        recording.load()


def test_empty_folder(tmp_path):
    with pytest.raises(DataError, match=r"no EmotivPRO export"):
        crowdsourced.discover(tmp_path)
