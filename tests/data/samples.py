"""Small recordings and files that the tests write themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import edfio
import numpy as np

from eegm2.data.config import PreprocessingConfig
from eegm2.data.labels import LabelSpan
from eegm2.data.store.recording_store import RecordingInfo, RecordingStore, StoreWriter

EPOC = ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")


def eeg(
    n_chans: int, n_times: int, sfreq_hz: float = 128.0, seed: int = 0, offset_uv: float = 0.0
) -> np.ndarray:
    """Rhythm and noise of EEG size: (n_chans, n_times) in µV."""
    generator = np.random.default_rng(seed)
    times = np.arange(n_times) / sfreq_hz
    rhythm = 20 * np.sin(2 * np.pi * 10 * times + generator.uniform(0, 6, (n_chans, 1)))
    return rhythm + generator.normal(0, 10, (n_chans, n_times)) + offset_uv


def write_edf(
    path: Path,
    x_uv: np.ndarray,
    ch_names: Sequence[str],
    sfreq_hz: float | Sequence[float] = 128.0,
    annotations: Sequence[tuple[float, float, str]] = (),
    *,
    unit: str = "uV",
    bdf: bool = False,
) -> Path:
    """Write rows of microvolts (or of `unit`) as EDF+ or BDF+; rates may differ between channels."""
    rates = [sfreq_hz] * len(ch_names) if isinstance(sfreq_hz, int | float) else list(sfreq_hz)
    kind = edfio.BdfSignal if bdf else edfio.EdfSignal
    signals = [
        kind(row, rate, label=name, physical_dimension=unit) for row, rate, name in zip(x_uv, rates, ch_names)
    ]
    notes = [edfio.EdfAnnotation(onset, duration, text) for onset, duration, text in annotations]
    path.parent.mkdir(parents=True, exist_ok=True)
    (edfio.Bdf if bdf else edfio.Edf)(signals, annotations=notes or None).write(path)
    return path


def write_store(
    url: str | Path,
    n_recordings: int = 4,
    n_times: int = 1280,
    *,
    ch_names: Sequence[str] = ("Fz", "Cz"),
    labels: Sequence[LabelSpan] = (LabelSpan(0.0, 5.0, "open"), LabelSpan(5.0, 5.0, "closed")),
    per_subject: int = 1,
    dtype: str = "float32",
) -> RecordingStore:
    """Write a store of random recordings ``r0`` … of subjects ``s0`` …"""
    writer = StoreWriter(url, PreprocessingConfig(channels=tuple(ch_names)), ch_names, dtype=dtype)
    for number in range(n_recordings):
        subject = number // per_subject
        group = "patient" if subject % 2 else "control"
        info = RecordingInfo(
            f"r{number}", f"s{subject}", "", 0, 0.0, (), labels=tuple(labels), attributes={"group": group}
        )
        writer.write(info, eeg(len(ch_names), n_times, seed=number).astype(np.float32))
    return RecordingStore(url)
