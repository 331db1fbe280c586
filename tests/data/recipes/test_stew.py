"""STEW: text signals, ratings, and broken text."""

import numpy as np
import pytest

from eegm2.data.recipes import stew
from eegm2.data.recipes.arrays import EPOC14
from eegm2.errors import DataError


@pytest.fixture
def tree(tmp_path):
    rng = np.random.default_rng(3)
    for name in ("sub01_lo", "sub01_hi", "sub05_lo", "sub05_hi"):
        values = 4200 + 20 * rng.standard_normal((384, 14))
        np.savetxt(tmp_path / f"{name}.txt", values, fmt="%.4f", delimiter="  ")
    (tmp_path / "ratings.txt").write_text("1, 4, 8\n2, 5, 5\n")
    (tmp_path / "readme.txt").write_text("not a recording\n")
    return tmp_path


def test_condition_ratings_and_workload(tree):
    found = {r.recording_id: r for r in stew.discover(tree)}
    assert sorted(found) == ["sub01_hi", "sub01_lo", "sub05_hi", "sub05_lo"]
    assert found["sub01_hi"].labels[0].label == "task"
    assert found["sub01_hi"].attributes == {"condition": "task", "rating": "8", "workload": "high"}
    assert found["sub01_lo"].attributes == {"condition": "rest", "rating": "4", "workload": "low"}
    assert found["sub01_lo"].subject == found["sub01_hi"].subject == "sub01"


def test_subject_without_rating_has_no_workload(tree):
    found = {r.recording_id: r for r in stew.discover(tree)}
    assert found["sub05_hi"].attributes == {"condition": "task"}


def test_signal_is_read_in_volts_with_epoc_names(tree):
    recording = next(r for r in stew.discover(tree) if r.recording_id == "sub01_hi")
    raw = recording.load()
    expected = np.loadtxt(tree / "sub01_hi.txt")
    assert tuple(raw.ch_names) == EPOC14
    assert raw.info["sfreq"] == 128
    np.testing.assert_allclose(raw.get_data(), expected.T * 1e-6, rtol=1e-12)


def test_ratings_may_be_absent(tree):
    (tree / "ratings.txt").unlink()
    assert all("rating" not in r.attributes for r in stew.discover(tree))


@pytest.mark.parametrize(
    ("text", "message"), [("1, 4\n", "rest rating, task rating"), ("1, 4, 12\n", "from 1 to 9")]
)
def test_malformed_ratings(tree, text, message):
    (tree / "ratings.txt").write_text(text)
    with pytest.raises(DataError, match=rf"ratings\.txt: line 1: .*{message}"):
        stew.discover(tree)


@pytest.mark.parametrize("text", ["1 2 x\n", "1 2 3\n1 2\n", "1 2 3\n", ""])
def test_broken_signal_names_the_file(tree, text):
    (tree / "sub01_hi.txt").write_text(text)
    recording = next(r for r in stew.discover(tree) if r.recording_id == "sub01_hi")
    with pytest.raises(DataError, match=r"sub01_hi\.txt: .*expected"):
        recording.load()


def test_empty_folder(tmp_path):
    with pytest.raises(DataError, match=r"no sub<NN>_lo\.txt"):
        stew.discover(tmp_path)
