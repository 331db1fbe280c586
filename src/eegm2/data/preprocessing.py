"""From a recording in volts to the array that is stored, as declared by `PreprocessingConfig`.

Order: channels (pick, differences, reference, interpolation: one matrix) → band-pass → notch → resampling,
a few channels at a time, so that beside the recording (as float32) and the result little else is held.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import signal

from eegm2.data.channels import Montage, eeg_channels, mixing_matrix, wanted_channels
from eegm2.data.config import PreprocessingConfig
from eegm2.data.quality import array_quality, clipped_share, flat_channels, line_noise
from eegm2.data.readers import reading
from eegm2.errors import DataError

if TYPE_CHECKING:
    import mne

LOW_STOP, HIGH_STOP = 0.2 / 0.5, 48.0 / 40.0
"""Stop edges relative to the pass edges, from the 0.2-0.5 and 40-48 Hz of PAPER §5."""
AMPLITUDE_LIMITS_UV = (0.2, 2000.0)
"""Typical amplitudes of EEG after the high-pass lie well inside; those wrong by a thousand lie outside."""
_BLOCK_SAMPLES = 1 << 18
_GROUP_SAMPLES = 1 << 17
_PADDING_S = 5.0
IMPOSSIBLE_TIMES_TYPICAL = 1e6


@dataclass(frozen=True)
class Preprocessed:
    """A prepared recording: `array` (n_chans, n_times) float32 in µV, its channels, and how good it is."""

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
    x, nan_share = _read_microvolts(raw, names, config, where)
    flat = flat_channels(x, names)
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
        "clipped_share": round(clipped_share(x), 6),
        "interpolated_channels": list(interpolated),
        "dropped_channels": [name for name in raw.ch_names if name not in names],
    }
    ratio, mains = line_noise(x, sfreq_hz)
    quality |= {"line_noise_ratio": None if ratio is None else round(ratio, 2), "line_hz": mains}
    array, notes = _filter_and_resample(x, matrix[:, used], sfreq_hz, config, where)
    if not np.isfinite(array).all():
        raise DataError(f"{where}: values overflow while filtering; check the file's unit (--scale)")
    quality |= array_quality(array, montage.channels) | {"notes": notes}
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


def band_filter(config: PreprocessingConfig, sfreq_hz: float) -> tuple[np.ndarray | None, str]:
    """Return the Chebyshev type II filter as second-order sections, and a note where it had to differ.

    The order is the smallest that loses at most `gpass_db` in the pass band and attenuates by `gstop_db` in
    the stop bands (`scipy.signal.cheb2ord`). A high edge whose stop band would lie above half the sampling
    rate is left out: such a recording holds nothing above it.

    References
    ----------
    PAPER §5.
    """
    nyquist_hz = sfreq_hz / 2
    low, high, note = config.l_freq_hz, config.h_freq_hz, ""
    if high and high * HIGH_STOP >= nyquist_hz:
        high, note = 0.0, f"no low-pass: recorded at {sfreq_hz:g} Hz"
    if low and high:
        passes, stops, kind = [low, high], [low * LOW_STOP, high * HIGH_STOP], "bandpass"
    elif low:
        passes, stops, kind = [low], [low * LOW_STOP], "highpass"
    elif high:
        passes, stops, kind = [high], [high * HIGH_STOP], "lowpass"
    else:
        return None, note
    order, edges = signal.cheb2ord(
        passes if len(passes) > 1 else passes[0],
        stops if len(stops) > 1 else stops[0],
        config.gpass_db,
        config.gstop_db,
        fs=sfreq_hz,
    )
    return signal.cheby2(order, config.gstop_db, edges, kind, output="sos", fs=sfreq_hz), note


def notch_filters(config: PreprocessingConfig, sfreq_hz: float) -> list[np.ndarray]:
    """Return a notch (quality 30) for the mains frequency and each harmonic below 95 % of half the rate."""
    if not config.notch_hz:
        return []
    count = int(0.95 * sfreq_hz / 2 / config.notch_hz)
    harmonics = [config.notch_hz * number for number in range(1, count + 1)]
    return [signal.tf2sos(*signal.iirnotch(mains, 30.0, fs=sfreq_hz)) for mains in harmonics]


def resampling_ratio(from_hz: float, to_hz: float) -> Fraction:
    """Return to/from as a fraction of small numbers; its rate is right to 1e-5."""
    return Fraction(to_hz / from_hz).limit_denominator(50_000)


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


def _read_microvolts(
    raw: mne.io.BaseRaw, names: list[str], config: PreprocessingConfig, where: str
) -> tuple[np.ndarray, float]:
    """Return the samples of `names` as float32 in µV, read a stretch at a time; the offset as asked."""
    rows = [raw.ch_names.index(name) for name in names]
    x = np.empty((len(names), raw.n_times), np.float32)
    step = max(1, _BLOCK_SAMPLES // len(raw.ch_names))
    offset: np.ndarray | None = np.zeros((len(names), 1)) if config.offset == "keep" else None
    for start in range(0, raw.n_times, step):
        with reading(where):
            block = raw[rows, start : start + step][0] * (1e6 * config.scale)
        if offset is None:
            offset = np.array(
                [[np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else 0.0] for row in block]
            )
        x[:, start : start + step] = block - offset
    bad = ~np.isfinite(x).all(0) if not np.isfinite(x.sum()) else np.zeros(0, bool)
    if not bad.any():
        _refuse_impossible(x, names, float(raw.info["sfreq"]), where)
        return x, 0.0
    affected = [name for name, row in zip(names, x) if not np.isfinite(row).all()]
    share = float(bad.mean())
    if config.nan == "refuse" or share > 0.5:
        first_s = int(bad.argmax()) / float(raw.info["sfreq"])
        raise DataError(
            f"{where}: {int(bad.sum())} samples are not numbers, the first at {first_s:.3f} s, "
            f"in {' '.join(affected)}; cut them out, or use --nan interpolate"
        )
    times = np.arange(x.shape[1])
    for row in x:
        good = np.isfinite(row)
        row[~good] = np.interp(times[~good], times[good], row[good]) if good.any() else 0.0
    _refuse_impossible(x, names, float(raw.info["sfreq"]), where)
    return x, round(share, 6)


def _refuse_impossible(x: np.ndarray, names: list[str], sfreq_hz: float, where: str) -> None:
    """Refuse samples a million times the usual: damaged numbers, which filters would smear over seconds."""
    typical = float(np.median(np.abs(x[:, :: max(1, x.shape[1] // 100_000)])))
    limit = min(1e15, IMPOSSIBLE_TIMES_TYPICAL * typical if typical > 0 else np.inf)
    for name, row in zip(names, x):
        worst = int(np.argmax(np.abs(row)))
        if abs(row[worst]) > limit:
            raise DataError(
                f"{where}: {name} has {row[worst]:.3g} µV at {worst / sfreq_hz:.3f} s, "
                f"{typical:.3g} is usual there; the file is damaged: copy or export it again"
            )


def _filter_and_resample(
    x: np.ndarray, matrix: np.ndarray, sfreq_hz: float, config: PreprocessingConfig, where: str
) -> tuple[np.ndarray, str]:
    """Return the wanted channels, filtered and at the wanted rate, and a note."""
    band, note = band_filter(config, sfreq_hz)
    sections = ([band] if band is not None else []) + notch_filters(config, sfreq_hz)
    ratio = resampling_ratio(sfreq_hz, config.sfreq_hz)
    n_times = math.ceil(x.shape[1] * ratio)
    if n_times < 8 or x.shape[1] < 2:
        raise DataError(
            f"{where}: {x.shape[1]} samples at {sfreq_hz:g} Hz are too short; leave the recording out"
        )
    padding = min(x.shape[1] - 1, round(_PADDING_S * sfreq_hz))
    rate = max(ratio.numerator, ratio.denominator)
    taps = signal.firwin(20 * rate + 1, 1 / rate, window=("kaiser", 5.0)) if ratio != 1 else None
    out = np.empty((len(matrix), n_times), np.float32)
    group = max(1, _GROUP_SAMPLES // x.shape[1])
    for first in range(0, len(matrix), group):
        series = _mixed(matrix[first : first + group], x)
        for sos in sections:
            series = signal.sosfiltfilt(sos, series, padlen=padding)
        if taps is not None:
            series = signal.resample_poly(series, ratio.numerator, ratio.denominator, axis=1, window=taps)
        out[first : first + group] = series[:, :n_times]
    return out, note


def _mixed(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return `weights @ x` in float64, a stretch at a time so that no float64 copy of `x` is made."""
    columns = np.flatnonzero(np.abs(weights).sum(0))
    series = np.empty((len(weights), x.shape[1]))
    for start in range(0, x.shape[1], 1 << 14):
        piece = x[columns, start : start + (1 << 14)].astype(np.float64)
        series[:, start : start + (1 << 14)] = weights[:, columns] @ piece
    return series


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
