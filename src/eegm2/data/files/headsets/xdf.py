"""XDF files of LabRecorder: the EEG stream, its gaps, and the markers of other streams on its clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eegm2.data.files.headsets.samples import Samples
from eegm2.data.files.headsets.xdf_chunks import check_chunks
from eegm2.data.files.telling import tell
from eegm2.data.files.units import microvolts_per
from eegm2.errors import DataError


def read_xdf(path: Path) -> Samples:
    """Read the only EEG stream; clocks of several computers are brought together by their measured offsets.

    Raises
    ------
    DataError
        If pyxdf is missing, the file is damaged, it has no EEG stream or several, or states no channel names.
    """
    try:
        import pyxdf
    except ImportError as error:
        raise DataError(f"{path}: XDF needs pyxdf; pip install 'eegm2[headsets]'") from error
    check_chunks(path)
    try:
        streams, _ = pyxdf.load_xdf(
            str(path), synchronize_clocks=True, dejitter_timestamps=False, verbose=False
        )
    except Exception as error:
        raise DataError(f"{path}: cannot be read as XDF ({error}); record it again") from error
    eeg = [s for s in streams if _text(s, "type").upper() == "EEG" and len(s["time_stamps"])]
    if len(eeg) != 1:
        there = ", ".join(f"{_text(s, 'name')} ({_text(s, 'type')})" for s in streams) or "none"
        raise DataError(
            f"{path}: has {len(eeg)} EEG streams with samples, expected one (streams: {there}); "
            "record the others apart"
        )
    stream = eeg[0]
    if stream["info"]["channel_format"][0] == "string":
        raise DataError(f"{path}: its EEG stream holds texts, expected numbers; record it again")
    values, times_s = np.asarray(stream.pop("time_series")), np.asarray(stream["time_stamps"], float)
    names, units = _channels(stream, values.shape[1])
    factors = [microvolts_per(unit) if unit else 1.0 for unit in units]
    unknown = sorted({unit for unit, factor in zip(units, factors) if factor is None})
    if unknown:
        raise DataError(f"{path}: unit is '{unknown[0]:.40}', expected microvolts, millivolts or volts")
    if len(names) != values.shape[1]:
        raise DataError(
            f"{path}: names {len(names)} of {values.shape[1]} channels; add labels to the stream's "
            "description"
        )
    counted = str((((stream.get("footer") or {}).get("info") or {}).get("sample_count") or [""])[0] or "")
    if counted.isdigit() and int(counted) != len(values):
        tell(f"{path}: holds {len(values)} of the {counted} samples that its end counts")
    marks, outside = [], 0
    for other in streams:
        if _text(other, "type").lower() != "markers":
            continue
        for time_s, sample in zip(other["time_stamps"], other["time_series"]):
            text = str(sample[0]).strip() if len(sample) else ""
            if text and times_s[0] <= time_s <= times_s[-1]:
                marks.append((float(np.searchsorted(times_s, time_s)), text))
            else:
                outside += bool(text)
    if outside:
        tell(f"{path}: {outside} markers outside the EEG's time left out")
    rate_hz = float(_text(stream, "nominal_srate") or 0) or None
    x = np.empty(values.shape[::-1])
    for row, factor in enumerate(factors):
        assert factor is not None  # refused above
        np.multiply(values[:, row], factor, out=x[row], dtype=float)
    return Samples(path, names, x, rate_hz, times_s, None, sorted(marks))


def _text(stream: dict[str, Any], name: str) -> str:
    value = stream["info"].get(name) or [""]
    return str(value[0] or "")


def _channels(stream: dict[str, Any], count: int) -> tuple[list[str], list[str]]:
    """Return labels and units of a stream's channels as far as it states them."""
    description = (stream["info"].get("desc") or [None])[0] or {}
    listed = ((description.get("channels") or [None])[0] or {}).get("channel") or []
    names = [str((channel.get("label") or [""])[0] or "") for channel in listed]
    units = [str((channel.get("unit") or [""])[0] or "") for channel in listed]
    return [name for name in names if name], units if len(units) == count else [""] * count
