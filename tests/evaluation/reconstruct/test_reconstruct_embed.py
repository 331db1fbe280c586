"""Whole recordings: reconstruction equals the model on windows; files keep units, times and labels."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import mne
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.data.files.writers import write_recording
from eegm2.data.files.written import csv_text
from eegm2.data.signal.preprocessing import preprocess
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.scaling import scale_constants, scale_window
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.config import EmbedConfig, ReconstructConfig
from eegm2.evaluation.features.embedding import embed, feature_names
from eegm2.evaluation.reconstruct.overlap import reconstruct_array, window_starts
from eegm2.evaluation.reconstruct.run import reconstruct_file
from tests.data.samples import write_edf
from tests.evaluation.helpers import (
    CHANNELS,
    PREPROCESSING,
    SFREQ_HZ,
    fake_run,
    labelled_store,
    rhythm,
    tiny_model,
)

RNG = np.random.default_rng(0)


class Identity(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return labelled_store(tmp_path_factory.mktemp("data") / "store", subjects=2)


@pytest.fixture
def run(tmp_path: Path, store: RecordingStore) -> Path:
    return fake_run(tmp_path / "run", store)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Write 10.5 s at 32 Hz as FIF, in volts, with an annotation."""
    raw = mne.io.RawArray(
        rhythm(5, 336, RNG) * 1e-6, mne.create_info(list(CHANNELS), SFREQ_HZ, "eeg"), verbose="error"
    )
    raw.set_annotations(mne.Annotations([2.0], [3.0], ["blink"]))
    path = tmp_path / "some_eeg.fif"
    raw.save(path, verbose="error")
    return path


@pytest.mark.parametrize("method", ["quantile95", "robust", "zscore", "none"])
def test_scaling_is_undone_by_its_constants(method: str) -> None:
    for x in (RNG.standard_normal((2, 3, 50)) * 20 + 4, torch.randn(2, 3, 50) * 20 + 4):
        offset, gain = scale_constants(x, method)
        back = scale_window(x, method) * gain + (0 if offset is None else offset)
        np.testing.assert_allclose(np.asarray(back), np.asarray(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scaling", ["quantile95", "zscore"])
def test_windows_side_by_side_are_exactly_the_models(scaling: str) -> None:
    model, x = tiny_model(), rhythm(5, 200, RNG)
    made = reconstruct_array(model, x, scaling=scaling, n_times=64, overlap=0, batch_size=2)
    for start in (0, 64, 128):
        window = torch.from_numpy(x[None, :, start : start + 64])
        offset, gain = scale_constants(window, scaling)
        with torch.no_grad():
            expected = model(scale_window(window, scaling)) * gain + (0 if offset is None else offset)
        np.testing.assert_allclose(made[:, start : start + 64], expected[0].numpy(), rtol=1e-4, atol=1e-4)
    assert made.shape == x.shape
    assert np.isfinite(made).all()


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("n_times", [None, 16, 50, 64, 500])
def test_what_the_model_keeps_is_kept_at_any_overlap(overlap: float, n_times: int | None) -> None:
    x = rhythm(5, 150, RNG)
    made = reconstruct_array(
        Identity(), x, scaling="quantile95", n_times=n_times, overlap=overlap, batch_size=3
    )
    np.testing.assert_allclose(made, x, rtol=1e-4, atol=1e-4)


def test_one_pass_is_the_model_on_the_whole() -> None:
    model, x = tiny_model(), rhythm(5, 150, RNG)
    made = reconstruct_array(model, x, scaling="none", n_times=None)
    with torch.no_grad():
        np.testing.assert_allclose(made, model(torch.from_numpy(x[None]))[0].numpy(), rtol=1e-4, atol=1e-4)


def test_windows_cover_the_recording() -> None:
    assert window_starts(100, 40, 0).tolist() == [0, 40, 60]
    assert window_starts(100, 40, 0.5).tolist() == [0, 20, 40, 60]
    assert window_starts(40, 40, 0.5).tolist() == [0]
    assert window_starts(41, 40, 0.99).tolist() == [0, 1]


@pytest.mark.parametrize("suffix", [".edf", ".fif"])
def test_the_cleaned_file_holds_the_reconstruction_in_volts(
    run: Path, recording: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"clean_eeg{suffix}"
    result = CliRunner().invoke(app, ["reconstruct", str(run), str(recording), "--out", str(out)])
    assert result.exit_code == 0, result.output
    read = {".edf": mne.io.read_raw_edf, ".fif": mne.io.read_raw_fif}[suffix](out, verbose="error")
    x = preprocess(mne.io.read_raw_fif(recording, verbose="error"), PREPROCESSING, where="x").array
    expected = reconstruct_array(tiny_model(), x, scaling="quantile95", n_times=64)
    assert read.ch_names == list(CHANNELS)
    assert read.info["sfreq"] == SFREQ_HZ
    step_uv = np.ptp(expected, axis=1).max() / 2**16 if suffix == ".edf" else 1e-4
    np.testing.assert_allclose(read.get_data() * 1e6, expected, atol=2 * step_uv)
    assert [(a["onset"], a["duration"], a["description"]) for a in read.annotations] == [(2.0, 3.0, "blink")]
    scores = json.loads(out.with_name(out.name + ".json").read_text())
    assert scores["acmse_uv2"] == pytest.approx(float(((x - expected) ** 2).mean()), rel=1e-5)
    assert set(scores["channels"]) == set(CHANNELS)
    assert scores["channels"]["C3"]["correlation"] == pytest.approx(
        np.corrcoef(x[1], expected[1])[0, 1], abs=1e-6
    )
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


@pytest.mark.parametrize("n_samples", [336, 5120, 5003, 4999])
def test_an_edf_of_any_length_is_whole_or_its_padding_is_marked(tmp_path: Path, n_samples: int) -> None:
    x = rhythm(5, n_samples, RNG)
    source = mne.io.RawArray(x * 1e-6, mne.create_info(list(CHANNELS), 128.0, "eeg"), verbose="error")
    write_recording(tmp_path / "x.edf", x, list(CHANNELS), 128.0, source)
    back = mne.io.read_raw_edf(tmp_path / "x.edf", verbose="error")
    np.testing.assert_allclose(back.get_data()[:, :n_samples] * 1e6, x, atol=0.01)
    padding = back.n_times - n_samples
    marked = [(a["onset"], a["duration"]) for a in back.annotations if a["description"] == "bad_padding"]
    assert padding < 128
    expected = [pytest.approx((n_samples / 128, padding / 128), abs=1e-3)] if padding else []
    assert marked == expected


def test_reconstruct_refuses_what_it_cannot_do(
    run: Path, recording: Path, tmp_path: Path, store: RecordingStore
) -> None:
    with pytest.raises(ConfigError, match=r"unknown kind of file '.wav', expected .edf or .fif"):
        reconstruct_file(run, recording, tmp_path / "x.wav")
    with pytest.raises(ConfigError, match="is the recording itself"):
        reconstruct_file(run, recording, recording)
    light = fake_run(tmp_path / "light", store, preset="light")
    with pytest.raises(ConfigError, match="Light, which has no decoder"):
        reconstruct_file(light, recording, tmp_path / "x.edf")
    with pytest.raises(DataError, match="no such file"):
        reconstruct_file(run, tmp_path / "none.edf", tmp_path / "x.edf")
    with pytest.raises(ConfigError, match="overlap: got 1"):
        ReconstructConfig(overlap=1)
    assert not (tmp_path / "x.edf").exists()


def test_embedding_a_store_and_a_file(
    run: Path, store: RecordingStore, recording: Path, tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["embed", str(run), store.url, "--out", str(tmp_path / "s.npz")])
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "s.npz", allow_pickle=False) as made:
        assert made["features"].shape == (24, 144)
        assert made["start_s"][:3].tolist() == [0, 2, 4]
        assert made["label"][[0, 11]].tolist() == ["shut", "open"]
        window = store.read("rec0", 64, 128)
        with torch.no_grad():
            expected = tiny_model().features(torch.from_numpy(scale_window(window, "quantile95")[None]))
        np.testing.assert_allclose(made["features"][1], expected[0].numpy(), rtol=1e-4, atol=1e-4)
        assert made["feature_names"][[0, 16, 143]].tolist() == ["min_000", "max_000", "q95_015"]
    made = embed(run, recording, tmp_path / "c.npz", EmbedConfig(kind="covariance"))
    assert made.values.shape == (5, 16 * 17 // 2)
    with np.load(tmp_path / "c.npz", allow_pickle=False) as file:
        names = file["feature_names"][[0, 1, 16, -1]].tolist()
    assert names == [f"covariance_{pair}" for pair in ("000_000", "000_001", "001_001", "015_015")]
    made = embed(run, recording, tmp_path / "f.npz", EmbedConfig(kind="sequence", stride_s=1.0))
    assert made.values.shape == (9, 16, 8)
    assert made.time_s()[1, :2].tolist() == [1.125, 1.375]
    with pytest.raises(DataError, match=r"10.50 s long, a window has 20 s"):
        embed(run, recording, tmp_path / "g.npz", EmbedConfig(window_s=20.0))
    with pytest.raises(ConfigError, match=r"unknown kind of file '.wav', expected .npz, .csv or .parquet"):
        embed(run, recording, tmp_path / "g.wav")


def test_parquet_has_a_row_per_window_or_step(run: Path, recording: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="parquet needs pyarrow")
    flat = embed(run, recording, tmp_path / "f.parquet")
    table = parquet.read_table(tmp_path / "f.parquet")
    assert table.num_rows == 5
    assert table.column_names[:4] == ["recording", "subject", "session", "label"]
    assert table.column_names[4:] == ["start_s", *feature_names(144)]
    np.testing.assert_array_equal(table["mean_003"].to_numpy(), flat.values[:, 2 * 16 + 3])
    steps = embed(run, recording, tmp_path / "g.parquet", EmbedConfig(kind="sequence"))
    table = parquet.read_table(tmp_path / "g.parquet")
    assert table.num_rows == 5 * 8
    np.testing.assert_array_equal(table["channel_007"].to_numpy(), steps.values[:, 7].ravel())


def bids(root: Path) -> Path:
    """Write one recording of a BIDS data set with events and participants; return its file."""
    folder = root / "sub-07" / "ses-b" / "eeg"
    file = folder / "sub-07_ses-b_task-rest_eeg.edf"
    rng = np.random.default_rng(1)
    x_uv = np.concatenate([rhythm(10, 160, rng), rhythm(3, 160, rng)], axis=1).astype(float)
    write_edf(file, x_uv, CHANNELS, SFREQ_HZ)
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    (root / "participants.tsv").write_text("participant_id\tgroup\nsub-07\tpatient\n")
    events = "onset\tduration\ttrial_type\n0\t5\tshut\n5\t5\topen\n"
    (folder / "sub-07_ses-b_task-rest_events.tsv").write_text(events)
    return file


def test_a_file_of_a_data_set_keeps_who_it_is_of_and_its_labels(run: Path, tmp_path: Path) -> None:
    made = embed(run, bids(tmp_path / "set"), tmp_path / "f.npz")
    assert set(made.subject) == {"sub-07"}
    assert set(made.session) == {"b"}
    assert set(made.recording) == {"sub-07_ses-b_task-rest"}
    assert made.label.tolist() == ["shut", "shut", "", "open", "open"]
    alone = tmp_path / "alone" / "sub-07_rest.edf"
    alone.parent.mkdir()
    alone.write_bytes(bids(tmp_path / "other").read_bytes())
    found = embed(run, alone, tmp_path / "g.npz")
    assert (found.subject[0], found.session[0], found.label[0]) == ("sub-07", "", "")
    np.testing.assert_array_equal(found.values, made.values)


def test_annotations_of_a_plain_file_are_its_labels(run: Path, tmp_path: Path) -> None:
    x_uv = rhythm(10, 320, np.random.default_rng(1)).astype(float)
    spans = [(0.0, 5.0, "shut"), (5.0, 5.0, "open"), (8.0, 0.5, "bad blink")]
    write_edf(tmp_path / "in" / "kim.edf", x_uv, CHANNELS, SFREQ_HZ, spans)
    made = embed(run, tmp_path / "in" / "kim.edf", tmp_path / "f.npz")
    assert made.label.tolist()[:4] == ["shut", "shut", "", "open"]
    assert set(made.subject) == {"kim"}


def test_csv_has_the_rows_of_the_frame_and_no_formula(
    run: Path, store: RecordingStore, tmp_path: Path
) -> None:
    made = embed(run, store.url, tmp_path / "f.csv")
    rows = list(csv.reader((tmp_path / "f.csv").read_text().splitlines()))
    assert rows[0] == ["recording", "subject", "session", "label", "start_s", *feature_names(144)]
    assert len(rows) == 1 + len(made.values)
    assert rows[1][:5] == ["rec0", "sub0", "1", "shut", "0.0"]
    np.testing.assert_allclose(np.array(rows[1][5:], float), made.values[0], rtol=1e-6)
    asked = embed(run, store.url, tmp_path / "table.txt", EmbedConfig(format="csv"))
    assert (tmp_path / "table.txt").read_bytes() == (tmp_path / "f.csv").read_bytes()
    assert csv_text(["a", "b"], [["=1+1", 1], [None, "x"]]) == b"a,b\n'=1+1,1\n,x\n"
    pytest.importorskip("pandas")
    assert asked.frame().shape == (24, 149)


def test_a_frame_without_pandas_says_what_to_install(
    run: Path, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = embed(run, recording, tmp_path / "f.npz")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="pip install pandas"):
        made.frame()


def test_a_reconstruction_is_as_its_options_say(run: Path, recording: Path, tmp_path: Path) -> None:
    usual = reconstruct_file(run, recording, tmp_path / "a.edf")
    assert (usual["mode"], usual["overlap"]) == (ReconstructConfig().mode, ReconstructConfig().overlap)
    whole = ReconstructConfig(mode="whole", overlap=0.25, window_s=1.0)
    made = reconstruct_file(run, recording, tmp_path / "b.edf", whole)
    assert (made["mode"], made["overlap"], made["window_s"]) == ("whole", 0.25, 1.0)
