"""Write arrays of microvolts as recording files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eegm2.atomic import whole_file
from eegm2.data.files.readers import annotation_labels
from eegm2.data.labels import LabelSpan

if TYPE_CHECKING:
    import mne

PADDING = "bad_padding"


def write_recording(
    path: Path, array_uv: NDArray[np.float32], ch_names: list[str], sfreq_hz: float, source: mne.io.BaseRaw
) -> None:
    """Write a recording with its source's annotations and date, whole or not at all.

    EDF holds whole data records only. Where no record length divides the recording, the last record is
    filled with the last sample and that stretch is annotated ``bad_padding``; FIF holds any length.

    Parameters
    ----------
    path : Path
        ``.edf`` or ``.fif``.
    array_uv : array, shape (n_chans, n_samples)
        Microvolts.
    ch_names : list of str
        Names of the rows.
    sfreq_hz : float
        Sampling rate.
    source : mne.io.BaseRaw
        Gives annotations and the date of measurement.
    """
    with whole_file(path, ending=f"_eeg{path.suffix.lower()}") as temporary:
        if path.suffix.lower() == ".fif":
            _mne_raw(array_uv, ch_names, sfreq_hz, source).save(temporary, verbose="error")
        else:
            _edf(array_uv, ch_names, sfreq_hz, source).write(temporary)


def record_samples(n_samples: int, sfreq_hz: float) -> int:
    """Return the samples of an EDF data record: at most one second, at least a tenth, in 8 characters.

    The longest that divides the recording, or else the longest that fits.
    """
    longest = max(1, math.floor(sfreq_hz))
    for samples in range(longest, max(1, math.ceil(sfreq_hz / 10)) - 1, -1):
        if n_samples % samples == 0 and _fits_header(samples / sfreq_hz):
            return samples
    return next((n for n in range(longest, 0, -1) if _fits_header(n / sfreq_hz)), longest)


def _fits_header(duration_s: float) -> bool:
    return len(f"{duration_s:.12g}") <= 8


def _annotations(source: mne.io.BaseRaw, duration_s: float) -> list[LabelSpan]:
    """Return the source's annotations cut to the recording."""
    return [
        LabelSpan(span.onset_s, min(span.duration_s, duration_s - span.onset_s), span.label)
        for span in annotation_labels(source)
        if 0 <= span.onset_s < duration_s
    ]


def _edf(array_uv: NDArray[np.float32], ch_names: list[str], sfreq_hz: float, source: mne.io.BaseRaw) -> Any:
    import edfio

    n_samples = array_uv.shape[1]
    spans = _annotations(source, n_samples / sfreq_hz)
    record = record_samples(n_samples, sfreq_hz)
    missing = -n_samples % record
    if missing:
        array_uv = np.pad(array_uv, ((0, 0), (0, missing)), mode="edge")
        spans.append(LabelSpan(n_samples / sfreq_hz, missing / sfreq_hz, PADDING))
    signals = [
        edfio.EdfSignal(row.astype(float), sfreq_hz, label=name, physical_dimension="uV")
        for name, row in zip(ch_names, array_uv)
    ]
    date = source.info["meas_date"]
    return edfio.Edf(
        signals,
        recording=edfio.Recording(startdate=date.date()) if date is not None else None,
        starttime=date.time() if date is not None else None,
        data_record_duration=record / sfreq_hz,
        annotations=[edfio.EdfAnnotation(s.onset_s, s.duration_s or None, s.label) for s in spans],
    )


def _mne_raw(
    array_uv: NDArray[np.float32], ch_names: list[str], sfreq_hz: float, source: mne.io.BaseRaw
) -> mne.io.BaseRaw:
    import mne

    raw = mne.io.RawArray(
        array_uv.astype(float) * 1e-6, mne.create_info(ch_names, sfreq_hz, "eeg"), verbose="error"
    )
    raw.set_meas_date(source.info["meas_date"])
    spans = _annotations(source, array_uv.shape[1] / sfreq_hz)
    columns = [[s.onset_s for s in spans], [s.duration_s for s in spans], [s.label for s in spans]]
    raw.set_annotations(mne.Annotations(*columns, orig_time=raw.info["meas_date"]))
    return raw
