"""Folders with a table: header, spans, missing and unlisted files, contradictions."""

import math

import pytest

from eegm2.data.labels import LabelSpan
from eegm2.data.recipes import folder_csv
from eegm2.errors import DataError

NAMES = ("Fz", "Cz", "Pz")


@pytest.fixture
def tree(tmp_path, edf):
    edf(tmp_path / "Müller A" / "first visit.edf", NAMES)
    edf(tmp_path / "b.edf", NAMES)
    return tmp_path


def table(tree, *lines):
    (tree / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {r.recording_id: r for r in folder_csv.discover(tree)}


def test_spans_attributes_session_and_split(tree):
    found = table(
        tree,
        "file,subject,session,label,onset_s,duration_s,split,attribute:age",
        "Müller A/first visit.edf,M,1,open,0,4.5,train,31",
        "Müller A/first visit.edf,M,1,closed,5,,train,31",
        "b.edf,B,,,,,,",
    )
    first = found["Müller_A_first_visit"]
    assert first.labels == (LabelSpan(0.0, 4.5, "open"), LabelSpan(5.0, math.inf, "closed"))
    assert (first.subject, first.session, first.split, first.attributes) == ("M", "1", "train", {"age": "31"})
    assert found["b"].labels == ()
    assert found["b"].split is None


def test_without_label_column_the_files_annotations_count(tree):
    found = table(tree, "file,subject", "b.edf,B", "Müller A/first visit.edf,M")
    assert found["b"].labels is None


def test_label_without_onset_holds_for_the_whole_recording(tree):
    found = table(tree, "subject,file,label", "B,b.edf,rest", "M,Müller A/first visit.edf,task")
    assert found["b"].labels == (LabelSpan(0.0, math.inf, "rest"),)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("file,subjct", r"unknown column 'subjct'; did you mean 'subject'\?"),
        ("file,subject,Label", r"unknown column 'Label'; did you mean 'label'\?"),
        ("file,subject,weather", r"unknown column 'weather'; known: file, subject"),
        ("file,label", r"column subject missing"),
        ("file,subject,label,label", r"a column is there twice"),
        ("file,subject,label,duration_s", r"duration_s without onset_s"),
        ("file,subject,attribute:", r"unknown column 'attribute:'"),
    ],
)
def test_header_is_strict(tree, header, message):
    with pytest.raises(DataError, match=rf"labels\.csv: .*{message}"):
        table(tree, header, "b.edf,B")


def test_missing_and_unlisted_files_are_reported(tree):
    found = table(tree, "file,subject,label", "b.edf,B,x", "gone.edf,G,x")
    assert "gone.edf: no such file, named in labels.csv line 3" in found["gone"].problem
    assert "first visit.edf: not named in labels.csv" in found["Müller_A_first_visit"].problem
    assert found["b"].problem is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("b.edf,B,x,0,1,", "b.edf,C,y,1,1,"), "line 3: subject 'C' of b.edf, but 'B' in line 2"),
        (("b.edf,B,x,0,one,",), "line 2: could not convert string to float: 'one'; times are seconds"),
        (("b.edf,B,x,-1,1,",), "expected 0 or more"),
        (("b.edf,,x,0,1,",), "column subject is empty for b.edf"),
        (("b.edf,B,x,0,1,evaluation",), "split 'evaluation', expected train, val, test"),
    ],
)
def test_bad_rows_spoil_their_recording_only(tree, rows, message):
    found = table(
        tree, "file,subject,label,onset_s,duration_s,split", "Müller A/first visit.edf,M,x,0,1,", *rows
    )
    assert message.replace("line 3", "line 4").replace("line 2", "line 3") in found["b"].problem
    assert found["Müller_A_first_visit"].problem is None


def test_rows_of_another_length_and_empty_tables(tree):
    with pytest.raises(DataError, match=r"line 2: not 3 values as in the header"):
        table(tree, "file,subject,label", "b.edf,B")
    with pytest.raises(DataError, match=r"no rows below the header"):
        table(tree, "file,subject")
    (tree / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"labels\.csv: cannot read the table \(No such file"):
        folder_csv.discover(tree)


def test_tables_of_other_encodings_are_refused(tree):
    (tree / "labels.csv").write_bytes("file,subject\nMüller A/first visit.edf,M\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"labels\.csv: cannot read the table .*expected CSV in UTF-8"):
        folder_csv.discover(tree)
