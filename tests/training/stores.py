"""Tiny stores for tests: a few people, a few seconds, noise with a rhythm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.data.config import PreprocessingConfig
from eegm2.data.store.recording_store import RecordingInfo, RecordingStore, StoreWriter

CHANNELS = ("F3", "C3", "P3")
SFREQ_HZ = 32.0


def tiny_store(
    path: Path,
    *,
    subjects: int = 4,
    seconds: float = 12.0,
    seed: int = 0,
    channels: tuple[str, ...] = CHANNELS,
    splits: Sequence[str] = (),
    **preprocessing: Any,
) -> RecordingStore:
    """Write a store of one recording per subject, 3 channels at 32 Hz; `splits` are official parts."""
    options = {"channels": channels, "sfreq_hz": SFREQ_HZ, "h_freq_hz": 12.0, **preprocessing}
    writer = StoreWriter(path, PreprocessingConfig(**options), channels)
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * SFREQ_HZ)) / SFREQ_HZ
    for number in range(subjects):
        rhythm = 20 * np.sin(2 * np.pi * (6 + number) * times)
        array = rhythm + 5 * rng.standard_normal((len(channels), len(times)))
        writer.write(
            RecordingInfo(
                id=f"rec{number}",
                subject=f"sub{number}",
                session="1",
                n_times=len(times),
                sfreq_hz=SFREQ_HZ,
                ch_names=channels,
                source_sha256=f"{seed}-{number}",
                split=splits[number] if splits else None,
            ),
            array.astype(np.float32),
        )
    return RecordingStore(path)
