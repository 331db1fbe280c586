"""Writes the samples of today's formats, once per format: ``python -m tests.formats.make``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from eegm2 import EEGM2, EEGM2Config
from eegm2.config import to_dict
from eegm2.data.config import PreprocessingConfig, WindowConfig
from eegm2.data.labels import LabelSpan
from eegm2.data.store.facts import FORMAT as STORE_FORMAT
from eegm2.data.store.facts import RecordingInfo
from eegm2.data.store.recording_store import RecordingStore, StoreWriter
from eegm2.data.windows.splits import SplitManifest
from eegm2.training.checkpoint import FORMAT as CHECKPOINT_FORMAT
from eegm2.training.checkpoint import save_checkpoint

HERE = Path(__file__).parent
CH_NAMES = ("Fz", "Cz")


def samples() -> np.ndarray:
    """Return (2, 32) microvolts that need no random numbers."""
    return np.arange(64, dtype=np.float32).reshape(2, 32) / 8 - 4


def weights(model: EEGM2) -> None:
    """Fill a model with values that need no random numbers."""
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(
                torch.linspace(-0.2, 0.2, parameter.numel()).reshape(parameter.shape) + number / 1000
            )


def make() -> None:
    """Write a store, a split and a checkpoint in the current formats."""
    store = HERE / f"store-{STORE_FORMAT}"
    preprocessing = PreprocessingConfig(channels=CH_NAMES)
    writer = StoreWriter(store, preprocessing, CH_NAMES, dtype="float32")
    labels = (LabelSpan(0.0, 0.125, "open"),)
    for number in range(2):
        info = RecordingInfo(f"r{number}", f"s{number}", "1", 0, 128.0, CH_NAMES, labels, {"age": "31"})
        writer.write(info, samples() + number)
    opened = RecordingStore(store)
    SplitManifest(("s0",), ("s1",), (), 3, "subject", opened.manifest_sha256).to_json(HERE / "splits-1.json")
    model = EEGM2(EEGM2Config.preset("s1", n_chans=2, width=2, expand=2, d_state=2))
    weights(model)
    header = {
        "ch_names": list(CH_NAMES),
        "sfreq_hz": 128.0,
        "preprocessing": to_dict(preprocessing),
        "windows": to_dict(WindowConfig(window_s=0.125)),
        "data": {
            "store": "store",
            "manifest_sha256": opened.manifest_sha256,
            "n_recordings": 2,
            "n_subjects": 2,
        },
        "step": 5,
    }
    save_checkpoint(HERE / f"checkpoint-{CHECKPOINT_FORMAT}.safetensors", model, header)


if __name__ == "__main__":
    make()
