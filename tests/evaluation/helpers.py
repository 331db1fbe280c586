"""Small runs, stores and labelled arrays in which what must be found is put there."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eegm2.config import to_dict
from eegm2.data.config import PreprocessingConfig, WindowConfig
from eegm2.data.labels import LabelSpan
from eegm2.data.store.recording_store import RecordingInfo, RecordingStore, StoreWriter
from eegm2.data.windows.splits import SplitManifest
from eegm2.errors import ConfigError
from eegm2.evaluation.baselines.library import braindecode_models
from eegm2.evaluation.windows.labelled import LabelledWindows
from eegm2.model.config import EEGM2Config
from eegm2.model.network import EEGM2
from eegm2.training.checkpoint import provenance, save_checkpoint

CHANNELS = ("F3", "C3", "P3")
SFREQ_HZ = 32.0
PREPROCESSING = PreprocessingConfig(channels=CHANNELS, sfreq_hz=SFREQ_HZ, h_freq_hz=12.0)


def rhythm(frequency_hz: float, n_times: int, rng: np.random.Generator) -> np.ndarray:
    """Return (3, n_times) microvolts of a rhythm in noise."""
    times = np.arange(n_times) / SFREQ_HZ
    wave = 20 * np.sin(2 * np.pi * (frequency_hz * times + rng.random()))
    return (wave + 5 * rng.standard_normal((len(CHANNELS), n_times))).astype(np.float32)


def labelled_store(
    path: Path,
    *,
    subjects: int = 6,
    seconds: float = 24.0,
    changes: dict | None = None,
    official: dict[int, str] | None = None,
    only: dict[int, str] | None = None,
    flat: bool = False,
) -> RecordingStore:
    """Write one recording per subject: eyes shut (10 Hz) in the first half, open (3 Hz) in the second.

    By number of the subject: `official` part, the `only` label kept.
    """
    preprocessing = (
        PREPROCESSING if changes is None else PreprocessingConfig(**{**to_dict(PREPROCESSING), **changes})
    )
    writer = StoreWriter(path, preprocessing, preprocessing.channels)
    rng = np.random.default_rng(0)
    half = round(seconds * SFREQ_HZ / 2)
    for number in range(subjects):
        array = np.concatenate([rhythm(10, half, rng), rhythm(3, half, rng)], axis=1)
        labels = (LabelSpan(0, seconds / 2, "shut"), LabelSpan(seconds / 2, seconds / 2, "open"))
        labels = tuple(span for span in labels if (only or {}).get(number, span.label) == span.label)
        array *= not flat
        attributes = {"age": str(20 + number), "group": "ab"[number % 2]}
        info = RecordingInfo(f"rec{number}", f"sub{number}", "1", 0, SFREQ_HZ, CHANNELS, labels, attributes)
        info = replace(info, split=(official or {}).get(number))
        writer.write(info, array[: len(preprocessing.channels)])
    return RecordingStore(path)


def installed_braindecode() -> object:
    """Return braindecode's models, imported as eegm2 does; skip with the reason that a user would see."""
    if importlib.util.find_spec("braindecode") is None:
        pytest.skip("braindecode is not installed (extra baselines)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return braindecode_models()
    except ConfigError as error:
        pytest.skip(str(error))


def tiny_model(n_chans: int = 3, preset: str = "eegm2") -> EEGM2:
    """Return a seeded model of width 4."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return EEGM2(EEGM2Config.preset(preset, n_chans=n_chans, width=4)).eval()


def fake_run(
    path: Path, store: RecordingStore, *, split: SplitManifest | None = None, preset: str = "eegm2"
) -> Path:
    """Write a run folder around an untrained model, as pretraining would leave it."""
    header = {
        "preprocessing": to_dict(PREPROCESSING),
        "windows": to_dict(WindowConfig(window_s=2.0)),
        "ch_names": list(CHANNELS),
        "sfreq_hz": SFREQ_HZ,
        "data": {"store": store.url, "manifest_sha256": store.manifest_sha256},
        **provenance(),
    }
    (path / "checkpoints").mkdir(parents=True)
    save_checkpoint(path / "checkpoints" / "best.safetensors", tiny_model(preset=preset), header)
    if split is not None:
        split.to_json(path / "splits.json")
    return path


def labelled_arrays(
    n_subjects: int = 6, per_subject: int = 8, classes: int = 2, n_times: int = 32
) -> LabelledWindows:
    """Return scaled windows whose class is their frequency."""
    rng = np.random.default_rng(1)
    y = np.tile(np.arange(per_subject) % classes, n_subjects)
    x = np.stack([rhythm((2, 6, 12)[label], n_times, rng) / 20 for label in y])
    subject = np.repeat([f"sub{i}" for i in range(n_subjects)], per_subject)
    return LabelledWindows.from_arrays(x, y, subject, classes=("slow", "middle", "fast")[:classes])
