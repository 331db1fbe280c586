"""One checkpoint and data of other electrodes, through every door a user has; scaling and centring."""

from __future__ import annotations

import json
from pathlib import Path

import mne
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from eegm2 import EEGM2, EEGM2Classifier, EEGM2Config, EEGM2Encoder, adapt_channels, for_electrodes
from eegm2.cli.main import app
from eegm2.config import to_dict
from eegm2.data.config import PreprocessingConfig, WindowConfig
from eegm2.data.labels import LabelSpan
from eegm2.data.positions import template_directions
from eegm2.deploy.heads.dense import DenseHead
from eegm2.errors import ConfigError, EEGM2Error
from eegm2.evaluation.config import FitConfig
from eegm2.evaluation.protocols.modes import fine_tune
from eegm2.evaluation.windows.labelled import Split
from eegm2.model.covariance.electrodes import sites
from eegm2.training.checkpoint import load_checkpoint, save_checkpoint
from tests.data.samples import eeg, write_edf, write_store
from tests.evaluation.experiments import evaluate, rows_of
from tests.evaluation.helpers import labelled_arrays

TRAINED = ["F3", "F4", "C3", "C4", "P3", "P4"]
OTHERS = ["O2", "Fz", "T7-P7", "Cz", "Pz"]
LABELS = [LabelSpan(10.0 * i, 10.0, "open" if i % 2 else "closed") for i in range(4)]


def write_run(folder: Path, names: list[str] = TRAINED) -> Path:
    torch.manual_seed(0)
    model = EEGM2(EEGM2Config.preset("covariance", n_chans=len(names), width=4, n_virtual=5)).eval()
    header = {
        "preprocessing": to_dict(PreprocessingConfig(channels=tuple(names))),
        "windows": to_dict(WindowConfig(window_s=2.0, scaling="recording")),
        "ch_names": names,
        "sfreq_hz": 128.0,
    }
    save_checkpoint(folder / "best.safetensors", for_electrodes(model, names), header)
    return folder / "best.safetensors"


def run_command(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def refused(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert isinstance(done.exception, EEGM2Error), done.output
    return str(done.exception)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_store(tmp_path / "store", 6, 5120, ch_names=OTHERS, labels=LABELS)
    return tmp_path / "store"


def test_a_checkpoint_for_other_electrodes_keeps_its_weights(run: Path) -> None:
    checkpoint = load_checkpoint(run)
    assert checkpoint.on_montage(TRAINED) is checkpoint
    other = checkpoint.on_montage(OTHERS)
    assert other.header["ch_names"] == OTHERS
    assert other.header["trained_on"] == TRAINED
    assert other.model.encoder is checkpoint.model.encoder
    assert other.model.config.n_chans == 5


@torch.no_grad()
def test_a_shared_model_serves_any_electrodes(run: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(run)
    checkpoint.model.header = checkpoint.header
    checkpoint.model.save_pretrained(tmp_path / "shared")
    again = EEGM2.from_pretrained(tmp_path / "shared")
    x = torch.randn(1, 6, 256)
    assert torch.equal(again.encode(x), checkpoint.model.encode(x))
    there = for_electrodes(again, OTHERS)
    assert torch.equal(there.encode(x[:, :5]), checkpoint.on_montage(OTHERS).model.encode(x[:, :5]))
    there.save_pretrained(tmp_path / "there")  # for that montage
    assert torch.equal(EEGM2.from_pretrained(tmp_path / "there").encode(x[:, :5]), there.encode(x[:, :5]))
    net = {f"E{i}": tuple(place) for i, place in enumerate(sites(256))}
    assert for_electrodes(again, list(net), net).encode(torch.randn(1, 256, 64)).shape[2] == 2


def test_probe_and_embed(run: Path, store: Path, tmp_path: Path) -> None:
    for centre in ("none", "recording", "running"):
        out = tmp_path / f"probe-{centre}"
        run_command(
            *("probe", run, store, "--out", out, "--protocols", "linear", "--features", "tangent"),
            *("--centre", centre),
        )
        results = json.loads((out / "results.json").read_text())
        assert results["task"]["windows"]["scaling"] == "recording"
        assert results["summary"][0]["protocol"] == "linear"
    run_command("embed", run, store, "--out", tmp_path / "e.npz", "--kind", "log_variance")
    with np.load(tmp_path / "e.npz") as made:
        assert made["features"].shape == (6 * 20, 6 * 5)
        assert made["feature_names"][:2].tolist() == ["log_variance_0_00", "log_variance_0_01"]
    run_command(
        "embed", run, store, "--out", tmp_path / "c.npz", "--kind", "tangent", "--centre", "recording"
    )
    with np.load(tmp_path / "c.npz") as made:
        of_one = made["features"][made["recording"] == "r0"]
        np.testing.assert_allclose(of_one.mean(0), 0, atol=1e-5)
    assert "no features to centre" in refused(
        *("embed", run, store, "--out", tmp_path / "s.npz", "--kind", "sequence", "--centre", "recording")
    )


def test_positions_of_unknown_electrodes(run: Path, tmp_path: Path) -> None:
    names = [f"E{i}" for i in range(5)]
    write_store(tmp_path / "net", 2, 1280, ch_names=names)
    command = ("embed", run, tmp_path / "net", "--out", tmp_path / "e.npz", "--kind", "tangent")
    message = refused(*command)
    assert "no position is known for E0, E1, E2, E3, E4" in message
    assert "--positions FILE" in message
    table, places = tmp_path / "positions.csv", template_directions()
    rows = [f"{name},{','.join(map(str, places[like]))}" for name, like in zip(names, TRAINED)]
    table.write_text("name,x,y,z\n" + "\n".join(rows) + "\n")
    run_command(*command, "--positions", table)
    with np.load(tmp_path / "e.npz") as made:
        by_position = made["features"]
    write_store(tmp_path / "named", 2, 1280, ch_names=TRAINED[:5])
    run_command("embed", run, tmp_path / "named", "--out", tmp_path / "n.npz", "--kind", "tangent")
    with np.load(tmp_path / "n.npz") as made:
        np.testing.assert_allclose(made["features"], by_position, atol=1e-4)


def test_embedding_a_file_of_other_electrodes(run: Path, tmp_path: Path) -> None:
    file = write_edf(tmp_path / "r.edf", eeg(4, 1280), ["Fz", "Cz", "Pz", "Oz"])
    run_command("embed", run, file, "--out", tmp_path / "e.npz", "--kind", "tangent_state")
    with np.load(tmp_path / "e.npz") as made:
        assert made["features"].shape == (5, 6 * 15 + load_checkpoint(run).config.trunk_channels)
    few = write_edf(tmp_path / "few.edf", eeg(3, 1280), ["Fz", "Cz", "Pz"])
    assert "got 3 (Fz, Cz, Pz)" in refused("embed", run, few, "--out", tmp_path / "f.npz")


def test_head_and_stream(run: Path, store: Path, tmp_path: Path) -> None:
    head = tmp_path / "head.safetensors"
    run_command("head", run, store, "--out", head, "--features", "tangent", "--centre", "recording")
    facts = DenseHead.load(head).facts
    assert (facts["features"], facts["centre"], facts["scaling"]) == ("tangent", "recording", "recording")
    file = write_edf(tmp_path / "r.edf", eeg(4, 3840), ["Fz", "Cz", "Pz", "Oz"])
    arguments = ("stream", "--source", file, "--model", run, "--head", head, "--speed", 0)
    assert "Fz Cz Pz Oz" in refused(*arguments, "--calibration-s", 4)
    channels = [part for name in ("Oz", "Fz", "Cz", "Pz") for part in ("--channels", name)]
    out = tmp_path / "out.jsonl"
    run_command(*arguments, *channels, "--calibration-s", 4, "--warm-up", 3, "--hop-s", 1, "--out", out)
    records = [json.loads(line) for line in out.read_text().splitlines()]
    ends = [r["sample"] for r in records if r["type"] == "decision"]
    assert ends[0] == 3 * 256  # the third window, side by side, ends the warm-up
    assert np.diff(ends).tolist() == [128] * (len(ends) - 1)


def test_estimators_take_names_or_epochs(run: Path) -> None:
    x = eeg(20, 5 * 512).reshape(20, 5, 512)
    y = np.arange(20) % 2
    options = {"scaling": "none", "features": "log_variance"}
    order = [3, 1, 0, 2, 4]
    first = EEGM2Encoder(run, ch_names=OTHERS, **options).fit_transform(x)
    names = [OTHERS[i] for i in order]
    second = EEGM2Encoder(run, ch_names=names, **options).fit_transform(x[:, order])
    np.testing.assert_allclose(first, second, atol=1e-3)
    known = ["O2", "Fz", "T7", "Cz", "Pz"]
    info = mne.create_info(known, 128.0, "eeg")
    with info._unlock():
        info["highpass"], info["lowpass"] = 0.5, 40.0
    epochs = mne.EpochsArray(x * 1e-6, info, verbose="error")
    fitted = EEGM2Classifier(run, protocol="linear", C=0.1, **options).fit(epochs, y)
    assert fitted.network_.config.n_chans == 5
    assert fitted.predict_proba(epochs).shape == (20, 2)
    other = epochs.copy().reorder_channels(["Pz", "O2", "Fz", "T7", "Cz"])
    np.testing.assert_allclose(fitted.predict_proba(other), fitted.predict_proba(epochs))
    with pytest.raises(ConfigError, match="needs to know which electrodes"):
        EEGM2Encoder(preset="covariance", **options).fit(x)
    with pytest.raises(ConfigError, match="'recording' needs to know recordings"):
        EEGM2Encoder(run, ch_names=OTHERS, scaling="recording").fit(x)
    adapted = adapt_channels(load_checkpoint(run).model, 5, ch_names=OTHERS)
    assert adapted.config.n_chans == 5


def test_an_experiment_on_other_electrodes(run: Path, store: Path, tmp_path: Path) -> None:
    text = f"""
seeds = [0]
n_bootstrap = 20
[data]
store = "store"
window_s = 2.0
scaling = "recording"
[splits]
n_folds = 2
val = 0.34
[pretrain.own]
run = "{run.name}"
[[models]]
name = "tangent"
protocol = "linear"
pretrained = "own"
features = "tangent"
centre = "recording"
c = "validation"
[[models]]
name = "random"
protocol = "linear"
pretrained = "random"
preset = "covariance"
width = 4
features = "log_variance"
c = "validation"
[[models]]
name = "fine"
protocol = "fine"
pretrained = "own"
fit = {{max_epochs = 1, head = "statistics"}}
"""
    evaluate(tmp_path, text)
    assert {row["model"] for row in rows_of(tmp_path)} == {"tangent", "random", "fine"}


def test_fine_tuning_reads_the_tokens() -> None:
    data = labelled_arrays(n_times=64)
    config = EEGM2Config.preset("covariance", n_chans=3, width=4, n_virtual=0, sfreq_hz=32.0)
    everybody = np.arange(len(data))
    split = Split(everybody[:24], everybody[24:32], everybody[32:])
    fit = FitConfig(max_epochs=15, patience=15, batch_size=8, lr=3e-3, head="statistics")
    torch.manual_seed(0)
    outcome, network = fine_tune("fine", data, split, model=EEGM2(config), seed=0, config=fit)
    assert outcome.facts["head"] == "statistics"
    losses = outcome.facts["train_loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert network.network.trunk is not None
    with pytest.raises(ConfigError, match="flatten"):
        fine_tune("fine", data, split, model=EEGM2(config), seed=0, config=FitConfig(max_epochs=1))
