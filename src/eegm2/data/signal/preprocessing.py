"""From a recording in volts to the array that is stored, as declared by `PreprocessingConfig`.

Order: channels (pick, differences, reference, interpolation: one matrix) → band-pass → notch → resampling,
for long recordings a few channels at a time, so that beside the recording (as float32) and the result little
else is held. Arrays lie time-major in memory, as the store keeps them and as filters run through them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eegm2.data.channels import Montage, eeg_channels, wanted_channels
from eegm2.data.config import PreprocessingConfig
from eegm2.data.files.readers import annotation_labels, recalled
from eegm2.data.joins import IN_PARTS, JOIN, at_the_step, canonical_marks, cuts, is_skip, parts, skipped
from eegm2.data.labels import LabelSpan
from eegm2.data.signal.compiled import kernels
from eegm2.data.signal.filters import Filters, filters
from eegm2.data.signal.microvolts import read_microvolts
from eegm2.data.signal.mixing import mixing_matrix
from eegm2.data.signal.quality import (
    Ends,
    array_quality,
    clipped_share,
    extremes,
    flat_channels,
    line_noise,
    typical_amplitudes,
)
from eegm2.errors import DataError

if TYPE_CHECKING:
    import mne

SCALE_TIMES_TYPICAL = 500.0
"""A channel this many times larger than the others' median is no matter of electrodes any more."""
AMPLITUDE_LIMITS_UV = (0.2, 2000.0)
"""Typical amplitudes of EEG after the high-pass lie well inside; those wrong by a thousand lie outside."""
_LARGE_BYTES = 1 << 28
_MIXED_SAMPLES = 1 << 14


@dataclass(frozen=True)
class Preprocessed:
    """A prepared recording: its array, its channels, and how good it is.

    `array` is (n_chans, n_times) of float32 in µV, a view of time-major memory, as the store writes it.
    """

    array: np.ndarray
    ch_names: tuple[str, ...]
    quality: dict[str, Any]
    marks: tuple[LabelSpan, ...] = ()
    sfreq_hz: float = 0.0

    @property
    def parts(self) -> list[slice]:
        """The continuous parts of the array, in samples; one where nothing is marked."""
        return parts(self.array.shape[1], cuts(self.marks, self.sfreq_hz, self.array.shape[1]))


def preprocess(
    raw: mne.io.BaseRaw, config: PreprocessingConfig, *, where: str, marks: Iterable[LabelSpan] = ()
) -> Preprocessed:
    """Carry out a declared preprocessing, on each continuous part of the recording alone.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        In volts; not loaded, or loaded.
    config : PreprocessingConfig
        What to do.
    where : str
        The file, for messages.
    marks : iterable of LabelSpan
        Joins and skips (`eegm2.data.joins`) that are known beside the recording's own annotations.

    Raises
    ------
    DataError
        If channels are missing, doubled or flat, samples are not numbers, the recording is too short, or the
        amplitude cannot be that of EEG; one line with the file, what was found and the remedy.
    """
    montage = wanted_channels(config) or Montage("", default_channels(raw, where))
    picked = _eeg_typed(raw, montage)
    filled = _bad_to_fill(raw, picked, config, where)
    matrix, interpolated = _matrix(raw, picked, montage, config, where, filled)
    used = np.flatnonzero(np.abs(matrix).sum(0))
    names = [picked[i] for i in used]
    sfreq_hz = float(raw.info["sfreq"])
    chain = filters(config, sfreq_hz)
    if raw.n_times < 2 or chain.n_out(raw.n_times) < 8:
        raise DataError(
            f"{where}: {raw.n_times} samples at {sfreq_hz:g} Hz are too short; leave the recording out"
        )
    x, offset, ends, nan_share = read_microvolts(raw, names, config, where)
    known = canonical_marks((*annotation_labels(raw), *marks))
    places = at_the_step(x, cuts(known, sfreq_hz, raw.n_times), sfreq_hz)
    missing = skipped(known, sfreq_hz, raw.n_times)
    there, ends = _recorded(x, missing, ends, where)
    flat = flat_channels(there, names, ends)
    if flat and config.flat == "refuse":
        raise DataError(
            f"{where}: flat channels: {' '.join(flat)}; choose others, or use --flat interpolate (or keep)"
        )
    if flat and config.flat == "interpolate":
        matrix, interpolated = _matrix(raw, picked, montage, config, where, [*filled, *flat])
    quality: dict[str, Any] = {
        "duration_s": round(float(raw.n_times / sfreq_hz), 3),
        "n_chans": len(montage.channels),
        "source_sfreq_hz": sfreq_hz,
        "flat_channels": flat,
        "bad_channels": [name for name in raw.info["bads"] if name in picked],
        "nan_share": nan_share,
        "clipped_share": round(clipped_share(there, ends), 6),
        "interpolated_channels": list(interpolated),
        "dropped_channels": [name for name in raw.ch_names if name not in names],
    }
    ratio, mains = line_noise(there, sfreq_hz)
    quality |= {"line_noise_ratio": None if ratio is None else round(ratio, 2), "line_hz": mains}
    array = _filter_and_resample(x, offset, matrix[:, used], sfreq_hz, config, places)
    made = _marks(known, places, chain, sfreq_hz, config.sfreq_hz)
    ends = extremes(array)
    if not ends[2]:
        raise DataError(f"{where}: values overflow while filtering; check the file's unit (--scale)")
    kept, ends = _recorded(array, skipped(made, config.sfreq_hz, array.shape[1]), ends, where)
    quality |= array_quality(kept, montage.channels, ends)
    quality["notes"] = "; ".join(filter(None, [chain.note, _about_parts(places, missing, sfreq_hz)]))
    if config.amplitude == "microvolts":
        _refuse_amplitude(quality["typical_uv"], where)
        _refuse_scale(kept, montage.channels, where)
    elif found := _far_in_scale(kept, montage.channels):
        quality["notes"] = "; ".join(filter(None, [quality["notes"], found]))
    return Preprocessed(array, montage.channels, quality, made, config.sfreq_hz)


def _recorded(x: np.ndarray, missing: np.ndarray, ends: Ends, where: str) -> tuple[np.ndarray, Ends]:
    """Return the samples that were recorded, and their extremes."""
    if not missing.any():
        return x, ends
    there = np.ascontiguousarray(x.T[~missing]).T
    if there.shape[1] < 2:
        raise DataError(f"{where}: nothing of it was recorded, it is marked as skipped; leave it out")
    return there, extremes(there)


def _marks(
    known: Iterable[LabelSpan], places: Sequence[int], chain: Filters, sfreq_hz: float, rate_hz: float
) -> tuple[LabelSpan, ...]:
    """Return joins and skips in the time of the prepared array: a join is where its next part begins."""
    joins = [LabelSpan(round(chain.n_out(place) / rate_hz, 6), 0.0, JOIN) for place in places]
    return tuple(dict.fromkeys([*joins, *(span for span in known if is_skip(span.label))]))


def _about_parts(places: Sequence[int], missing: np.ndarray, sfreq_hz: float) -> str:
    """Return a note on a recording that is not continuous."""
    if not places and not missing.any():
        return ""
    first = f"the first ends at {places[0] / sfreq_hz:.3f} s" if places else ""
    gone = f"{missing.sum() / sfreq_hz:.3f} s not recorded" if missing.any() else ""
    return ", ".join(filter(None, [f"{len(places) + 1} parts, {IN_PARTS}", first, gone]))


def _bad_to_fill(
    raw: mne.io.BaseRaw, picked: list[str], config: PreprocessingConfig, where: str
) -> list[str]:
    """Return the channels marked as bad that are to be interpolated; refuse them where asked."""
    bads = [name for name in raw.info["bads"] if name in picked]
    if bads and config.bads == "refuse":
        raise DataError(
            f"{where}: channels marked as bad: {' '.join(bads)}; "
            "leave the recording out, or use --bads interpolate (or report)"
        )
    return bads if config.bads == "interpolate" else []


def preprocess_alike(
    raw: mne.io.BaseRaw, config: PreprocessingConfig, *, where: str, marks: Iterable[LabelSpan] = ()
) -> Preprocessed:
    """Prepare a recording as a checkpoint's data were; no advice names options, as there are none to give.

    Raises
    ------
    DataError
        As `preprocess`.
    """
    try:
        return preprocess(raw, config, where=where, marks=marks)
    except DataError as error:
        finding, _, advice = str(error).rpartition("; ")
        if " --" not in f" {advice}":
            raise
        raise DataError(
            f"{finding}; it is prepared as the checkpoint's data were: mend the recording or take another"
        ) from error


def default_channels(raw: mne.io.BaseRaw, where: str) -> tuple[str, ...]:
    """Return the canonical names of a recording's EEG channels, less those whose header gives no range.

    Raises
    ------
    DataError
        If there are none.
    """
    empty = recalled(raw, "without_range")
    names = eeg_channels(name for name in _eeg_typed(raw, None) if name not in empty)
    if not names:
        kinds = " ".join(f"{name} ({kind})" for name, kind in zip(raw.ch_names, raw.get_channel_types()))
        raise DataError(f"{where}: has no EEG channels (found {kinds or 'none'}); name them with --channels")
    return names


def _eeg_typed(raw: mne.io.BaseRaw, montage: Montage | None) -> list[str]:
    """Return the names of the EEG channels; with a montage also others that it may name."""
    types = raw.get_channel_types()
    eeg = [name for name, kind in zip(raw.ch_names, types) if kind == "eeg"]
    if montage is None:
        return eeg
    return eeg + [name for name, kind in zip(raw.ch_names, types) if kind in ("misc", "bio", "seeg", "ecog")]


def _matrix(
    raw: mne.io.BaseRaw,
    picked: list[str],
    montage: Montage,
    config: PreprocessingConfig,
    where: str,
    filled: Iterable[str],
) -> tuple[np.ndarray, tuple[str, ...]]:
    return mixing_matrix(
        picked,
        montage,
        where=where,
        interpolate=config.missing == "interpolate",
        unusable=filled,
        without_range=recalled(raw, "without_range"),
        repeated=recalled(raw, "repeated"),
        average_reference=config.reference == "average",
    )


def _filter_and_resample(
    x: np.ndarray,
    offset: np.ndarray,
    matrix: np.ndarray,
    sfreq_hz: float,
    config: PreprocessingConfig,
    places: Sequence[int] = (),
) -> np.ndarray:
    """Return the wanted channels, filtered and at the wanted rate, time-major in memory.

    An offset to be kept was taken off for the sake of digits and of the ends only, and comes back here,
    unless the high-pass takes it anyway. Where `places` say that the recording is not continuous, each part
    is prepared by itself, less its own offset. Channels that are neither mixed nor resampled stay in the
    memory of `x`, each group when it is through, and so do all of a large recording that is not resampled,
    whose mixtures are rounded to float32 before they are filtered; else `x` is as it was.
    """
    chain = filters(config, sfreq_hz)
    keep = config.offset == "keep" and not config.l_freq_hz
    kept = matrix @ offset if keep else np.zeros(len(matrix))
    same_rate = chain.n_out(x.shape[1]) == x.shape[1]
    if same_rate and len(matrix) <= len(x) and x.nbytes > _LARGE_BYTES:
        x, matrix = _mixed_in_place(matrix, x), np.eye(len(matrix))
    here = same_rate and np.array_equal(matrix, np.eye(len(x)))
    out = x.T if here else np.empty((chain.n_out(x.shape[1]), len(matrix)), np.float32)
    for part in parts(x.shape[1], places):
        n_times = part.stop - part.start
        group = chain.channels_at_once(n_times, len(matrix))
        for first in range(0, len(matrix), group):
            rows = slice(first, min(first + group, len(matrix)))
            buffer = chain.buffer(n_times, rows.stop - first)
            series = chain.inside(buffer)
            _mix(matrix[rows], x[:, part], series)
            if not places:
                chain.run(buffer, kept[rows], out[:, rows])
                continue
            own = np.median(series[: max(1, round(sfreq_hz))], axis=0)
            series -= own
            made = np.empty((chain.n_out(part.stop) - chain.n_out(part.start), rows.stop - first), np.float32)
            chain.run_part(buffer, part.start, kept[rows] + own if keep else kept[rows], made)
            out[chain.n_out(part.start) : chain.n_out(part.stop), rows] = made
    return out.T


def _mixed_in_place(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return `weights @ x` in the memory of `x`, as its first rows."""
    for start in range(0, x.shape[1], _MIXED_SAMPLES):
        piece = x[:, start : start + _MIXED_SAMPLES]
        piece[: len(weights)] = (piece.T.astype(np.float64) @ weights.T).T
    return x[: len(weights)]


def _mix(weights: np.ndarray, x: np.ndarray, series: np.ndarray) -> None:
    """Write `weights @ x` time-major into `series` (n_times, n_wanted); `x` is not copied as a whole."""
    columns = weights.argmax(1)
    compiled = kernels("filter_kernels")
    if compiled is not None and np.array_equal(weights, np.eye(weights.shape[1])[columns]):
        compiled.pick(x.T, columns, series)
        return
    columns = np.flatnonzero(np.abs(weights).sum(0))
    for start in range(0, x.shape[1], _MIXED_SAMPLES):
        piece = x.T[start : start + _MIXED_SAMPLES, columns].astype(np.float64)
        series[start : start + _MIXED_SAMPLES] = piece @ weights[:, columns].T


def _refuse_scale(x: np.ndarray, ch_names: Sequence[str], where: str) -> None:
    """Refuse channels a thousand times larger than the others: their unit or their range is wrong."""
    if found := _far_in_scale(x, ch_names):
        raise DataError(
            f"{where}: {found}; correct their unit in the file, or choose channels without them (--channels)"
        )


def _far_in_scale(x: np.ndarray, ch_names: Sequence[str]) -> str:
    """Return a phrase that names channels a thousand times larger than the others, or nothing."""
    typical = typical_amplitudes(x)
    limit = SCALE_TIMES_TYPICAL * float(np.median(typical))
    far = [f"{name} ({value:.3g} µV)" for name, value in zip(ch_names, typical) if value > limit > 0]
    usual = f"channels whose scale is far from the others' (typically {np.median(typical):.3g} µV)"
    return f"{usual}: {', '.join(far)}" if far else ""


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
