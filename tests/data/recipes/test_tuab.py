"""TUAB: splits, labels, people with several sessions, labels or splits, and odd files."""

import math
import shutil

import pytest

from eegm2.data.labels import LabelSpan
from eegm2.data.recipes import tuab
from eegm2.errors import DataError

from .conftest import tuh_names


def test_paths_give_subject_session_label_and_official_split(tuab_tree):
    found = tuab.discover(tuab_tree)
    assert [r.recording_id for r in found] == [
        "aaaaaaaq_s003_t000",
        "aaaaaaaq_s004_t000",
        "aaaaaaaq_s004_t001",
        "aaaaaaav_s004_t000",
        "aaaaamye_s001_t000",
    ]
    last = found[-1]
    assert (last.subject, last.session, last.split) == ("aaaaamye", "s001", "test")
    assert last.labels == (LabelSpan(0.0, math.inf, "abnormal"),)
    assert found[0].split == "train"
    assert found[0].attributes["label"] == "normal"
    assert not any(r.problem for r in found)


def test_edf_folder_itself_is_accepted(tuab_tree):
    assert len(tuab.discover(tuab_tree / "edf")) == 5


def test_discovery_opens_no_recording(tuab_tree):
    for path in tuab_tree.rglob("*.edf"):
        path.write_bytes(b"")
    assert len(tuab.discover(tuab_tree)) == 5


def test_subject_with_both_labels_keeps_all_recordings_and_says_so(tuab_tree):
    found = {r.recording_id: r for r in tuab.discover(tuab_tree)}
    assert found["aaaaaaaq_s003_t000"].attributes["subject_labels"] == "abnormal+normal"
    assert found["aaaaaaaq_s004_t001"].attributes["subject_labels"] == "abnormal+normal"
    assert "subject_labels" not in found["aaaaaaav_s004_t000"].attributes


def test_subject_in_train_and_eval_is_left_out_of_training_only(tuab_tree, edf):
    edf(tuab_tree / "edf/eval/normal/01_tcp_ar/aaaaaaav_s009_t000.edf", tuh_names())
    found = {r.recording_id: r for r in tuab.discover(tuab_tree)}
    assert "aaaaaaav is in edf/train and edf/eval" in found["aaaaaaav_s004_t000"].problem
    assert found["aaaaaaav_s009_t000"].problem is None
    usable = [r for r in found.values() if r.problem is None]
    assert not {r.subject for r in usable if r.split == "train"} & {
        r.subject for r in usable if r.split == "test"
    }


def test_odd_name_is_reported_and_the_rest_goes_on(tuab_tree, edf):
    edf(tuab_tree / "edf/train/normal/01_tcp_ar/notes from visit.edf", tuh_names())
    problems = [r.problem for r in tuab.discover(tuab_tree) if r.problem]
    assert len(problems) == 1
    assert "notes from visit.edf: the name is not <subject>_s<session>_t<token>.edf" in problems[0]


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "edf").mkdir()
    with pytest.raises(DataError, match=r"no recording in edf/\{train,eval\}"):
        tuab.discover(tmp_path)
    with pytest.raises(DataError, match=r"nowhere: not a folder"):
        tuab.discover(tmp_path / "nowhere")


def test_matches_this_layout_only(tuab_tree, tmp_path):
    assert tuab.matches(tuab_tree)
    shutil.rmtree(tuab_tree / "edf")
    assert not tuab.matches(tuab_tree)
