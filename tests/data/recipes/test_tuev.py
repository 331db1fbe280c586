"""TUEV: events from .rec files, both naming schemes, malformed files."""

import pytest

from eegm2.data.labels import LabelSpan
from eegm2.data.preparing.worker import files_sha256, source_files
from eegm2.data.recipes import tuev
from eegm2.errors import DataError

from .conftest import tuh_names


@pytest.fixture
def tree(tmp_path, edf):
    train = edf(tmp_path / "edf/train/aaaaaaar/aaaaaaar_00000001.edf", tuh_names())
    train.with_suffix(".rec").write_text("13,1.0,2.0,6\n14,1.0,2.0,6\n3,1.5,2.5,1\n")
    evaluation = edf(tmp_path / "edf/eval/000/bckg_000_a_.edf", tuh_names())
    evaluation.with_suffix(".rec").write_text("0,5.0,6.0,5\r\n1,5.0,6.0,5\r\n")
    (evaluation.parent / "bckg_000_a__ch000.lab").write_text("0 1100000 bckg\n")
    (evaluation.parent / "bckg_000_a__ch000.htk").write_bytes(b"\0\1")
    return tmp_path


def test_events_of_several_channels_become_one_span_each(tree):
    evaluation, train = sorted(tuev.discover(tree), key=lambda r: r.split)[::-1][::-1][0:2]
    assert {evaluation.split, train.split} == {"test", "train"}
    by_split = {r.split: r for r in (evaluation, train)}
    assert by_split["train"].labels == (LabelSpan(1.0, 1.0, "bckg"), LabelSpan(1.5, 1.0, "spsw"))
    assert by_split["test"].labels == (LabelSpan(5.0, 1.0, "artf"),)


def test_subject_session_and_event_file(tree):
    found = {r.recording_id: r for r in tuev.discover(tree)}
    assert sorted(found) == ["000_bckg_000_a_", "aaaaaaar_00000001"]
    train = found["aaaaaaar_00000001"]
    assert (train.subject, train.session) == ("aaaaaaar", "00000001")
    assert train.files == (tree / "edf/train/aaaaaaar/aaaaaaar_00000001.rec",)
    assert found["000_bckg_000_a_"].subject == "000"


def test_the_folder_below_is_the_same_data_set(tree):
    assert tuev.matches(tree)
    assert tuev.matches(tree / "edf")
    whole, below = ({r.recording_id: r.labels for r in tuev.discover(at)} for at in (tree, tree / "edf"))
    assert whole == below


def test_events_are_part_of_the_source_hash(tree):
    def digest():
        found = {r.recording_id: r for r in tuev.discover(tree)}
        return files_sha256(source_files(found["aaaaaaar_00000001"], str(tree)))

    before = digest()
    (tree / "edf/train/aaaaaaar/aaaaaaar_00000001.rec").write_text("13,1.0,2.0,4,\n"[:-2] + "\n")
    assert digest() != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2.0,3.0,7\n", "label from 1 to 6"),
        ("1,3.0,2.0,6\n", "0 <= start < end"),
        ("1,0.0,2.0\n", "expected channel,start,end,label"),
        ("1,nan,2.0,6\n", "0 <= start < end"),
        ("0 1100000 bckg\n", "expected channel,start,end,label"),
    ],
)
def test_malformed_events_name_file_and_line(tree, text, message):
    (tree / "edf/train/aaaaaaar/aaaaaaar_00000001.rec").write_text("2,0.0,1.0,6\n" + text)
    found = {r.recording_id: r for r in tuev.discover(tree)}
    problem = found["aaaaaaar_00000001"].problem
    assert "aaaaaaar_00000001.rec: line 2" in problem
    assert message in problem
    assert found["000_bckg_000_a_"].problem is None


def test_missing_events_are_reported(tree):
    (tree / "edf/train/aaaaaaar/aaaaaaar_00000001.rec").unlink()
    recording = {r.recording_id: r for r in tuev.discover(tree)}["aaaaaaar_00000001"]
    assert "aaaaaaar_00000001.rec: cannot read the events (No such file" in recording.problem
    with pytest.raises(DataError, match=r"cannot read the events"):
        recording.load()


def test_matches(tree, tmp_path_factory):
    assert tuev.matches(tree)
    assert not tuev.matches(tmp_path_factory.mktemp("other"))
