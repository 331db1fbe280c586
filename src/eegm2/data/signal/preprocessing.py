"""From a recording in volts to the array that is stored, as declared by `PreprocessingConfig`.

Order: channels (pick, differences, reference, interpolation: one matrix) → band-pass → notch → resampling,
for long recordings a few channels at a time, so that beside the recording (as float32) and the result little
else is held. Arrays lie time-major in memory, as the store keeps them and as filters run through them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eegm2.data.channels import Montage, eeg_channels, wanted_channels
from eegm2.data.config import PreprocessingConfig
from eegm2.data.signal.compiled import kernels
from eegm2.data.signal.filters import filters
from eegm2.data.signal.microvolts import read_microvolts
from eegm2.data.signal.mixing import mixing_matrix
from eegm2.data.signal.quality import (
    array_quality,
    clipped_share,
    extremes,
    flat_channels,
    line_noise,
    outlying_note,
)
from eegm2.errors import DataError

if TYPE_CHECKING:
    import mne

AMPLITUDE_LIMITS_UV = (0.2, 2000.0)
"""Typical amplitudes of EEG after the high-pass lie well inside; those wrong by a thousand lie outside."""


@dataclass(frozen=True)
class Preprocessed:
    """A prepared recording: its array, its channels, and how good it is.

    `array` is (n_chans, n_times) of float32 in µV, a view of time-major memory, as the store writes it.
    """

    array: np.ndarray
    ch_names: tuple[str, ...]
    quality: dict[str, Any]


def preprocess(raw: mne.io.BaseRaw, config: PreprocessingConfig, *, where: str) -> Preprocessed:
    """Carry out a declared preprocessing.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        In volts; not loaded, or loaded.
    config : PreprocessingConfig
        What to do.
    where : str
        The file, for messages.

    Raises
    ------
    DataError
        If channels are missing, doubled or flat, samples are not numbers, the recording is too short, or the
        amplitude cannot be that of EEG; one line with the file, what was found and the remedy.
    """
    montage = wanted_channels(config) or Montage("", default_channels(raw, where))
    picked = _eeg_typed(raw, montage)
    matrix, interpolated = _matrix(picked, montage, config, where)
    used = np.flatnonzero(np.abs(matrix).sum(0))
    names = [picked[i] for i in used]
    sfreq_hz = float(raw.info["sfreq"])
    if raw.n_times < 2 or filters(config, sfreq_hz).n_out(raw.n_times) < 8:
        raise DataError(
            f"{where}: {raw.n_times} samples at {sfreq_hz:g} Hz are too short; leave the recording out"
        )
    x, offset, ends, nan_share = read_microvolts(raw, names, config, where)
    flat = flat_channels(x, names, ends)
    if flat and config.flat == "refuse":
        raise DataError(
            f"{where}: flat channels: {' '.join(flat)}; choose others, or use --flat interpolate (or keep)"
        )
    if flat and config.flat == "interpolate":
        matrix, interpolated = _matrix(picked, montage, config, where, unusable=flat)
    quality: dict[str, Any] = {
        "duration_s": round(float(raw.n_times / sfreq_hz), 3),
        "n_chans": len(montage.channels),
        "source_sfreq_hz": sfreq_hz,
        "flat_channels": flat,
        "nan_share": nan_share,
        "clipped_share": round(clipped_share(x, ends), 6),
        "interpolated_channels": list(interpolated),
        "dropped_channels": [name for name in raw.ch_names if name not in names],
    }
    ratio, mains = line_noise(x, sfreq_hz)
    quality |= {"line_noise_ratio": None if ratio is None else round(ratio, 2), "line_hz": mains}
    array = _filter_and_resample(x, offset, matrix[:, used], sfreq_hz, config)
    ends = extremes(array)
    if not ends[2]:
        raise DataError(f"{where}: values overflow while filtering; check the file's unit (--scale)")
    notes = (filters(config, sfreq_hz).note, outlying_note(array, montage.channels))
    quality |= array_quality(array, montage.channels, ends) | {"notes": "; ".join(filter(None, notes))}
    if config.amplitude == "microvolts":
        _refuse_amplitude(quality["typical_uv"], where)
    return Preprocessed(array, montage.channels, quality)


def default_channels(raw: mne.io.BaseRaw, where: str) -> tuple[str, ...]:
    """Return the canonical names of a recording's EEG channels.

    Raises
    ------
    DataError
        If there are none.
    """
    names = eeg_channels(_eeg_typed(raw, None))
    if not names:
        kinds = " ".join(f"{name} ({kind})" for name, kind in zip(raw.ch_names, raw.get_channel_types()))
        raise DataError(f"{where}: has no EEG channels (found {kinds or 'none'}); name them with --channels")
    return tuple(dict.fromkeys(names))


def _eeg_typed(raw: mne.io.BaseRaw, montage: Montage | None) -> list[str]:
    """Return the names of the EEG channels; with a montage also others that it may name."""
    types = raw.get_channel_types()
    eeg = [name for name, kind in zip(raw.ch_names, types) if kind == "eeg"]
    if montage is None:
        return eeg
    return eeg + [name for name, kind in zip(raw.ch_names, types) if kind in ("misc", "bio", "seeg", "ecog")]


def _matrix(
    picked: list[str],
    montage: Montage,
    config: PreprocessingConfig,
    where: str,
    unusable: list[str] | None = None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    return mixing_matrix(
        picked,
        montage,
        where=where,
        interpolate=config.missing == "interpolate" or unusable is not None,
        unusable=unusable or (),
        average_reference=config.reference == "average",
    )


def _filter_and_resample(
    x: np.ndarray, offset: np.ndarray, matrix: np.ndarray, sfreq_hz: float, config: PreprocessingConfig
) -> np.ndarray:
    """Return the wanted channels, filtered and at the wanted rate, time-major in memory.

    An offset to be kept was taken off for the sake of digits and of the ends only, and comes back here,
    unless the high-pass takes it anyway.
    """
    chain = filters(config, sfreq_hz)
    keep = config.offset == "keep" and not config.l_freq_hz
    kept = matrix @ offset if keep else np.zeros(len(matrix))
    out = np.empty((chain.n_out(x.shape[1]), len(matrix)), np.float32)
    group = chain.channels_at_once(x.shape[1], len(matrix))
    for first in range(0, len(matrix), group):
        rows = slice(first, min(first + group, len(matrix)))
        buffer = chain.buffer(x.shape[1], rows.stop - first)
        _mix(matrix[rows], x, chain.inside(buffer))
        chain.run(buffer, kept[rows], out[:, rows])
    return out.T


def _mix(weights: np.ndarray, x: np.ndarray, series: np.ndarray) -> None:
    """Write `weights @ x` time-major into `series` (n_times, n_wanted); `x` is not copied as a whole."""
    columns = weights.argmax(1)
    compiled = kernels("filter_kernels")
    if compiled is not None and np.array_equal(weights, np.eye(weights.shape[1])[columns]):
        compiled.pick(x.T, columns, series)
        return
    columns = np.flatnonzero(np.abs(weights).sum(0))
    for start in range(0, x.shape[1], 1 << 14):
        piece = x.T[start : start + (1 << 14), columns].astype(np.float64)
        series[start : start + (1 << 14)] = piece @ weights[:, columns].T


def _refuse_amplitude(typical_uv: float, where: str) -> None:
    low, high = AMPLITUDE_LIMITS_UV
    if low <= typical_uv <= high:
        return
    if typical_uv == 0:
        raise DataError(f"{where}: all samples are zero after filtering; record or export it again")
    power = 3 * round(math.log10(typical_uv / 20) / 3)
    guess = f"about 10^{abs(power)} too {'large' if power > 0 else 'small'}"
    if power == 6:
        guess += ", as if microvolts had been stored as volts"
    elif power == -6:
        guess += ", as if volts had been stored as microvolts"
    remedy = f"use --scale 1e{-power} if the unit is wrong, or --amplitude any if the data are not calibrated"
    raise DataError(
        f"{where}: typical amplitude {typical_uv:.3g} µV after filtering, "
        f"EEG has {low:g} to {high:g} ({guess}); {remedy}"
    )
