"""From a published layout to windows: every recipe's tree goes through ``prepare``."""

import numpy as np
import pytest
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.data.config import SplitConfig, WindowConfig
from eegm2.data.labels import LabelSpan
from eegm2.data.preparing.prepare import PrepareConfig, prepare
from eegm2.data.store.facts import RecordingInfo
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.dataset import WindowDataset
from eegm2.data.windows.labelling import recording_windows
from eegm2.data.windows.splits import split_subjects

from .conftest import tuh_names


def test_tuab_by_the_command_line(tuab_tree, tmp_path, edf):
    edf(tuab_tree / "edf/train/normal/01_tcp_ar/aaaaabbb_s001_t000.edf", tuh_names(without=("T5", "O2")))
    broken = tuab_tree / "edf/train/normal/01_tcp_ar/aaaaaccc_s001_t000.edf"
    broken.write_bytes(b"0       " + bytes(300))
    out = tmp_path / "store"
    command = [
        "prepare",
        str(tuab_tree),
        "--recipe",
        "tuab",
        "--montage",
        "tcp16",
        "--out",
        str(out),
        "--jobs",
        "1",
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "skipped     aaaaabbb_s001_t000" in done.output
    assert "missing 2 of 16 channels: P7 O2" in done.output
    assert "skipped     aaaaaccc_s001_t000" in done.output
    store = RecordingStore(out)
    assert len(store.recordings) == 5
    assert store.ch_names[:4] == ("Fp1-F7", "F7-T7", "T7-P7", "P7-O1")
    assert store.sfreq_hz == 128
    assert {info.split for info in store.recordings} == {"train", "test"}
    windows = WindowDataset(store, WindowConfig(window_s=4.0), labelled=True)
    assert windows.classes == ("abnormal", "normal")
    assert len(windows) == 5 * 3
    assert windows[0]["x"].shape == (16, 512)


def test_tuab_bipolar_values_are_the_differences(tuab_tree, tmp_path):
    import mne

    config = PrepareConfig(recipe="tuab", montage="tcp16", l_freq_hz=0, h_freq_hz=0, sfreq_hz=250, jobs=1)
    prepare(tuab_tree, tmp_path / "store", config)
    store = RecordingStore(tmp_path / "store")
    source = next(tuab_tree.rglob("aaaaaaaq_s004_t000.edf"))
    raw = mne.io.read_raw_edf(source, verbose="error")
    expected = (raw.get_data("EEG FP1-LE") - raw.get_data("EEG F7-LE"))[0] * 1e6
    got = store.read("aaaaaaaq_s004_t000", 0, 1000)[0]
    difference = got - expected[:1000]
    np.testing.assert_allclose(difference - difference.mean(), 0, atol=1e-3)


def test_tuev_windows_around_events(tmp_path, edf):
    path = edf(tmp_path / "tuev/edf/train/aaaaaaar/aaaaaaar_00000001.edf", tuh_names(), seconds=20)
    path.with_suffix(".rec").write_text("1,4.0,5.0,1\n2,4.0,5.0,1\n1,10.0,11.0,6\n1,19.5,20.5,6\n")
    prepare(tmp_path / "tuev", tmp_path / "store", PrepareConfig(jobs=1))
    config = WindowConfig(window_s=2.0, label_rule="centre")
    windows = WindowDataset(RecordingStore(tmp_path / "store"), config, labelled=True)
    assert [windows.classes[label] for label in windows.labels] == ["spsw", "bckg"]
    np.testing.assert_allclose(windows.start_s, [3.5, 9.5])


def test_stew_targets(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "stew").mkdir()
    for name in ("sub01_lo", "sub01_hi", "sub02_lo", "sub02_hi"):
        np.savetxt(tmp_path / "stew" / f"{name}.txt", 4200 + 20 * rng.standard_normal((1280, 14)), fmt="%.3f")
    (tmp_path / "stew" / "ratings.txt").write_text("1,2,9\n")
    prepare(tmp_path / "stew", tmp_path / "store", PrepareConfig(jobs=1))
    store = RecordingStore(tmp_path / "store")
    assert store.ch_names[0] == "AF3"
    by_condition = WindowDataset(store, WindowConfig(window_s=2.0), labelled=True)
    assert (by_condition.classes, len(by_condition)) == (("rest", "task"), 20)
    by_rating = WindowDataset(store, WindowConfig(window_s=2.0, target="workload"), labelled=True)
    assert (by_rating.classes, len(by_rating)) == (("high", "low"), 10)
    assert by_rating.unlabelled == ("sub02_hi", "sub02_lo")


@pytest.fixture
def authors_store(tmp_path):
    rng = np.random.default_rng(4)
    content = {}
    for split, n in (("train", 6), ("val", 3), ("test", 3)):
        content[f"{split}_data"] = rng.standard_normal((n, 14, 256)) + 100 * np.arange(n)[:, None, None]
        content[f"{split}_label"] = np.arange(n) % 2
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "STEW.npy", content, allow_pickle=True)
    prepare(tmp_path / "arrays", tmp_path / "store", PrepareConfig(recipe="authors_npy", jobs=1))
    return RecordingStore(tmp_path / "store"), content


def test_authors_windows_come_out_as_they_went_in(authors_store):
    store, content = authors_store
    windows = WindowDataset(
        store, WindowConfig(window_s=2.0, scaling="none"), subjects=["STEW_train"], labelled=True
    )
    assert list(windows.labels) == [0, 1, 0, 1, 0, 1]
    offset = content["train_data"][0] - windows[0]["x"].numpy()
    for index, expected in enumerate(content["train_data"]):
        got = windows[index]["x"].numpy()
        np.testing.assert_allclose(expected - got, np.broadcast_to(offset[:, :1], got.shape), atol=1e-3)


@pytest.mark.parametrize(
    ("window_s", "stride_s", "per_sample"), [(2.0, None, 1), (1.0, None, 2), (1.0, 0.5, 3), (1.5, 0.25, 3)]
)
@pytest.mark.parametrize("labelled", [True, False])
def test_no_window_straddles_two_of_the_authors_windows(
    authors_store, window_s, stride_s, per_sample, labelled
):
    store, _ = authors_store
    config = WindowConfig(window_s=window_s, stride_s=stride_s, scaling="none")
    windows = WindowDataset(store, config, subjects=["STEW_train"], labelled=labelled)
    assert len(windows) == 6 * per_sample
    spread = [np.ptp(windows[index]["x"].numpy()) for index in range(len(windows))]
    assert max(spread) < 50  # neighbouring samples differ by 100


def test_a_window_longer_than_the_authors_is_refused(authors_store):
    store, _ = authors_store
    with pytest.raises(ValueError, match=r"no window of 2\.5 s is left"):
        WindowDataset(store, WindowConfig(window_s=2.5))


def test_official_splits_are_kept(authors_store, tuab_tree, tmp_path):
    authors = split_subjects(authors_store[0], SplitConfig())
    assert (authors.train, authors.val, authors.test) == (("STEW_train",), ("STEW_val",), ("STEW_test",))
    prepare(tuab_tree, tmp_path / "tuab", PrepareConfig(recipe="tuab", jobs=1))
    tuab = split_subjects(RecordingStore(tmp_path / "tuab"), SplitConfig(val=0.5))
    assert tuab.test == ("aaaaamye",)
    assert sorted(tuab.train + tuab.val) == ["aaaaaaaq", "aaaaaaav"]


def test_joins_between_samples_only_stop_windows_that_cross():
    labels = (
        LabelSpan(2.0, 0.0, "BAD boundary"),
        LabelSpan(2.0, 0.0, "EDGE boundary"),
        LabelSpan(3.2, 0.0, "bad mark"),
    )
    info = RecordingInfo("r", "s", "", 128 * 6, 128.0, ("Cz",), labels)
    starts, _ = recording_windows(info, [], WindowConfig(window_s=1.0), (), 128, 64)
    np.testing.assert_allclose(starts / 128, [0.0, 0.5, 1.0, 2.0, 3.5, 4.0, 4.5, 5.0])


def test_folder_with_a_table(tmp_path, edf):
    root = tmp_path / "my data ü"
    edf(root / "a b.edf", ("Fz", "Cz", "Pz"))
    edf(root / "c.edf", ("Fz", "Cz", "Pz"), seed=1)
    edf(root / "unlisted.edf", ("Fz", "Cz", "Pz"), seed=2)
    table = (
        "file,subject,label,onset_s,duration_s\na b.edf,A,open,0,6\na b.edf,A,closed,6,\nc.edf,C,open,0,\n"
    )
    (root / "labels.csv").write_text(table + "gone.edf,G,open,0,\n")
    result = prepare(root, tmp_path / "store", PrepareConfig(jobs=1))
    assert result.recipe == "folder_csv"
    assert {o.recording: o.status for o in result.outcomes} == {
        "a_b": "prepared",
        "c": "prepared",
        "gone": "skipped",
        "unlisted": "skipped",
    }
    windows = WindowDataset(RecordingStore(tmp_path / "store"), WindowConfig(window_s=2.0), labelled=True)
    assert sorted(windows.labels.tolist()) == [0] * 3 + [1] * 9


def test_a_second_run_finds_everything_done(tuab_tree, tmp_path):
    config = PrepareConfig(recipe="tuab", jobs=1)
    prepare(tuab_tree, tmp_path / "store", config)
    assert prepare(tuab_tree, tmp_path / "store", config).counts == {"unchanged": 5}
