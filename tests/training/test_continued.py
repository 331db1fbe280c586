"""Pretraining that begins with a model's weights: what is taken, recorded and kept apart, what is refused."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.splits import SplitManifest
from eegm2.errors import CheckpointError, ConfigError
from eegm2.evaluation.windows.from_store import read_run_split
from eegm2.hub import share_run
from eegm2.training.checkpoint import load_checkpoint, read_header
from eegm2.training.config import PretrainConfig
from eegm2.training.continued import Beginning
from eegm2.training.first_network import first_network
from eegm2.training.pretrain import pretrain
from eegm2.training.state import Interrupted
from tests.training.pretrain_kills import differences
from tests.training.stores import tiny_store
from tests.training.test_resume import signal_after

TINY = PretrainConfig(
    preset="s1",
    width=4,
    network=("d_state=4",),
    window_s=1.0,
    epochs=1,
    batch_size=6,
    accelerator="cpu",
    log_every_steps=1,
)
FIVE = ("Fp1", "Fp2", "O1", "O2", "Cz")
FOUR = ("TP9", "AF7", "AF8", "TP10")
ANY = dataclasses.replace(
    TINY, preset="covariance", objective="oscillatory", network=("n_virtual=4",), window_s=2.0, batch_size=8
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return tiny_store(tmp_path_factory.mktemp("data") / "store", subjects=6)


@pytest.fixture(scope="module")
def run(store: RecordingStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "before"
    pretrain(store, folder, dataclasses.replace(TINY, split_seed=7))
    return folder


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return tiny_store(tmp_path_factory.mktemp("data") / "five", channels=FIVE, subjects=6)


@pytest.fixture(scope="module")
def any_run(five: RecordingStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "any"
    pretrain(five, folder, ANY)
    return folder


def again(run: Path, **changes: Any) -> PretrainConfig:
    """Options that leave the shape to the model."""
    return dataclasses.replace(TINY, preset="eegm2", width=64, network=(), init=str(run), seed=5, **changes)


def test_it_begins_with_the_weights(store: RecordingStore, run: Path, tmp_path: Path) -> None:
    pretrain(store, tmp_path / "run", again(run, max_lr=1e-12, weight_decay=0.0))
    before, after = (load_checkpoint(folder).model.state_dict() for folder in (run, tmp_path / "run"))
    assert before.keys() == after.keys()
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight, rtol=0, atol=1e-7)


def test_what_it_began_with_is_recorded_without_places(
    store: RecordingStore, run: Path, tmp_path: Path
) -> None:
    pretrain(store, tmp_path / "run", again(run))
    header = read_header(tmp_path / "run")
    assert header["init"]["model"] == run.name
    assert header["init"]["data"] == read_header(run)["data"]
    assert len(header["init"]["weights_sha256"]) == 64
    assert header["pretrain"]["preset"] == "s1"
    assert (header["pretrain"]["width"], header["pretrain"]["network"]) == (4, ["d_state=4"])
    pretrain(store, tmp_path / "third", again(tmp_path / "run"))
    third = read_header(tmp_path / "third")["init"]
    assert third["init"]["model"] == run.name
    assert third["weights_sha256"] != header["init"]["weights_sha256"]


def test_nobody_who_was_trained_on_is_tested(store: RecordingStore, run: Path, tmp_path: Path) -> None:
    """The same store keeps its parts; of another store the earlier split is kept beside."""
    pretrain(store, tmp_path / "same", again(run, split_seed=0))
    first = SplitManifest.from_json(run / "splits.json")
    assert SplitManifest.from_json(tmp_path / "same" / "splits.json") == first
    other = tiny_store(tmp_path / "other", seed=4)
    pretrain(other, tmp_path / "second", again(run))
    assert read_run_split(tmp_path / "second", store) == first
    found = read_run_split(tmp_path / "second", other)
    assert found is not None
    assert found.manifest_sha256 == other.manifest_sha256
    pretrain(tiny_store(tmp_path / "last", seed=5), tmp_path / "third", again(tmp_path / "second"))
    assert read_run_split(tmp_path / "third", store) == first


def test_interrupted_it_goes_on_although_the_model_is_gone(
    store: RecordingStore, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share_run(run, tmp_path / "shared")
    config = dataclasses.replace(again(tmp_path / "shared"), checkpoint_every_steps=1)
    pretrain(store, tmp_path / "whole", config)
    with monkeypatch.context() as patch:
        signal_after(patch, 20, signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGTERM"):
            pretrain(store, tmp_path / "run", config)
    (tmp_path / "shared").rename(tmp_path / "gone")
    pretrain(store, tmp_path / "run", config)
    assert differences(tmp_path / "whole", tmp_path / "run") == []


def test_other_electrodes_and_another_objective(any_run: Path, run: Path, tmp_path: Path) -> None:
    four = tiny_store(tmp_path / "four", channels=FOUR, seed=2)
    usual = {"preset": "eegm2", "width": 64, "network": (), "init": str(any_run)}
    config = dataclasses.replace(ANY, **usual, max_lr=1e-12, weight_decay=0.0)
    pretrain(four, tmp_path / "run", config)
    before, after = (load_checkpoint(folder).model for folder in (any_run, tmp_path / "run"))
    assert (before.config.n_chans, after.config.n_chans) == (5, 4)
    for (name, weight), other in zip(before.named_parameters(), after.parameters()):
        torch.testing.assert_close(other, weight, rtol=0, atol=1e-6, msg=name)
    encoder = dataclasses.replace(ANY, **{**usual, "init": str(run)}, hide_radius=0.0)
    three = tiny_store(tmp_path / "three")
    pretrain(three, tmp_path / "encoder", encoder)
    assert not load_checkpoint(tmp_path / "encoder").config.decoder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "s3"}, r"preset: got 's3' with --init .*, which has 's1'; leave --preset out"),
        ({"width": 8}, r"width: got 8 with --init .*, which has 4; leave --width out"),
        ({"network": ("d_state=8",)}, r"network: got \('d_state=8',\) with --init .* has \('d_state=4',\)"),
    ],
)
def test_another_shape_is_refused(
    change: dict[str, Any], message: str, store: RecordingStore, run: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        pretrain(store, tmp_path / "run", dataclasses.replace(again(run), **change))
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": FOUR}, r"has fixed electrodes: F3 C3 P3; other has TP9 AF7 AF8 TP10"),
        ({"channels": ("C3", "F3", "P3")}, r"has fixed electrodes: F3 C3 P3; other has C3 F3 P3"),
        ({"sfreq_hz": 64.0}, r"prepared otherwise than .*other: sfreq_hz is 32 and 64; prepare them alike"),
        ({"reference": "average"}, r"reference is keep and average; prepare them alike"),
    ],
)
def test_other_data_are_refused(change: dict[str, Any], message: str, run: Path, tmp_path: Path) -> None:
    other = tiny_store(tmp_path / "other", **change)
    with pytest.raises(ConfigError, match=message):
        pretrain(other, tmp_path / "run", again(run))


def test_a_decoder_cannot_be_made_up(any_run: Path, five: RecordingStore, tmp_path: Path) -> None:
    encoder = dataclasses.replace(ANY, preset="s1", network=(), hide_radius=0.0)
    pretrain(five, tmp_path / "encoder", encoder)
    config = dataclasses.replace(again(tmp_path / "encoder"), objective="masked")
    with pytest.raises(ConfigError, match="has no decoder, which objective masked needs; give another"):
        pretrain(five, tmp_path / "run", config)
    with pytest.raises(ConfigError, match="masked needs a network with a decoder; preset covariance"):
        pretrain(five, tmp_path / "other", dataclasses.replace(config, init=str(any_run)))


def test_no_such_model(store: RecordingStore, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such"):
        pretrain(store, tmp_path / "run", again(tmp_path / "nothing" / "here"))


def test_a_network_of_ones_own(store: RecordingStore, run: Path, tmp_path: Path) -> None:
    """Weights that are missing are named, not made up."""
    beginning = Beginning.read(str(run))
    torch.nn.Module.__delattr__(beginning.network.encoder, "conv2")  # type: ignore[arg-type]
    from eegm2.data.windows.pool import StorePool

    with pytest.raises(ConfigError, match=r"does not fit.*: encoder\.conv2\.\w+ is missing"):
        first_network(StorePool(store), TINY, beginning)


def test_other_models_in_one_folder_are_refused(store: RecordingStore, run: Path, tmp_path: Path) -> None:
    pretrain(store, tmp_path / "run", again(run))
    with pytest.raises(ConfigError, match=r"init is .* there, got ''"):
        pretrain(store, tmp_path / "run", dataclasses.replace(TINY, seed=5))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["finished"]
