"""A recording as a live stream would have filtered it: from its file, or restored from a store."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eegm2.data.config import PreprocessingConfig
from eegm2.data.files.readers import annotation_labels, read_raw
from eegm2.data.joins import cuts, parts, skipped
from eegm2.data.store.recording_store import RecordingInfo, RecordingStore
from eegm2.deploy.stream.causal import CausalPreprocessor, causal_filter
from eegm2.errors import DataError

_PADDING_S = 20.0
#: Squared response below which nothing is restored. The high-pass rings for seconds, so that what lies beyond
#: the ends of a recording, which nobody knows, weighs more around its edge than elsewhere.
_FLOOR, _FLOOR_AT_HIGH_PASS = 1e-4, 1e-2


def causal_copy(
    x_uv: np.ndarray, sfreq_hz: float, config: PreprocessingConfig, *, source_sfreq_hz: float | None = None
) -> np.ndarray:
    """Return a recording filtered once, forwards, from what was filtered forwards and backwards.

    The declared filter has the response H. Forwards and backwards it makes ``|H|^2 X`` of a signal X, which
    is what a store holds; a stream makes ``H X``. One is the other times ``H / |H|^2``, which changes hardly
    anything but the phase within the pass band, and fades out where ``|H|^2`` is below 0.0001, and below 0.01
    around the edge of the high-pass. Zeros are taken to lie beyond the ends. What a store does not hold
    cannot be restored: a stream begins with the first sample, and lets more of slow drifts through than a
    filter that ran twice. Where drifts are large, :func:`streamed_parts` of the file itself is needed.

    Parameters
    ----------
    x_uv : array, shape (n_chans, n_times)
        Microvolts, as stored.
    sfreq_hz : float
        Rate of the store.
    config : PreprocessingConfig
        With which it was made.
    source_sfreq_hz : float, optional
        Rate of the recording before it was resampled, at which it was filtered.

    Returns
    -------
    array of float32, shape (n_chans, n_times)
    """
    n_times = x_uv.shape[1]
    padding = round(_PADDING_S * sfreq_hz)
    x = np.pad(np.asarray(x_uv, np.float64), ((0, 0), (padding, padding)))
    spectrum = np.fft.rfft(x, axis=1)
    filtering, _ = causal_filter(config, source_sfreq_hz or sfreq_hz)
    frequency_hz = np.fft.rfftfreq(x.shape[1], 1 / sfreq_hz)
    response = filtering.response(frequency_hz)
    floor = np.where(frequency_hz < 4 * config.l_freq_hz, _FLOOR_AT_HIGH_PASS, _FLOOR)
    restored = np.fft.irfft(spectrum * response / (np.abs(response) ** 2 + floor), n=x.shape[1], axis=1)
    return restored[:, padding : padding + n_times].astype(np.float32)


def restored_parts(store: RecordingStore, info: RecordingInfo) -> list[tuple[float, np.ndarray]]:
    """Return (first sample, microvolts) of every continuous part of a stored recording: `causal_copy`."""
    source_hz = float(info.quality.get("source_sfreq_hz") or store.sfreq_hz)
    x_uv, joins = store.read(info.id), cuts(info.labels, store.sfreq_hz, info.n_times)
    return [
        (
            float(part.start),
            causal_copy(x_uv[:, part], store.sfreq_hz, store.preprocessing, source_sfreq_hz=source_hz),
        )
        for part in parts(info.n_times, joins)
    ]


def streamed_parts(
    store: RecordingStore, info: RecordingInfo, folder: Path
) -> list[tuple[float, np.ndarray]]:
    """Return (first sample, microvolts) of every continuous part of a recording, as a stream has them.

    Parameters
    ----------
    store, info
        Where it is stored.
    folder : Path
        What was prepared: the recording's ``source`` lies below it.

    Raises
    ------
    DataError
        If the file is not there, or is not the one that was prepared.
    """
    path = folder / info.source
    if not info.source or not path.exists():
        raise DataError(f"recordings: {folder} has no '{info.source}'; give the folder that was prepared")
    raw = read_raw(str(path))
    sfreq_hz, n_times = float(raw.info["sfreq"]), raw.n_times
    ratio = store.sfreq_hz / sfreq_hz
    size = info.source_stat[0][0] if info.source_stat else path.stat().st_size
    if abs(n_times * ratio - info.n_times) > 1.5 or path.stat().st_size != size:
        raise DataError(
            f"{path}: is not what was prepared (the store has {info.n_times} samples of it, the file "
            f"{n_times * ratio:.0f} at that rate, {path.stat().st_size} bytes): prepare again, or leave out "
            "--recordings"
        )
    causal = CausalPreprocessor(
        list(raw.ch_names), sfreq_hz, store.preprocessing, store.ch_names, where=str(path)
    )
    marks = annotation_labels(raw)
    gone, made = skipped(marks, sfreq_hz, n_times), []
    for part in parts(n_times, cuts(marks, sfreq_hz, n_times)):
        if gone[part.start]:
            continue
        causal.reset()
        x = causal.push(raw[:, part][0] * 1e6)
        if part.stop == n_times:
            x = np.concatenate([x, causal.flush()], axis=1)
        made.append((part.start * ratio, x))
    return made
