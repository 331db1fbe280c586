"""``eegm2 probe`` on a tiny run and store: the folder, the split it uses, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.splits import SplitManifest
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.config import ProbeConfig
from eegm2.evaluation.probing.run import probe
from tests.evaluation.helpers import fake_run, labelled_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return labelled_store(tmp_path_factory.mktemp("data") / "store")


@pytest.fixture
def run(tmp_path: Path, store: RecordingStore) -> Path:
    parts = (("sub0", "sub1", "sub2"), ("sub3",), ("sub4", "sub5"))
    return fake_run(
        tmp_path / "run", store, split=SplitManifest(*parts, manifest_sha256=store.manifest_sha256)
    )


def test_the_command_writes_the_folder_and_prints_a_table(run: Path, store: RecordingStore) -> None:
    out = run / "probes" / "eyes"
    result = CliRunner().invoke(
        app, ["probe", str(run), store.url, "--out", str(out), "--classes", "open,shut", "--seeds", "2"]
    )
    assert result.exit_code == 0, result.output
    assert "balanced_accuracy" in result.output
    assert "pretraining saw 0 of the 2 test subjects" in result.output
    assert "each of 2 test subjects' windows alone, then averaged" in result.output
    assert "eegm2 compare" in result.output
    results = json.loads((out / "results.json").read_text())
    assert results["task"]["classes"] == ["open", "shut"]
    assert results["task"]["parts"]["test"]["subjects"] == ["sub4", "sub5"]
    assert [(row["protocol"], row["seed"]) for row in results["protocols"]] == [
        ("linear", 0),
        ("light", 0),
        ("light", 1),
    ]
    auroc = next(row for row in results["summary"] if (row["protocol"], row["metric"]) == ("linear", "auroc"))
    assert auroc["mean"] > 0.95
    with np.load(out / "predictions.npz", allow_pickle=False) as predictions:
        assert predictions["light_1_score"].shape == (24, 2)
        assert set(predictions["subject"]) == {"sub4", "sub5"}
        assert predictions["start_s"].max() == 22
        y = predictions["y_true"]
    with np.load(out / "embedding.npz", allow_pickle=False) as embedding:
        assert embedding["features"].shape == (24, 144)
        np.testing.assert_array_equal(embedding["y"], y)
    assert json.loads((run / "probes.json").read_text()) == ["probes/eyes"]
    assert sorted(p.name for p in out.parent.iterdir()) == ["eyes"]


def test_a_probe_again_replaces_the_folder_and_is_listed_once(
    run: Path, store: RecordingStore, tmp_path: Path
) -> None:
    config = ProbeConfig(protocols=("linear",))
    first = probe(run, store.url, tmp_path / "eyes", config).results
    (tmp_path / "eyes" / "stray").write_text("")
    second = probe(run, store.url, tmp_path / "eyes", config).results
    assert first["protocols"] == second["protocols"]
    assert not (tmp_path / "eyes" / "stray").exists()
    assert json.loads((run / "probes.json").read_text()) == [str(tmp_path / "eyes")]


def test_fine_and_scratch_are_protocols_too(run: Path, store: RecordingStore, tmp_path: Path) -> None:
    config = ProbeConfig(protocols=("fine", "scratch"), seeds=1)
    results = probe(run, store.url, tmp_path / "fine", config).results
    assert [(row["protocol"], row["head"]) for row in results["protocols"]] == [
        ("fine", "flatten"),
        ("scratch", "flatten"),
    ]
    with np.load(tmp_path / "fine" / "predictions.npz", allow_pickle=False) as predictions:
        assert predictions["fine_0_score"].shape == (24, 2)


def test_a_foreign_folder_is_not_touched(run: Path, store: RecordingStore, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match=r"mine: exists and is not a probe's folder"):
        probe(run, store.url, tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_an_attribute_is_a_target_and_a_number_is_regressed(
    run: Path, store: RecordingStore, tmp_path: Path
) -> None:
    config = ProbeConfig(protocols=("linear",), target="group")
    results = probe(run, store.url, tmp_path / "group", config).results
    assert results["task"]["classes"] == ["a", "b"]
    assert results["protocols"][0]["subject_metrics"].keys() == results["protocols"][0]["metrics"].keys()
    config = ProbeConfig(protocols=("linear",), target="age", regression=True)
    results = probe(run, store.url, tmp_path / "age", config).results
    assert results["task"]["kind"] == "regression"
    assert set(results["protocols"][0]["metrics"]) == {"r2", "mae", "pearson_r"}
    with pytest.raises(DataError, match="target 'group' is no number"):
        probe(run, store.url, tmp_path / "no", ProbeConfig(target="group", regression=True))


def test_another_store_gets_a_new_seeded_split(tmp_path: Path, run: Path) -> None:
    other = labelled_store(tmp_path / "other", subjects=8, seconds=12)
    config = ProbeConfig(protocols=("linear",), split_seed=3, test=0.25)
    results = [probe(run, other.url, tmp_path / name, config).results for name in ("a", "b")]
    assert results[0]["task"]["split"] == "new"
    assert results[0]["task"]["parts"] == results[1]["task"]["parts"]
    assert "another store" in results[0]["task"]["pretraining_saw"]
    assert results[0]["task"]["parts"]["test"]["n_subjects"] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"l_freq_hz": 1.0}, "l_freq_hz: 0.5 in the checkpoint, 1.0 in the store; prepare it alike"),
        ({"channels": ("C3", "F3", "P3")}, "the same channels in another order"),
        (
            {"reference": "average", "notch_hz": 8.0},
            "reference: keep .* notch_hz: 0.0 in the checkpoint, 8.0",
        ),
    ],
)
def test_another_preprocessing_is_refused_unless_allowed(
    tmp_path: Path, run: Path, changes: dict, message: str
) -> None:
    other = labelled_store(tmp_path / "other", changes=changes)
    with pytest.raises(ConfigError, match=message):
        probe(run, other.url, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    allowed = probe(run, other.url, tmp_path / "out", ProbeConfig(protocols=("linear",), allow_mismatch=True))
    assert any("store differs" in note for note in allowed.results["notes"])


def test_another_channel_count_is_refused_even_then(tmp_path: Path, run: Path) -> None:
    other = labelled_store(tmp_path / "other", changes={"channels": ("F3", "C3")})
    with pytest.raises(
        ConfigError, match=r"channels: 3 in the checkpoint, 2 in the store \(missing P3, extra none\)"
    ):
        probe(run, other.url, tmp_path / "out", ProbeConfig(allow_mismatch=True))


def test_one_person_needs_the_split_by_recording_and_is_told(tmp_path: Path, store: RecordingStore) -> None:
    from eegm2.data.store.recording_store import StoreWriter

    alone = tmp_path / "alone"
    writer = StoreWriter(alone, store.preprocessing, store.ch_names)
    for info in store.recordings[:4]:
        writer.write(type(info)(**{**vars(info), "subject": "me"}), store.read(info.id))
    run = fake_run(tmp_path / "run1", RecordingStore(alone))
    with pytest.raises(DataError, match=r"1 subject has labelled windows.*--by recording"):
        probe(run, alone, tmp_path / "out")
    results = probe(run, alone, tmp_path / "out", ProbeConfig(by="recording", protocols=("linear",))).results
    assert results["notes"] == ["within one subject: shows the pipeline, not a finding"]
    assert results["task"]["unit"] == "recording"


def test_labels_that_are_not_there_are_named(tmp_path: Path, run: Path, store: RecordingStore) -> None:
    with pytest.raises(DataError, match="labelled asleep; labels there for target 'annotations': open, shut"):
        probe(run, store.url, tmp_path / "out", ProbeConfig(classes=("open", "asleep")))
    with pytest.raises(DataError, match=r"got one class \(shut\)"):
        probe(run, store.url, tmp_path / "out", ProbeConfig(exclude_s=("11:24",)))
    with pytest.raises(DataError, match="no recording has a label for target 'mood'"):
        probe(run, store.url, tmp_path / "out", ProbeConfig(target="mood"))
    assert not (tmp_path / "out").exists()
