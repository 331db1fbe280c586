"""Files of every format ever released are read; those of a future one are refused with the remedy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from eegm2 import EEGM2, EEGM2Config
from eegm2.data.config import WindowConfig
from eegm2.data.store.facts import FORMAT as STORE_FORMAT
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.dataset import WindowDataset
from eegm2.data.windows.splits import SplitManifest
from eegm2.errors import CheckpointError, DataError
from eegm2.training.checkpoint import FORMAT as CHECKPOINT_FORMAT
from eegm2.training.checkpoint import load_checkpoint, write_weights
from tests.formats.make import HERE, samples, weights


@pytest.mark.parametrize("number", range(1, STORE_FORMAT + 1))
def test_stores_of_every_format(number: int) -> None:
    store = RecordingStore(HERE / f"store-{number}")
    assert store.verify() == {}
    assert [(info.id, info.subject, info.attributes) for info in store.recordings] == [
        ("r0", "s0", {"age": "31"}),
        ("r1", "s1", {"age": "31"}),
    ]
    assert store.ch_names == ("Fz", "Cz")
    assert np.array_equal(store.read("r1"), samples() + 1)
    dataset = WindowDataset(store, WindowConfig(window_s=0.125, scaling="none"))
    assert dataset.classes == ("open",)
    assert len(dataset) == 4


def test_splits_of_every_format() -> None:
    store = RecordingStore(HERE / "store-1")
    manifest = SplitManifest.from_json(HERE / "splits-1.json", store)
    assert (manifest.train, manifest.val, manifest.test, manifest.seed) == (("s0",), ("s1",), (), 3)
    assert manifest.manifest_sha256 == store.manifest_sha256, "the store's hash has changed its meaning"


@pytest.mark.parametrize("number", range(1, CHECKPOINT_FORMAT + 1))
def test_checkpoints_of_every_format(number: int) -> None:
    loaded = load_checkpoint(HERE / f"checkpoint-{number}.safetensors")
    expected = EEGM2(EEGM2Config.preset("s1", n_chans=2, width=2, expand=2, d_state=2)).eval()
    weights(expected)
    x = torch.linspace(-1, 1, 2 * 16).reshape(1, 2, 16)
    with torch.inference_mode():
        assert torch.allclose(loaded.model(x), expected(x), atol=1e-6)
    assert loaded.header["step"] == 5
    assert loaded.windows == WindowConfig(window_s=0.125)
    assert loaded.preprocessing.channels == ("Fz", "Cz")


def test_a_store_of_the_future_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(HERE / f"store-{STORE_FORMAT}", tmp_path / "store")
    facts = json.loads((folder / "store.json").read_text())
    (folder / "store.json").write_text(json.dumps({**facts, "format": STORE_FORMAT + 1}))
    with pytest.raises(DataError, match=rf"format {STORE_FORMAT + 1}, this version reads {STORE_FORMAT}"):
        RecordingStore(folder)


def test_a_split_of_the_future_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"format": 2, "train": ["a"], "val": [], "test": []}))
    with pytest.raises(DataError, match="format 2, this eegm2 reads up to 1; upgrade eegm2"):
        SplitManifest.from_json(path)


def test_a_checkpoint_of_the_future_is_refused(tmp_path: Path) -> None:
    loaded = load_checkpoint(HERE / f"checkpoint-{CHECKPOINT_FORMAT}.safetensors")
    path = tmp_path / "new.safetensors"
    write_weights(path, loaded.model.state_dict(), {**loaded.header, "format": CHECKPOINT_FORMAT + 1})
    with pytest.raises(
        CheckpointError, match=rf"format {CHECKPOINT_FORMAT + 1}, this eegm2 reads up to .*upgrade"
    ):
        load_checkpoint(path)
