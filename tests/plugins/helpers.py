"""A labelled store and commands in this process, for tests of parts of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from eegm2.data.config import PreprocessingConfig
from eegm2.data.labels import LabelSpan
from eegm2.data.store.recording_store import RecordingInfo, RecordingStore, StoreWriter
from eegm2.errors import EEGM2Error

CHANNELS = ("F3", "C3", "P3")
SFREQ_HZ = 32.0
SECONDS = 12


def labelled_store(path: Path, subjects: int = 6) -> RecordingStore:
    """Write a store of some people whose second half is another state."""
    options = {"channels": CHANNELS, "sfreq_hz": SFREQ_HZ, "h_freq_hz": 12.0}
    writer = StoreWriter(path, PreprocessingConfig(**options), CHANNELS)
    rng = np.random.default_rng(0)
    half = round(SECONDS * SFREQ_HZ / 2)
    for number in range(subjects):
        array = rng.standard_normal((len(CHANNELS), 2 * half)) * np.repeat([10, 14], half)
        spans = (LabelSpan(0.0, SECONDS / 2, "rest"), LabelSpan(SECONDS / 2, SECONDS / 2, "task"))
        info = RecordingInfo(
            id=f"rec{number}", subject=f"sub{number}", session="1", n_times=2 * half, sfreq_hz=SFREQ_HZ,
            ch_names=CHANNELS, source_sha256=str(number), labels=spans,
        )  # fmt: skip
        writer.write(info, array.astype(np.float32))
    return RecordingStore(path)


def run_command(app: Any, words: list[str], *, fails: bool = False) -> str:
    """Run a command in this process; return what it printed, or the error's text where it is to fail."""
    done = CliRunner().invoke(app, words)
    if fails:
        assert isinstance(done.exception, EEGM2Error), done.output
        return str(done.exception)
    if done.exception is not None:
        raise done.exception
    return str(done.output)
