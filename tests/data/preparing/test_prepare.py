"""``eegm2 prepare``: data sets in, one store out; bad recordings cost only themselves, and it goes on."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.data.config import PrepareConfig
from eegm2.data.labels import LabelSpan
from eegm2.data.preparing.prepare import prepare
from eegm2.data.recipes.base import all_recipes, detect_recipe, get_recipe
from eegm2.data.signal.quality import read_quality
from eegm2.data.store.recording_store import RecordingStore
from eegm2.errors import ConfigError, DataError
from tests.data.samples import eeg, write_edf, write_store

NAMES = ["EEG Fz", "EEG Cz", "EEG T3"]
ALONE = PrepareConfig(jobs=1)


def folder(root: Path, names: tuple[str, ...] = ("anna/one", "anna/two", "bert/one")) -> Path:
    """Write a folder of EDF files, each with two annotations."""
    for seed, name in enumerate(names):
        notes = [(0.0, 2.0, "open"), (2.0, 3.0, "closed")]
        write_edf(root / f"{name}.edf", eeg(3, 1280, 256.0, seed), NAMES, 256.0, notes)
    return root


def bids(root: Path) -> Path:
    """Write a BIDS data set of two subjects; the second has no events."""
    for number, subject in enumerate(("sub-01", "sub-02")):
        stem = root / subject / "ses-a" / "eeg" / f"{subject}_ses-a_task-rest"
        write_edf(stem.with_name(stem.name + "_eeg.edf"), eeg(4, 1280, seed=number), [*NAMES, "X"])
        channels = "name\ttype\n" + "".join(f"{name}\tEEG\n" for name in NAMES) + "X\tEOG\n"
        stem.with_name(stem.name + "_channels.tsv").write_text(channels)
    events = root / "sub-01" / "ses-a" / "eeg" / "sub-01_ses-a_task-rest_events.tsv"
    events.write_text("onset\tduration\ttrial_type\n0\t5\topen\n5.0\tn/a\tblink\nn/a\t1\tlost\n")
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    (root / "participants.tsv").write_text(
        "participant_id\tage\tgroup\nsub-01\t31\tADHD\nsub-02\tn/a\tcontrol\n"
    )
    return root


def statuses(result: Any) -> dict[str, str]:
    return {outcome.recording: outcome.status for outcome in result.outcomes}


def test_a_folder(tmp_path: Path) -> None:
    result = prepare(folder(tmp_path / "in"), tmp_path / "out", ALONE)
    assert result.counts == {"prepared": 3}
    store = RecordingStore(tmp_path / "out")
    assert store.ch_names == ("Fz", "Cz", "T7")
    assert store.preprocessing.channels == store.ch_names
    info = store["anna/two"]
    assert (info.subject, info.n_times, info.sfreq_hz, info.source) == ("anna", 640, 128.0, "anna/two.edf")
    assert info.labels == (LabelSpan(0.0, 2.0, "open"), LabelSpan(2.0, 3.0, "closed"))
    assert len(info.source_sha256) == 64
    assert store.subjects == ("anna", "bert")
    report = json.loads((tmp_path / "out" / "prepare_report.json").read_text())
    assert report["counts"] == {"prepared": 3}
    assert str(tmp_path) not in (tmp_path / "out" / "recordings" / "anna%2Ftwo.json").read_text()
    assert [row["status"] for row in read_quality(store.storage)] == ["in store"] * 3
    assert (
        (tmp_path / "out" / "quality.csv")
        .read_text()
        .startswith("recording,subject,session,status,duration_s")
    )


def test_one_file_and_the_subject_rule(tmp_path: Path) -> None:
    folder(tmp_path / "in", ("sub-07_task-x", "deep/er/sub-08/a", "alone"))
    prepare(tmp_path / "in", tmp_path / "out", ALONE)
    subjects = {info.id: info.subject for info in RecordingStore(tmp_path / "out").recordings}
    assert subjects == {"sub-07_task-x": "sub-07", "deep/er/sub-08/a": "sub-08", "alone": "alone"}
    prepare(tmp_path / "in" / "alone.edf", tmp_path / "one", ALONE)
    assert [info.id for info in RecordingStore(tmp_path / "one").recordings] == ["alone"]


def test_bids(tmp_path: Path) -> None:
    result = prepare(bids(tmp_path / "in"), tmp_path / "out", ALONE)
    assert result.recipe == "bids"
    store = RecordingStore(tmp_path / "out")
    one, two = store.recordings
    assert (one.id, one.subject, one.session) == ("sub-01_ses-a_task-rest", "sub-01", "a")
    assert one.labels == (LabelSpan(0.0, 5.0, "open"), LabelSpan(5.0, 0.0, "blink"))
    assert one.attributes == {"age": "31", "group": "ADHD", "task": "rest"}
    assert two.attributes == {"group": "control", "task": "rest"}
    assert two.labels == ()
    assert one.quality["dropped_channels"] == ["X"]  # an EOG channel, says channels.tsv
    assert store.licence == ""
    (tmp_path / "in" / "dataset_description.json").write_text('{"License": " CC0 "}')
    prepare(tmp_path / "in", tmp_path / "out", ALONE)
    assert RecordingStore(tmp_path / "out").licence == "CC0"
    (tmp_path / "out" / "prepare_report.json").write_text("[")
    assert RecordingStore(tmp_path / "out").licence == ""


@pytest.mark.parametrize(("given", "low_hz"), [([], 0.0), (["--l-freq-hz", "0.5"], 0.5)])
def test_a_recipe_leaves_what_was_given_be_it_the_default(
    given: list[str], low_hz: float, tmp_path: Path
) -> None:
    windows = {"train_data": 4200 + eeg(14, 1024).reshape(14, 4, 256).swapaxes(0, 1)}
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", windows | {"train_label": [0, 1, 0, 1]}, allow_pickle=True)  # type: ignore[arg-type]
    command = ["prepare", str(tmp_path / "in"), "--recipe", "authors_npy", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*command, "--jobs", "1", *given], catch_exceptions=False)
    assert done.exit_code == 0
    store = RecordingStore(tmp_path / "out")
    assert (store.preprocessing.l_freq_hz, store.preprocessing.h_freq_hz) == (low_hz, 0.0)
    stored = store.read(store.recordings[0].id)[:, :256]
    if given:
        assert abs(stored.mean()) < 5
    else:  # nothing filters, nothing is resampled: the store holds what the file does, its offset too
        np.testing.assert_allclose(stored, windows["train_data"][0], rtol=1e-6)


def test_what_was_given_is_remembered() -> None:
    assert PrepareConfig().given == frozenset()
    config = PrepareConfig("epoc14", l_freq_hz=0.5)
    assert config.given == {"montage", "l_freq_hz"}
    assert pickle.loads(pickle.dumps(config)).given == config.given  # noqa: S301 (our own object)
    assert config == PrepareConfig(montage="epoc14")


def test_running_again_does_only_what_changed(tmp_path: Path) -> None:
    source, out = bids(tmp_path / "in"), tmp_path / "out"
    prepare(source, out, ALONE)
    before = RecordingStore(out).manifest_sha256
    files = {path: path.stat().st_mtime_ns for path in (out / "recordings").iterdir()}
    assert prepare(source, out, ALONE).counts == {"unchanged": 2}
    os.utime(source / "sub-01/ses-a/eeg/sub-01_ses-a_task-rest_eeg.edf")  # touched, not changed
    assert prepare(source, out, ALONE).counts == {"unchanged": 2}
    raws = {path: time for path, time in files.items() if path.suffix == ".raw"}
    assert {path: path.stat().st_mtime_ns for path in raws} == raws
    assert RecordingStore(out).manifest_sha256 == before

    (source / "participants.tsv").write_text("participant_id\tgroup\nsub-01\tADHD\nsub-02\tADHD\n")
    assert set(statuses(prepare(source, out, ALONE)).values()) == {"updated"}
    assert {info.attributes["group"] for info in RecordingStore(out).recordings} == {"ADHD"}
    assert {path: path.stat().st_mtime_ns for path in raws} == raws  # labels changed, samples did not

    changed = source / "sub-02/ses-a/eeg/sub-02_ses-a_task-rest_eeg.edf"
    write_edf(changed, eeg(4, 1280, seed=9), [*NAMES, "X"])
    assert statuses(prepare(source, out, ALONE)) == {
        "sub-01_ses-a_task-rest": "unchanged",
        "sub-02_ses-a_task-rest": "prepared",
    }
    assert len(list((out / "recordings").iterdir())) == 4


def test_a_changed_specification_is_refused(tmp_path: Path) -> None:
    prepare(folder(tmp_path / "in"), tmp_path / "out", ALONE)
    with pytest.raises(
        ConfigError, match=r"the store was prepared with notch_hz = 0\.0, asked for 50\.0; use the same"
    ):
        prepare(tmp_path / "in", tmp_path / "out", PrepareConfig(jobs=1, notch_hz=50.0))


def hostile(root: Path) -> Path:
    """Write a folder with one good file and one of each kind of bad ones."""
    folder(root, ("a good", "b dots", "c short"))
    (root / "c short.edf").write_bytes((root / "a good.edf").read_bytes()[:-999])
    (root / "d junk.edf").write_bytes(b"not an edf" * 100)
    (root / "e junk.set").write_bytes(b"\x80\x04\x95")
    write_edf(root / "f volts.edf", eeg(3, 640), NAMES, unit="V")
    write_edf(root / "g few.edf", eeg(1, 640), ["EEG Cz"])
    x = eeg(3, 640)
    x[1] = 0.0
    write_edf(root / "h flat.edf", x, NAMES)
    write_edf(root / "i eog.edf", eeg(2, 640), ["EOG1", "ECG"])
    (root / "notes.txt").write_text("not a recording")
    (root / ".hidden.edf").write_bytes(b"")
    return root


def test_bad_recordings_are_skipped_named_and_listed(tmp_path: Path) -> None:
    result = prepare(hostile(tmp_path / "in"), tmp_path / "out", ALONE)
    reasons = {
        outcome.recording[0]: outcome.reason for outcome in result.outcomes if outcome.status == "skipped"
    }
    assert result.counts == {"prepared": 2, "skipped": 7}
    assert "c short.edf: truncated" in reasons["c"]
    assert "d junk.edf: damaged" in reasons["d"]
    assert "e junk.set: damaged MAT file" in reasons["e"]
    assert "10^6 too large, as if microvolts had been stored as volts); use --scale 1e-6" in reasons["f"]
    assert "g few.edf: missing 2 of 3 channels: Fz T7 " in reasons["g"]
    assert "h flat.edf: flat channels: EEG Cz" in reasons["h"]
    assert "i eog.edf: missing 3 of 3 channels" in reasons["i"]
    assert all("\n" not in reason for reason in reasons.values())
    report = json.loads((tmp_path / "out" / "prepare_report.json").read_text())
    assert {
        r["recording"][0]: r["reason"] for r in report["recordings"] if r["status"] == "skipped"
    } == reasons
    rejected = [
        row for row in read_quality(RecordingStore(tmp_path / "out").storage) if row["status"] == "rejected"
    ]
    assert [row["reason"] for row in rejected] == [reasons[row["recording"][0]] for row in rejected]
    assert len(RecordingStore(tmp_path / "out")) == 2


def test_nothing_usable_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="in: no EEG files"):
        prepare(tmp_path / "in", tmp_path / "out", ALONE)
    write_edf(tmp_path / "in" / "a.edf", eeg(2, 640) * 1e3, ["Fz", "Cz"])
    with pytest.raises(
        DataError, match=r"none of 1 recordings could be prepared; the first: a\.edf: typical amplitude"
    ):
        prepare(tmp_path / "in", tmp_path / "out", ALONE)
    (tmp_path / "in" / "a.edf").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"none of 1 recordings can be opened; the first: .*a\.edf: damaged"):
        prepare(tmp_path / "in", tmp_path / "out", ALONE)
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        prepare(tmp_path / "nowhere", tmp_path / "out", ALONE)
    assert not (tmp_path / "out").exists()


def test_two_recordings_of_one_identity(tmp_path: Path) -> None:
    folder(tmp_path / "in", ("a", "b"))
    write_edf(tmp_path / "in" / "a.bdf", eeg(3, 640), NAMES, bdf=True)
    result = prepare(tmp_path / "in", tmp_path / "out", ALONE)
    assert result.counts == {"prepared": 2, "skipped": 1}
    (reason,) = [outcome.reason for outcome in result.outcomes if outcome.status == "skipped"]
    assert "a.edf: claims the identity 'a' of " in reason
    assert "a.bdf; rename one" in reason


def test_annotations_outside_the_recording(tmp_path: Path) -> None:
    notes = [(0.0, 2.0, "in"), (4.0, 3.0, "over"), (6.0, 1.0, "out")]
    write_edf(tmp_path / "in" / "a.edf", eeg(3, 640), NAMES, annotations=notes)
    prepare(tmp_path / "in", tmp_path / "out", ALONE)
    info = RecordingStore(tmp_path / "out")["a"]
    assert info.labels == (LabelSpan(0.0, 2.0, "in"), LabelSpan(4.0, 1.0, "over"))
    assert "1 annotations outside the recording left out" in info.quality["notes"]
    assert "1 annotations cut where the recording ends" in info.quality["notes"]
    table = tmp_path / "labels.csv"
    table.write_text("recording,label,onset_s,duration_s\na,in,0,1\na,out,5.5,1\na,over,-1,2\n")
    prepare(tmp_path / "in", tmp_path / "out2", PrepareConfig(jobs=1, table=str(table)))
    info = RecordingStore(tmp_path / "out2")["a"]
    assert info.labels == (LabelSpan(0.0, 1.0, "over"), LabelSpan(0.0, 1.0, "in"))
    assert "1 labels outside the recording left out" in info.quality["notes"]


def test_a_table_of_subjects_and_labels(tmp_path: Path) -> None:
    folder(tmp_path / "in", ("one", "two", "three"))
    table = tmp_path / "labels.csv"
    table.write_text(
        "recording,subject,split,label,onset_s,duration_s,age\n"
        "one,anna,train,calm,,,30\n"
        "two.edf,bert,test,calm,0,2,40\n"
        "two.edf,bert,test,busy,2,2,40\n"
        "nobody,x,train,calm,,,1\n"
    )
    result = prepare(tmp_path / "in", tmp_path / "out", PrepareConfig(jobs=1, table=str(table)))
    store = RecordingStore(tmp_path / "out")
    assert store["one"].labels == (LabelSpan(0.0, 5.0, "calm"),)
    assert store["two"].labels == (LabelSpan(0.0, 2.0, "calm"), LabelSpan(2.0, 2.0, "busy"))
    assert (store["two"].subject, store["two"].split, store["two"].attributes) == (
        "bert",
        "test",
        {"age": "40"},
    )
    assert [span.label for span in store["three"].labels] == ["open", "closed"]
    assert any("'nobody' fits no recording" in message for message in result.messages)
    assert any("no row for 1 recordings: three" in message for message in result.messages)
    for content, message in (
        ("name,label\na,b\n", "has name, label; expected a header with the column recording"),
        ("recording,label,onset_s\none,x,soon\n", "line 2: could not convert string to float: 'soon'"),
        ("recording,split\none,exam\n", "line 2: split: got 'exam', expected train, val or test"),
        ("recording\none,2\n", "line 2 has more cells than the header"),
    ):
        table.write_text(content)
        with pytest.raises(DataError, match=message):
            prepare(tmp_path / "in", tmp_path / "other", PrepareConfig(jobs=1, table=str(table)))


def test_malformed_events_cost_only_their_recording(tmp_path: Path) -> None:
    root = bids(tmp_path / "in")
    (root / "sub-01/ses-a/eeg/sub-01_ses-a_task-rest_events.tsv").write_text(
        "onset\tduration\ttrial_type\nsoon\t5\tx\n"
    )
    result = prepare(root, tmp_path / "out", ALONE)
    assert statuses(result) == {"sub-01_ses-a_task-rest": "skipped", "sub-02_ses-a_task-rest": "prepared"}
    assert "events.tsv: line 2: could not convert string to float: 'soon'" in result.outcomes[0].reason


def test_ctrl_c_keeps_what_is_done_and_the_next_run_goes_on(tmp_path: Path) -> None:
    source, out = folder(tmp_path / "in"), tmp_path / "out"

    def press(done: int, total: int, outcome: Any) -> None:
        if done == 2:
            raise KeyboardInterrupt

    result = prepare(source, out, ALONE, progress=press)
    assert result.interrupted
    assert len(RecordingStore(out)) == 2
    assert json.loads((out / "prepare_report.json").read_text())["interrupted"] is True
    assert prepare(source, out, ALONE).counts == {"unchanged": 2, "prepared": 1}


def test_processes_give_the_same_store(tmp_path: Path) -> None:
    source = hostile(tmp_path / "in")
    prepare(source, tmp_path / "one", ALONE)
    result = prepare(source, tmp_path / "two", PrepareConfig(jobs=2))
    assert result.counts == {"prepared": 2, "skipped": 7}
    assert (
        RecordingStore(tmp_path / "one").manifest_sha256 == RecordingStore(tmp_path / "two").manifest_sha256
    )


def test_a_dask_cluster_gives_the_same_store(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs a Dask cluster")
    source = folder(tmp_path / "in")
    prepare(source, tmp_path / "one", ALONE)
    with distributed.LocalCluster(n_workers=2, processes=False, dashboard_address=None) as cluster:
        config = PrepareConfig(dask=cluster.scheduler_address)
        assert prepare(source, tmp_path / "two", config).counts == {"prepared": 3}
    assert (
        RecordingStore(tmp_path / "one").manifest_sha256 == RecordingStore(tmp_path / "two").manifest_sha256
    )


@pytest.mark.slow
def test_a_dask_cluster_of_processes_gives_the_same_store(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs a Dask cluster")
    source = hostile(tmp_path / "in")
    prepare(source, tmp_path / "one", ALONE)
    options = {"processes": True, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(n_workers=2, **options) as cluster:
        config = PrepareConfig(dask=cluster.scheduler_address)
        assert prepare(source, tmp_path / "two", config).counts == {"prepared": 2, "skipped": 7}
        assert prepare(source, tmp_path / "two", config).counts == {"unchanged": 2, "skipped": 7}
    assert (
        RecordingStore(tmp_path / "one").manifest_sha256 == RecordingStore(tmp_path / "two").manifest_sha256
    )


def test_few_and_small_recordings_take_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[int] = []

    def note(tasks: Any, number: int) -> Any:
        jobs.append(number)
        return [(i, task.function(*task.arguments)) for i, task in enumerate(tasks)]

    monkeypatch.setattr("eegm2.data.preparing.prepare.run_isolated", note)
    assert prepare(folder(tmp_path / "in"), tmp_path / "out").counts == {"prepared": 3}
    assert jobs == [1, 1]  # the channels of the first recording, then all of them
    monkeypatch.setattr("eegm2.data.preparing.prepare._BYTES_PER_PROCESS", 100)
    monkeypatch.setattr("eegm2.data.preparing.prepare._cores", lambda: 2)
    assert prepare(tmp_path / "in", tmp_path / "other").counts == {"prepared": 3}
    assert jobs[2:] == [1, 2]


def test_a_store_in_memory(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.as_posix().strip('/')}"
    source = folder(tmp_path / "in")
    assert prepare(source, url, ALONE).counts == {"prepared": 3}
    assert prepare(source, url, ALONE).counts == {"unchanged": 3}
    prepare(source, tmp_path / "out", ALONE)
    assert RecordingStore(url).manifest_sha256 == RecordingStore(tmp_path / "out").manifest_sha256


def test_recipes_are_found_by_name_and_by_folder(tmp_path: Path) -> None:
    assert {"bids", "folder"} <= set(all_recipes())
    assert all(recipe.description and recipe.tree for recipe in all_recipes().values())
    assert detect_recipe(bids(tmp_path / "bids")).name == "bids"
    assert detect_recipe(tmp_path).name == "folder"
    with pytest.raises(ConfigError, match="recipe: got 'tuab9', expected auto or one of "):
        get_recipe("tuab9")


def test_command(tmp_path: Path) -> None:
    source = hostile(tmp_path / "in")
    arguments = ["prepare", str(source), "--out", str(tmp_path / "out"), "--jobs", "1"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "channels    3: Fz Cz T7" in result.output
    assert "2 prepared, 7 skipped" in result.output
    assert "not taken   1: .hidden.edf: hidden" in result.output
    assert "8 warnings; see prepare_report.json and quality.csv" in result.output
    with pytest.raises(DataError, match="none of 1 recordings can be opened"):
        CliRunner().invoke(
            app, ["prepare", str(source / "d junk.edf"), "--out", str(tmp_path / "x")], catch_exceptions=False
        )


def test_verify_command(tmp_path: Path) -> None:
    write_store(tmp_path / "s", 3)
    runner = CliRunner()
    result = runner.invoke(app, ["verify", str(tmp_path / "s")], catch_exceptions=False)
    assert result.exit_code == 0
    assert "3 recordings are whole" in result.output
    (file,) = (tmp_path / "s" / "recordings").glob("r1-*.raw")
    content = bytearray(file.read_bytes())
    content[7] ^= 255
    file.write_bytes(content)
    with pytest.raises(DataError, match="1 of 3 recordings are damaged: r1: checksum"):
        runner.invoke(app, ["verify", str(tmp_path / "s")], catch_exceptions=False)


@pytest.mark.skipif(
    "EEGM2_TEST_DATA" not in os.environ, reason="EEGM2_TEST_DATA does not name the real recordings"
)
def test_real_archives(tmp_path: Path) -> None:
    root = Path(os.environ["EEGM2_TEST_DATA"])
    for name, n_recordings, n_chans in (("epoc_eyes", 68, 14), ("adhd", 80, 19), ("eegmmidb", 14, 64)):
        result = prepare(root / name, tmp_path / name)
        assert result.counts == {"prepared": n_recordings}
        store = RecordingStore(tmp_path / name)
        assert len(store.ch_names) == n_chans
        assert store.verify() == {}
        assert all(0.2 < info.quality["typical_uv"] < 2000 for info in store.recordings)
        middle = store.recordings[0].n_times // 2
        assert np.abs(store.read(store.recordings[0].id, middle, middle + 1280).mean(1)).max() < 100


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("ann", "ben"), True),
        (("sub-01_rest", "sub-02_rest"), False),
        (("sub-01", "sub-02"), False),
        (("ann/one", "ben/one"), False),
        (("ann",), False),
    ],
)
def test_flat_folders_say_that_each_file_counts_as_a_person(
    names: tuple[str, ...], said: bool, tmp_path: Path
) -> None:
    for seed, name in enumerate(names):
        write_edf(tmp_path / "in" / f"{name}.edf", eeg(2, 1280, seed=seed), ["Fz", "Cz"])
    command = ["prepare", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--jobs", "1"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert ("each file counts as a person" in result.output) == said
