"""For recipes whose data are arrays: recordings from arrays in microvolts, and windows laid end to end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eegm2.data.labels import LabelSpan
from eegm2.errors import DataError

if TYPE_CHECKING:
    import mne
    import numpy as np

EPOC14 = ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")
"""The channels of the Emotiv EPOC in the order of its files (PAPER section 5)."""

TCP16 = (
    *("FP1-F7", "F7-T3", "T3-T5", "T5-O1", "FP2-F8", "F8-T4", "T4-T6", "T6-O2"),
    *("FP1-F3", "F3-C3", "C3-P3", "P3-O1", "FP2-F4", "F4-C4", "C4-P4", "P4-O2"),
)
"""The sixteen bipolar pairs of TUAB as the paper orders them."""


def raw_from_array(
    values_uv: np.ndarray, ch_names: Sequence[str], sfreq_hz: float, where: object
) -> mne.io.BaseRaw:
    """Return an MNE recording of an array in microvolts.

    Parameters
    ----------
    values_uv : array, shape (n_chans, n_times)
        Values in microvolts; MNE gets volts.
    ch_names : sequence of str
        One name per channel.
    sfreq_hz : float
        Sampling rate.
    where : object
        The file, for error messages.

    Raises
    ------
    DataError
        If the array is not two-dimensional, empty, or has another number of channels than names.
    """
    import mne
    import numpy as np

    from eegm2.data.files.rates import SFREQ_LIMITS_HZ

    if values_uv.ndim != 2 or values_uv.shape[1] == 0:
        raise DataError(
            f"{where}: got an array of shape {values_uv.shape}, expected (channels, times), not empty"
        )
    if values_uv.shape[0] != len(ch_names):
        raise DataError(
            f"{where}: {values_uv.shape[0]} channels, expected {len(ch_names)} ({' '.join(ch_names)})"
        )
    low, high = SFREQ_LIMITS_HZ
    if not low <= sfreq_hz <= high:  # not for nan either
        raise DataError(
            f"{where}: sampling rate of {sfreq_hz:g} Hz, expected {low:g} to {high:g}; correct it"
        )
    if values_uv.dtype.kind not in "fiu" or not all(isinstance(name, str) and name for name in ch_names):
        raise DataError(
            f"{where}: values are {values_uv.dtype} and channels {list(ch_names)!r:.80}, "
            "expected numbers and names"
        )
    volts = np.multiply(values_uv, 1e-6, dtype=np.float64)
    info = mne.create_info(list(ch_names), float(sfreq_hz), "eeg", verbose="error")
    return mne.io.RawArray(volts, info, verbose="error")


def joined_windows(
    windows_uv: Any, ch_names: Sequence[str], sfreq_hz: float, where: object
) -> mne.io.BaseRaw:
    """Return windows laid end to end as one recording, with a boundary mark at every join.

    The marks are MNE's own (``BAD boundary`` and ``EDGE boundary``), which its filters and ours respect:
    neither a filter nor a window may cross them.

    Parameters
    ----------
    windows_uv : array, shape (n_windows, n_chans, n_times)
        In microvolts.
    ch_names, sfreq_hz, where
        As in `raw_from_array`.
    """
    import mne
    import numpy as np

    values = np.asarray(windows_uv)
    if values.ndim != 3 or 0 in values.shape:
        raise DataError(
            f"{where}: got an array of shape {values.shape}, expected (windows, channels, times), not empty"
        )
    n_windows, n_chans, n_times = values.shape
    raw = raw_from_array(values.transpose(1, 0, 2).reshape(n_chans, -1), ch_names, sfreq_hz, where)
    joins = np.arange(1, n_windows) * n_times / sfreq_hz
    marks = [text for _ in joins for text in ("BAD boundary", "EDGE boundary")]
    raw.set_annotations(mne.Annotations(np.repeat(joins, 2), 0.0, marks), verbose="error")
    return raw


def window_spans(labels: Sequence[str], n_times: int, sfreq_hz: float) -> tuple[LabelSpan, ...]:
    """Return one span per window of `n_times` samples laid end to end, each labelled."""
    length_s = n_times / sfreq_hz
    return tuple(LabelSpan(index * length_s, length_s, str(label)) for index, label in enumerate(labels))


def boundaries(n_windows: int, n_times: int, sfreq_hz: float) -> tuple[LabelSpan, ...]:
    """Return an instant span ``BAD boundary`` at every join of windows laid end to end."""
    return tuple(LabelSpan(index * n_times / sfreq_hz, 0.0, "BAD boundary") for index in range(1, n_windows))


def require_folder(root: object, what: str) -> None:
    """Raise a DataError unless `root` is a folder; `what` says what it should hold."""
    from pathlib import Path

    if not Path(str(root)).is_dir():
        raise DataError(f"{root}: not a folder; expected {what}")
