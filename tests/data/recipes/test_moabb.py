"""MOABB arrays: what a paradigm gives, written and found again."""

import numpy as np
import pytest

from eegm2.data.recipes import moabb
from eegm2.errors import DataError


@pytest.fixture
def tree(tmp_path):
    rng = np.random.default_rng(2)
    x = (20 * rng.standard_normal((6, 3, 128))).astype(np.float32)
    np.save(tmp_path / "X.npy", x)
    np.save(tmp_path / "y.npy", np.array(["left_hand", "right_hand"] * 3))
    rows = ["subject,session,run", "1,0,0", "2,0,0", "1,0,0", "1,0,1", "2,0,0", "1,1,0"]
    (tmp_path / "metadata.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "recording.toml").write_text(
        'dataset = "Toy"\nsfreq_hz = 128.0\nch_names = ["C3", "Cz", "C4"]\n'
    )
    return tmp_path


def test_one_recording_per_subject_session_and_run(tree):
    found = {r.recording_id: r for r in moabb.discover(tree)}
    assert list(found) == ["sub-1_ses-0_run-0", "sub-1_ses-0_run-1", "sub-1_ses-1_run-0", "sub-2_ses-0_run-0"]
    first = found["sub-1_ses-0_run-0"]
    assert [s.label for s in first.labels] == ["left_hand", "BAD boundary", "left_hand"]
    assert (first.subject, first.session, first.attributes["dataset"]) == ("1", "0", "Toy")


def test_trials_of_a_run_are_its_own(tree):
    x = np.load(tree / "X.npy")
    second = next(r for r in moabb.discover(tree) if r.recording_id == "sub-2_ses-0_run-0")
    raw = second.load()
    assert raw.ch_names == ["C3", "Cz", "C4"]
    np.testing.assert_allclose(raw.get_data()[:, :128], x[1] * 1e-6, rtol=1e-6)
    np.testing.assert_allclose(raw.get_data()[:, 128:], x[4] * 1e-6, rtol=1e-6)


def test_files_that_disagree_or_are_missing(tree):
    np.save(tree / "y.npy", np.array(["left_hand"] * 5))
    with pytest.raises(
        DataError, match=r"X\.npy has shape \(6, 3, 128\), y\.npy 5 labels, metadata\.csv 6 rows"
    ):
        moabb.discover(tree)
    (tree / "y.npy").unlink()
    with pytest.raises(DataError, match=r"y\.npy not found; write the folder with .*save_moabb"):
        moabb.discover(tree)


def test_pickled_labels_are_refused(tree):
    np.save(tree / "y.npy", np.array(["left_hand", None] * 3, dtype=object), allow_pickle=True)
    with pytest.raises(
        DataError, match=r"y\.npy: damaged array \(an array of shape \(6,\) and type object\)"
    ):
        moabb.discover(tree)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # moabb uses a montage name that MNE renames
def test_fake_dataset_survives_saving(tmp_path):
    pytest.importorskip("moabb", reason="needs the extra eegm2[moabb]")
    from moabb.datasets.fake import FakeDataset
    from moabb.paradigms import LeftRightImagery

    dataset = FakeDataset(
        event_list=("left_hand", "right_hand"),
        n_sessions=2,
        n_runs=1,
        n_subjects=2,
        n_events=4,
        duration=20,
        seed=7,
    )
    paradigm = LeftRightImagery(resample=128)
    x, y, metadata = paradigm.get_data(dataset)
    moabb.save_moabb(dataset, paradigm, tmp_path / "fake")
    found = {r.recording_id: r for r in moabb.discover(tmp_path / "fake")}
    assert len(found) == 4
    assert {r.attributes["dataset"] for r in found.values()} == {dataset.code}
    chosen = found[f"sub-2_ses-{metadata['session'].iloc[0]}_run-{metadata['run'].iloc[0]}"]
    rows = np.flatnonzero((metadata["subject"] == 2) & (metadata["session"] == metadata["session"].iloc[0]))
    assert [s.label for s in chosen.labels if s.label != "BAD boundary"] == list(y[rows])
    got = chosen.load().get_data().reshape(3, len(rows), -1).transpose(1, 0, 2)
    np.testing.assert_allclose(got, x[rows] * 1e-6, rtol=1e-5, atol=1e-12)


def test_matches(tree):
    assert moabb.matches(tree)
    (tree / "recording.toml").unlink()
    assert not moabb.matches(tree)
