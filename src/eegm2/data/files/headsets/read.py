"""Which files are a headset's, and their reading as any recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eegm2.data.channels import is_known
from eegm2.data.files.headsets.declared import declaration_of, read_declared
from eegm2.data.files.headsets.programs import (
    onsets,
    read_emotiv,
    read_mindmonitor,
    read_muselsl,
    read_openbci,
    refuse_brainflow,
)
from eegm2.data.files.headsets.samples import as_raw
from eegm2.data.files.headsets.text import written_by
from eegm2.data.files.headsets.xdf import read_xdf

if TYPE_CHECKING:
    import mne

_PROGRAMS = {
    "mindmonitor": read_mindmonitor,
    "muselsl": read_muselsl,
    "openbci": read_openbci,
    "emotiv": read_emotiv,
    "brainflow": refuse_brainflow,
}
_EMOTIV_EDF = ("COUNTER", "INTERPOLATED")
_EMOTIV_MARKERS = ("MARKERVALUEINT", "MARKER", "MARKER_HARDWARE", "MARKERHARDWARE")


def is_headset_file(path: Path) -> bool:
    """Return whether a file is read here: XDF, a headset program's text, or a table that is declared."""
    if path.suffix.lower() in (".xdf", ".xdfz"):
        return True
    return declaration_of(path) is not None or written_by(path) is not None


def headset_companions(path: Path) -> tuple[Path, ...]:
    """Return the declaration that belongs to a table."""
    declaration = declaration_of(path)
    return () if declaration is None else (declaration,)


def read_headset(path: Path) -> mne.io.BaseRaw:
    """Read a file of :func:`is_headset_file`; a declaration beside it comes before what it begins with."""
    if path.suffix.lower() in (".xdf", ".xdfz"):
        return as_raw(read_xdf(path))
    declaration = declaration_of(path)
    if declaration is not None:
        return as_raw(read_declared(path, declaration))
    return as_raw(_PROGRAMS[str(written_by(path))](path))


def mark_emotiv(raw: mne.io.BaseRaw) -> None:
    """Make what Emotiv's EDF files hold besides EEG no EEG, and its marker channels annotations; in place."""
    upper = {name.upper(): name for name in raw.ch_names}
    if not all(name in upper for name in _EMOTIV_EDF):
        return
    others = [name for name in raw.ch_names if not is_known(name.removeprefix("EEG."))]
    raw.set_channel_types(dict.fromkeys(others, "misc"), on_unit_change="ignore")
    for name in _EMOTIV_MARKERS:
        if name in upper:
            values = raw[upper[name]][0][0]
            largest = np.abs(values).max()
            if not largest:
                continue
            scale = 1e6 if largest < 1e-2 else 1.0  # numbers without unit, read as microvolts
            values = np.round(values * scale)
            at = onsets(values)
            texts = [f"marker {values[i]:g}" for i in at]
            raw.annotations.append(at / raw.info["sfreq"], 0.0, texts) if len(at) else None
