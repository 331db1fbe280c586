"""Tiny stores for tests: a few people, a few seconds, noise with a rhythm."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eegm2.data.config import PreprocessingConfig
from eegm2.data.store.recording_store import RecordingInfo, RecordingStore, StoreWriter

CHANNELS = ("F3", "C3", "P3")
SFREQ_HZ = 32.0


def tiny_store(path: Path, *, subjects: int = 4, seconds: float = 12.0, seed: int = 0) -> RecordingStore:
    """Write a store of one recording per subject, 3 channels at 32 Hz."""
    preprocessing = PreprocessingConfig(channels=CHANNELS, sfreq_hz=SFREQ_HZ, h_freq_hz=12.0)
    writer = StoreWriter(path, preprocessing, CHANNELS)
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * SFREQ_HZ)) / SFREQ_HZ
    for number in range(subjects):
        rhythm = 20 * np.sin(2 * np.pi * (6 + number) * times)
        array = rhythm + 5 * rng.standard_normal((len(CHANNELS), len(times)))
        writer.write(
            RecordingInfo(
                id=f"rec{number}",
                subject=f"sub{number}",
                session="1",
                n_times=len(times),
                sfreq_hz=SFREQ_HZ,
                ch_names=CHANNELS,
            ),
            array.astype(np.float32),
        )
    return RecordingStore(path)
