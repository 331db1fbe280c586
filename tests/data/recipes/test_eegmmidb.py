"""eegmmidb: what a run means, names with dots, both ways of laying the files out."""

import math
import os
from pathlib import Path

import pytest

from eegm2.data.labels import LabelSpan
from eegm2.data.recipes import eegmmidb
from eegm2.errors import DataError

NAMES = ("Fc5.", "Fc3.", "C3..", "Cz..", "O1..", "Iz..")
EVENTS = ((0.0, 4.2, "T0"), (4.2, 4.1, "T2"), (8.3, 3.5, "T1"))


@pytest.fixture
def tree(tmp_path, edf):
    for run in (1, 2, 3, 6):
        notes = EVENTS if run > 2 else ((0.0, 12.0, "T0"),)
        edf(tmp_path / f"S001/S001R{run:02d}.edf", NAMES, sfreq_hz=160, annotations=notes)
    edf(tmp_path / "S002/S002R01.edf", NAMES, sfreq_hz=160)
    return tmp_path


def test_baselines_are_labelled_as_a_whole(tree):
    found = {r.recording_id: r for r in eegmmidb.discover(tree)}
    assert sorted(found) == ["S001R01", "S001R02", "S001R03", "S001R06", "S002R01"]
    assert found["S001R01"].labels == (LabelSpan(0.0, math.inf, "eyes_open"),)
    assert found["S001R02"].labels == (LabelSpan(0.0, math.inf, "eyes_closed"),)
    assert found["S001R02"].subject == "S001"


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("03", ["rest", "move_right_fist", "move_left_fist"]),
        ("06", ["rest", "imagine_both_feet", "imagine_both_fists"]),
    ],
)
def test_marks_mean_what_the_run_says(tree, run, expected):
    recording = next(r for r in eegmmidb.discover(tree) if r.recording_id == f"S001R{run}")
    assert recording.labels is None
    raw = recording.load()
    assert list(raw.annotations.description) == expected
    assert raw.annotations.onset[1] == pytest.approx(4.2, abs=0.01)


def test_every_task_run_is_declared():
    assert sorted({*eegmmidb.WHOLE, *eegmmidb.TASKS}) == list(range(1, 15))


def test_every_run_means_what_the_data_set_says():
    """As PhysioNet describes the 14 runs: two baselines, then three times the same four tasks."""
    assert eegmmidb.WHOLE == {1: "eyes_open", 2: "eyes_closed"}
    four = [("move", "left_fist", "right_fist"), ("imagine", "left_fist", "right_fist")]
    four += [("move", "both_fists", "both_feet"), ("imagine", "both_fists", "both_feet")]
    assert {run: four[(run - 3) % 4] for run in range(3, 15)} == eegmmidb.TASKS


def test_flat_folder_and_unknown_run(tmp_path, edf):
    edf(tmp_path / "S001R01.edf", NAMES, sfreq_hz=160)
    edf(tmp_path / "S001R15.edf", NAMES, sfreq_hz=160)
    edf(tmp_path / "other.edf", NAMES, sfreq_hz=160)
    good, bad = eegmmidb.discover(tmp_path)
    assert good.problem is None
    assert "S001R15.edf: run 15 is unknown" in bad.problem
    assert eegmmidb.matches(tmp_path)


def test_nothing_there(tmp_path):
    assert not eegmmidb.matches(tmp_path)
    with pytest.raises(DataError, match=r"no S<nnn>R<nn>\.edf"):
        eegmmidb.discover(tmp_path)


@pytest.mark.skipif(
    "EEGM2_TEST_DATA" not in os.environ, reason="EEGM2_TEST_DATA does not name the folder of real data"
)
def test_real_recordings():
    found = {r.recording_id: r for r in eegmmidb.discover(Path(os.environ["EEGM2_TEST_DATA"]) / "eegmmidb")}
    assert {r.labels[0].label for r in found.values() if r.labels} == {"eyes_open", "eyes_closed"}
    raw = found["S001R03"].load()
    assert raw.info["sfreq"] == 160
    assert len(raw.ch_names) == 64
    assert set(raw.annotations.description) == {"rest", "move_left_fist", "move_right_fist"}
