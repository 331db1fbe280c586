"""The head for the stream is judged on people that it has not seen, and says so; short streams say so too."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.dataset import WindowDataset
from eegm2.deploy.heads.as_streamed import StreamedAs, streamed_windows
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.heads.fit import fit_head
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.protocols.frozen import C_GRID, linear_model
from eegm2.evaluation.scores.metrics import classification_metrics
from eegm2.training.checkpoint import load_checkpoint
from tests.data.samples import eeg, write_edf, write_store
from tests.deploy.helpers import checkpoint

NAMES = ("Fz", "Cz", "Pz")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("head")
    store = write_store(folder / "store", ch_names=NAMES, n_times=2560)
    return str(checkpoint(folder / "m.safetensors", "light", ch_names=NAMES)), str(store.url)


def test_the_metrics_are_those_of_this_head_on_the_people_left_out(place: tuple[str, str]) -> None:
    model, store = place
    head = fit_head(model, store, val=0.4, seed=3)
    judged = head.facts["validation"]
    data = RecordingStore(store)
    assert set(judged["left_out"]) | set(judged["fitted_on"]) == set(data.subjects)
    assert not set(judged["left_out"]) & set(judged["fitted_on"])
    assert len(judged["left_out"]) == judged["n_subjects"] == 2
    how = StreamedAs(**{field.name: head.facts[field.name] for field in fields(StreamedAs)})
    people = [info for info in data.recordings if info.subject in judged["left_out"]]
    checkpointed = load_checkpoint(model)
    made = streamed_windows(checkpointed.model, data, people, checkpointed.windows, head.classes, how)
    assert judged["metrics"] == classification_metrics(made.y, head(made.features)).plain()
    assert fit_head(model, store, val=0.4, seed=3).facts == head.facts
    drawn = {tuple(fit_head(model, store, val=0.4, seed=s).facts["validation"]["left_out"]) for s in range(6)}
    assert len(drawn) > 1


def test_the_offline_figure_is_that_of_separate_windows(place: tuple[str, str]) -> None:
    model, store = place
    judged = fit_head(model, store, val=0.4, seed=3).facts["validation"]
    checkpointed, data = load_checkpoint(model), RecordingStore(store)
    x, y = {}, {}
    for part in ("left_out", "fitted_on"):
        windows = WindowDataset(data, checkpointed.windows, subjects=judged[part], labelled=True)
        with torch.no_grad():
            signals = torch.stack([windows[i]["x"] for i in range(len(windows))])
            x[part] = checkpointed.model.features(signals).numpy().astype(float)
        y[part] = np.array([windows[i]["y"] for i in range(len(windows))])
    offline = linear_model().fit(x["fitted_on"], y["fitted_on"]).predict_proba(x["left_out"])
    expected = classification_metrics(y["left_out"], offline).plain()
    assert judged["offline"]["metrics"]["balanced_accuracy"] == expected["balanced_accuracy"]
    assert judged["offline"]["n_windows"] == len(y["left_out"])


def test_a_head_of_covariances_says_so_and_streams(place: tuple[str, str], tmp_path: Path) -> None:
    model, store = place
    out = tmp_path / "head.safetensors"
    command = ["head", model, store, "--features", "covariance", "--out", str(out)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    head = DenseHead.load(out)
    channels = load_checkpoint(model).model.config.representation_channels
    assert head.facts["features"] == "covariance"
    assert head.facts["c"] in C_GRID
    assert len(head.mean) == channels * (channels + 1) // 2
    edf = write_edf(tmp_path / "r.edf", eeg(3, 128 * 20), NAMES)
    command = ["stream", "--source", str(edf), "--speed", "0", "--model", model, "--head", str(out)]
    done = CliRunner().invoke(app, [*command, "--calibration-s", "5", "--out", str(tmp_path / "o.jsonl")])
    assert done.exit_code == 0, done.output
    assert '"probabilities"' in (tmp_path / "o.jsonl").read_text()


def test_the_metrics_stay_in_the_file_and_nobody_left_out_is_said(
    place: tuple[str, str], tmp_path: Path
) -> None:
    model, store = place
    done = CliRunner().invoke(app, ["head", model, store, "--out", str(tmp_path / "a.safetensors")])
    assert done.exit_code == 0, done.output
    facts = DenseHead.load(tmp_path / "a.safetensors").facts
    value = facts["validation"]["metrics"]["balanced_accuracy"]
    assert f"balanced_accuracy {value:.3f}" in done.output
    assert facts["validation"]["left_out"][0] in done.output
    assert "whether pretraining saw them is unknown" in done.output
    (tmp_path / "head.toml").write_text("val = 0.0\nbatch_size = 8\n")
    arguments = ["head", model, store, "--config", str(tmp_path / "head.toml")]
    arguments += ["--out", str(tmp_path / "b.safetensors")]
    done = CliRunner().invoke(app, arguments)
    assert "not validated: nobody was left out of the fit" in done.output
    assert DenseHead.load(tmp_path / "b.safetensors").facts["validation"]["metrics"] is None
    with pytest.raises(ConfigError, match=r"val: got 1\.0, expected a share from 0 to below 1"):
        fit_head(model, store, val=1.0)


def test_a_stream_that_ends_within_its_baseline_says_so(place: tuple[str, str], tmp_path: Path) -> None:
    source = write_edf(tmp_path / "short.edf", eeg(3, 640), NAMES)
    arguments = ["stream", "--source", str(source), "--model", place[0], "--speed", "0"]
    lines = tmp_path / "out.jsonl"
    done = CliRunner().invoke(app, [*arguments, "--out", str(lines)])
    assert isinstance(done.exception, DataError)
    assert "short.edf: ended after 5.0 s of signal" in str(done.exception)
    assert "of the 60.0 s it needs, so nothing was put out; stream longer" in str(done.exception)
    assert "give --calibration-s 2.5 or --scale-uv" in str(done.exception)
    assert json.loads(lines.read_text().splitlines()[-1])["calibrated"] is False
    done = CliRunner().invoke(app, [*arguments, "--calibration-s", "2.5"])
    assert done.exit_code == 0, done.output
