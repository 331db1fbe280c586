"""Reading runs and probes: whole, partial and damaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eegm2.errors import ConfigError
from eegm2.report.contents import Recording
from eegm2.report.folders import read_evaluations, read_log, read_probe, read_probes, read_run
from eegm2.report.gather import gather
from eegm2.report.html import write_report
from eegm2.report.positions import head_positions
from eegm2.report.quality import quality_columns


def write_probe(folder: Path, **changes: object) -> Path:
    """A probe of six windows whose threshold is not where the higher score changes."""
    folder.mkdir(parents=True)
    results = {
        "format": 1,
        "task": {"classes": ["closed", "open"], "kind": "classification", "n_windows": 20},
        "protocols": [{"protocol": "linear", "seed": 0, "threshold": 0.8, "metrics": {"accuracy": 5 / 6}}],
        "notes": ["a note of the probe"],
    }
    (folder / "results.json").write_text(json.dumps(results))
    one = np.array([0.1, 0.2, 0.6, 0.7, 0.9, 0.95])
    arrays: dict[str, object] = {
        "linear_0_score": np.stack([1 - one, one], axis=1),
        "y_true": np.array([0, 0, 0, 1, 1, 1]),
        "subject": np.array(["a", "a", "a", "b", "b", "b"]),
    }
    np.savez(folder / "predictions.npz", **(arrays | changes))  # type: ignore[arg-type]
    return folder


def test_log_has_one_value_per_epoch(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(
        "epoch,step,train_loss,val_loss,lr-AdamW\n1,5,3.0,,0.1\n1,5,,2.5,\n2,10,2.0,,0.2\n2,10,,nan,\n"
    )
    log, problem = read_log(path)
    assert log is not None
    assert problem == ""
    assert list(log.epoch) == [1, 2]
    assert list(log.curves) == ["train_loss", "val_loss", "lr"]
    np.testing.assert_array_equal(log.curves["val_loss"], [2.5, np.nan])
    np.testing.assert_array_equal(log.curves["lr"], [0.1, 0.2])


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "no training log"), (b"epoch,step\n1,2\n", "holds no value"), (b"\xff\xfe\x00epoch", "damaged")],
)
def test_log_that_cannot_be_read_is_said(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "metrics.csv"
    if content is not None:
        path.write_bytes(content)
    log, problem = read_log(path)
    assert log is None
    assert words in problem


def test_predictions_use_the_threshold_of_their_seed(tmp_path: Path) -> None:
    probe = read_probe(write_probe(tmp_path / "p"))
    assert probe.thresholds == {"linear": [0.8]}
    assert list(probe.predicted("linear")[0]) == [0, 0, 0, 0, 1, 1]  # the higher score would say 0 0 1 1 1 1
    assert (probe.predicted("linear")[0] == probe.y_true).mean() == pytest.approx(5 / 6)
    assert "a note of the probe" in probe.problems


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"linear_0_score": np.zeros((5, 2))}, r"(5, 2), expected (6 windows, 2 classes)"),
        ({"y_true": np.array([0, 1, 2, 0, 1, 2])}, "labels outside the 2 classes"),
    ],
)
def test_arrays_that_do_not_fit_are_left_out_and_named(tmp_path: Path, changes: dict, words: str) -> None:
    probe = read_probe(write_probe(tmp_path / "p", **changes))
    assert probe.scores == {}
    assert any(words in problem for problem in probe.problems)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    probe = read_probe(write_probe(tmp_path / "p", subject=np.array([object()] * 6, dtype=object)))
    assert probe.scores == {}
    assert any("predictions.npz cannot be read" in problem for problem in probe.problems)


def test_probes_come_from_the_list_and_from_the_user_once_each(tmp_path: Path) -> None:
    run = tmp_path / "run"
    inside, outside = write_probe(run / "inside"), write_probe(tmp_path / "outside")
    (run / "probes.json").write_text(json.dumps(["inside", "gone", str(outside)]))
    probes, problems = read_probes(run, [outside, inside])
    assert [probe.name for probe in probes] == ["inside", "outside"]
    assert "The probe gone holds no results.json" in problems
    (run / "probes.json").write_text("[damaged")
    assert "probes.json is damaged" in read_probes(run, [])[1]


def test_evaluations_are_lists_of_rows(tmp_path: Path) -> None:
    rows = [{"model": "linear", "metric": "auroc", "mean": 0.8}]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    found, problem = read_evaluations([tmp_path])
    assert (found[0].rows, problem) == (rows, "")
    assert "results.json is missing" in read_evaluations([tmp_path / "no" / "results.json"])[1]


def test_run_without_files_is_described_by_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    data = read_run(tmp_path)
    assert {"header", "splits", "log"} <= data.missing.keys()
    out = write_report(tmp_path, tmp_path / "report.html")
    text = out.read_text()
    assert "There is no training log" in text
    assert "The run names no store and none was given" in text
    assert "The model could not be loaded" in text


@pytest.mark.parametrize("make", [False, True])
def test_what_is_no_run_is_refused(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "thing"
    if make:
        folder.mkdir()
    with pytest.raises(ConfigError, match="not a run folder" if make else "no such run folder"):
        gather(folder)


def test_quality_facts_become_columns() -> None:
    quality = {
        "line_noise_ratio": 100.0,
        "flat_channels": ["T7", "O1"],
        "clipped_share": None,
        "low_uv": True,
    }
    columns = quality_columns(
        [Recording("a", "s", "", 1.0, 128.0, (), quality), Recording("b", "s", "", 1.0, 128.0)]
    )
    assert list(columns) == ["line_db", "flat"]
    np.testing.assert_array_equal(columns["line_db"], [20.0, np.nan])
    np.testing.assert_array_equal(columns["flat"], [2.0, np.nan])


def test_positions_lie_where_the_names_say() -> None:
    found = head_positions(["Cz", "T8", "Fpz", "O1", "FP1-F7", "XYZ"])
    assert "XYZ" not in found
    assert np.hypot(*found["Cz"]) < 0.1
    assert found["T8"] == pytest.approx((1.0, 0.0), abs=0.15)
    assert found["Fpz"] == pytest.approx((0.0, 1.0), abs=0.15)
    assert found["O1"][0] < 0 > found["O1"][1]
    assert found["FP1-F7"][0] < 0 < found["FP1-F7"][1]


def test_a_real_run_is_reported_whole(tmp_path: Path) -> None:
    """A store, an untrained network and its probe, through the same code as the command."""
    from eegm2.config import to_dict
    from eegm2.data.config import PreprocessingConfig, WindowConfig
    from eegm2.data.labels import LabelSpan
    from eegm2.data.store.recording_store import RecordingInfo, RecordingStore, StoreWriter
    from eegm2.data.windows.splits import SplitManifest
    from eegm2.model.config import EEGM2Config
    from eegm2.model.network import build_model
    from eegm2.training.checkpoint import save_checkpoint

    rng = np.random.default_rng(0)
    writer = StoreWriter(tmp_path / "store", PreprocessingConfig(), ["O1", "O2", "Cz"])
    for name in "abc":
        info = RecordingInfo(f"rec-{name}", name, "", 0, 128.0, (), (LabelSpan(0.0, 10.0, "rest"),))
        writer.write(info, rng.standard_normal((3, 2560)) * 20)
    store = RecordingStore(tmp_path / "store")
    run = tmp_path / "run"
    header = {
        "ch_names": ["O1", "O2", "Cz"],
        "sfreq_hz": 128.0,
        "windows": to_dict(WindowConfig(window_s=2.0)),
        "preprocessing": to_dict(store.preprocessing),
        "data": {
            "store": "store",
            "manifest_sha256": store.manifest_sha256,
            "n_recordings": 3,
            "n_subjects": 3,
        },
        "epoch": 1,
    }
    model = build_model(EEGM2Config.preset("eegm2", n_chans=3, width=4))
    save_checkpoint(run / "checkpoints" / "best.safetensors", model, header)
    SplitManifest(train=("a", "b"), val=("c",), test=()).to_json(run / "splits.json")
    data = gather(run, probes=[write_probe(tmp_path / "probe")])
    made = data.reconstruction
    assert made is not None
    assert made.original.shape == made.reconstruction.shape == (10, 3, 256)
    assert set(made.subjects) == {"c"}
    assert data.n_parameters == sum(p.numel() for p in model.parameters())
    assert [recording.split for recording in data.recordings] == ["train", "train", "val"]
    assert set(data.positions) == {"O1", "O2", "Cz"}
    assert set(data.missing) == {"log"}
    header["data"]["manifest_sha256"] = "0" * 64  # type: ignore[index]
    save_checkpoint(run / "checkpoints" / "best.safetensors", model, header)
    assert "has changed since training" in gather(run).missing["store"]
