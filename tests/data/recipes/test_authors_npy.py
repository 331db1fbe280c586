"""The authors' published windows: splits, joins, channel names, unfit files."""

import os

import numpy as np
import pytest

from eegm2.data.recipes import authors_npy
from eegm2.data.recipes.arrays import EPOC14, TCP16
from eegm2.errors import DataError


@pytest.fixture
def content():
    rng = np.random.default_rng(1)
    return {
        "All_train_data": rng.standard_normal((8, 14, 256)),
        "All_train_label": np.zeros(8),
        "train_data": 20 * rng.standard_normal((5, 14, 256)),
        "train_label": np.array([0.0, 1.0, 1.0, 0.0, 1.0]),
        "val_data": 20 * rng.standard_normal((3, 14, 256)),
        "val_label": np.array([0, 1, 1]),
        "test_data": 20 * rng.standard_normal((2, 14, 256)),
        "test_label": np.array([1, 0]),
        "max_len": 256,
    }


@pytest.fixture
def tree(tmp_path, content):
    np.save(tmp_path / "Crowdsourced.npy", content, allow_pickle=True)
    return tmp_path


def test_one_pseudo_recording_and_subject_per_split(tree):
    found = {r.split: r for r in authors_npy.discover(tree)}
    assert sorted(found) == ["test", "train", "val"]
    assert found["train"].recording_id == found["train"].subject == "Crowdsourced_train"
    assert len({r.subject for r in found.values()}) == 3


def test_each_window_has_its_span_and_each_join_a_boundary(tree):
    train = next(r for r in authors_npy.discover(tree) if r.split == "train")
    spans = [span for span in train.labels if span.label != "BAD boundary"]
    joins = [span for span in train.labels if span.label == "BAD boundary"]
    assert [span.label for span in spans] == ["0", "1", "1", "0", "1"]
    assert [span.onset_s for span in spans] == [0, 2, 4, 6, 8]
    assert {span.duration_s for span in spans} == {2.0}
    assert [span.onset_s for span in joins] == [2, 4, 6, 8]


def test_samples_are_laid_end_to_end_in_volts(tree, content):
    train = next(r for r in authors_npy.discover(tree) if r.split == "train")
    raw = train.load()
    assert tuple(raw.ch_names) == EPOC14
    assert raw.info["sfreq"] == 128
    for index, window in enumerate(content["train_data"]):
        piece = raw.get_data(start=index * 256, stop=(index + 1) * 256)
        np.testing.assert_allclose(piece, window * 1e-6, rtol=1e-12)
    assert set(raw.annotations.description) == {"BAD boundary", "EDGE boundary"}
    assert sorted(set(raw.annotations.onset)) == [2, 4, 6, 8]


def test_sixteen_channels_are_the_bipolar_pairs_and_others_are_numbered(tmp_path):
    for n_chans in (16, 3):
        data = {"train_data": np.ones((2, n_chans, 128)), "train_label": [0, 1]}
        np.save(tmp_path / f"c{n_chans}.npy", data, allow_pickle=True)
    few, pairs = sorted(authors_npy.discover(tmp_path), key=lambda r: len(r.load().ch_names))
    assert tuple(pairs.load().ch_names) == TCP16
    assert few.load().ch_names == ["CH01", "CH02", "CH03"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_label": None}, "train_label"),
        ({"train_label": [1, 2]}, r"train_label 2 labels"),
        ({"train_data": np.zeros((5, 14))}, r"shape \(5, 14\)"),
    ],
)
def test_unfit_arrays_are_reported_with_the_file(tree, content, change, message):
    np.save(tree / "broken.npy", {**content, **change}, allow_pickle=True)
    problem = next(r.problem for r in authors_npy.discover(tree) if r.problem)
    assert "broken.npy" in problem
    with pytest.raises(DataError, match=message):
        authors_npy.read_splits(tree / "broken.npy")


def test_unknown_keys_and_missing_partner(tmp_path):
    np.save(tmp_path / "k.npy", {"signals": np.zeros(3)}, allow_pickle=True)
    with pytest.raises(DataError, match=r"k\.npy: keys signals; expected train_data and train_label"):
        authors_npy.read_splits(tmp_path / "k.npy")
    np.save(
        tmp_path / "k.npy",
        {"val_data": np.zeros((1, 1, 9)), "val_label": [0], "test_data": np.zeros((1, 1, 9))},
    )
    with pytest.raises(DataError, match=r"split test has only data; expected test_data and test_label"):
        authors_npy.read_splits(tmp_path / "k.npy")


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


def test_malicious_file_is_refused_and_the_rest_goes_on(tree, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    np.save(tree / "evil.npy", {"train_data": Attack()}, allow_pickle=True)
    found = authors_npy.discover(tree)
    problems = [r.problem for r in found if r.problem]
    assert len(problems) == 1
    assert "evil.npy: refused, the file holds the name posix.system, which is code" in problems[0]
    assert len(found) == 4
    assert not (tmp_path / "attacked").exists()


def test_a_single_file_and_an_empty_folder(tree, tmp_path_factory):
    assert len(authors_npy.discover(tree / "Crowdsourced.npy")) == 3
    with pytest.raises(DataError, match=r"no \.npy file"):
        authors_npy.discover(tmp_path_factory.mktemp("empty"))
