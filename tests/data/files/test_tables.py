"""Tables: any usual separator, usual names of times, and nothing that looks like a time is a label."""

from __future__ import annotations

import math
import unicodedata
from pathlib import Path

import pytest

from eegm2.data.config import PrepareConfig
from eegm2.data.files.tables import read_rows, span_of, with_our_times
from eegm2.data.labels import LabelSpan
from eegm2.data.preparing.prepare import prepare
from eegm2.data.store.recording_store import RecordingStore
from eegm2.errors import DataError
from tests.data.samples import eeg, write_edf


def spans(path: Path, text: str, encoding: str = "utf-8") -> list[LabelSpan]:
    path.write_text(text, encoding=encoding)
    _, rows = with_our_times(path, *read_rows(path))
    return [span_of(row, "x") for _, row in rows]


EXPECTED = [LabelSpan(1.5, 5.0, "open"), LabelSpan(10.0, 5.0, "closed")]


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("recording,label,onset,duration", "a,open,1.5,5\na,closed,10,5\n"),
        ("recording;label;Onset;Duration", "a;open;1,5;5\na;closed;10;5\n"),
        ("recording\tlabel\tonset_s\tduration_s", "a\topen\t1.5\t5\na\tclosed\t10\t5\n"),
        ("recording,label,start,end", "a,open,1.5,6.5\na,closed,10,15\n"),
        ("recording,label,Start time,stop", "a,open,1.5,6.5\na,closed,10,15\n"),
        ("recording,label,onset (s),duration [s]", "a,open,1.5,5\na,closed,10,5\n"),
        ("\ufeffrecording,label,tmin,tmax", "a,open,1.5,6.5\n\na,closed,10,15\n"),
    ],
)
def test_usual_names_and_separators(header: str, rows: str, tmp_path: Path) -> None:
    if header.startswith("recording,label,Start"):
        header = header.replace("Start time", "start_time")
    assert spans(tmp_path / "t.csv", f"{header}\n{rows}") == EXPECTED


@pytest.mark.parametrize(
    "column",
    [
        "onset_ms",
        "latency",
        "duration (ms)",
        "sample",
        "start_sample",
        "end_frame",
        "timestamp",
        "begin_time",
    ],
)
def test_columns_that_look_like_times_are_refused_by_name(column: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"looks like a time; call it onset_s or duration_s") as error:
        spans(tmp_path / "t.csv", f"recording,label,{column}\na,x,1\n")
    assert f"'{column}'" in str(error.value)


@pytest.mark.parametrize("column", ["age", "weekend", "attribute", "latent", "depression", "resend"])
def test_other_columns_are_no_times(column: str, tmp_path: Path) -> None:
    assert spans(tmp_path / "t.csv", f"recording,label,{column}\na,x,1\n") == [LabelSpan(0.0, math.inf, "x")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recording,onset,start\na,1,1\n", "columns 'onset' and 'start' are both onset_s"),
        ("recording,label,duration\na,x,1\n", "duration_s without onset_s"),
        ("recording,onset,end,duration\na,1,2,1\n", "both a duration and an end"),
        ("recording,a,a\nx,1,2\n", "a column is there twice: a"),
        ("recording,\nx,2\n", "a column has cells but no name"),
        ('recording,a\n"x,2\n', "cannot read the table"),
        ("", "has no rows"),
    ],
)
def test_what_is_wrong_with_a_table(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        spans(tmp_path / "t.csv", text)


def test_names_are_the_same_however_they_are_composed(tmp_path: Path) -> None:
    names = ["Fz", "Cz", "Pz"]
    write_edf(tmp_path / "in" / unicodedata.normalize("NFD", "Müller.edf"), eeg(3, 1280), names)
    (tmp_path / "t.tsv").write_text(
        "Recording\tLabel\tonset\tduration\nMüller\tcalm\t1\t2\n", encoding="utf-8"
    )
    config = PrepareConfig(jobs=1, table=str(tmp_path / "t.tsv"))
    result = prepare(tmp_path / "in", tmp_path / "out", config)
    assert result.messages == ()
    (info,) = RecordingStore(tmp_path / "out").recordings
    assert info.labels == (LabelSpan(1.0, 2.0, "calm"),)
    assert info.subject == "Müller"


def test_a_given_table_decides_and_one_that_is_not_given_is_told(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_edf(root / "S0" / "rest.edf", eeg(3, 1280), ["Fz", "Cz", "Pz"])
    (root / "labels.csv").write_text("recording,label\nS0/rest,a\n")
    result = prepare(root, tmp_path / "one", PrepareConfig(jobs=1, table=str(root / "labels.csv")))
    assert result.recipe == "folder"
    assert RecordingStore(tmp_path / "one")["S0/rest"].labels[0].label == "a"
    result = prepare(root, tmp_path / "two", PrepareConfig(jobs=1))
    assert any("labels.csv: not used; give it with --table" in message for message in result.messages)
    (tmp_path / "t.csv").write_text("recording,onset,duration,trial_type\nS0/rest,1,2,a\n")
    with pytest.raises(DataError, match="has times but no column label"):
        prepare(root, tmp_path / "three", PrepareConfig(jobs=1, table=str(tmp_path / "t.csv")))
