"""Samples of a recording in microvolts, checked: numbers, and such as EEG can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eegm2.data.config import PreprocessingConfig
from eegm2.data.files.readers import reading
from eegm2.data.signal.compiled import kernels
from eegm2.data.signal.order_statistics import medians
from eegm2.data.signal.quality import Ends, extremes
from eegm2.errors import DataError

if TYPE_CHECKING:
    import mne

IMPOSSIBLE_TIMES_TYPICAL = 1e6
_BLOCK_SAMPLES = 1 << 19
_NO_UNIT = -1
"""FIFF_UNIT_NONE: the file states no unit, or one that is none of voltage."""
_OFFSET_SAMPLES = 1 << 18


def read_microvolts(
    raw: mne.io.BaseRaw, names: list[str], config: PreprocessingConfig, where: str
) -> tuple[np.ndarray, np.ndarray, Ends, float]:
    """Return samples, offsets, extremes and the share of samples that were not numbers.

    Read a stretch at a time and kept as float32, time-major, without their offset, which takes digits.

    Returns
    -------
    x : ndarray of float32, shape (n_chans, n_times)
        In µV, less the offset.
    offset : ndarray of float64, shape (n_chans,)
        Every channel's median at its beginning, in µV.
    ends : tuple
        See `eegm2.data.signal.quality.extremes`.
    nan_share : float
    """
    rows = [raw.ch_names.index(name) for name in names]
    _refuse_unknown_units(raw, rows, config, where)
    x = np.empty((raw.n_times, len(names)), np.float32).T
    step = max(1, _BLOCK_SAMPLES // len(raw.ch_names))
    offset = np.zeros(len(names))
    for start in range(0, raw.n_times, step):
        with reading(where):
            block = raw[rows, start : start + step][0]
        block *= 1e6 * config.scale
        if start == 0:
            offset[:] = _offsets(block, len(raw.ch_names))
        _store_less(block, offset, x[:, start : start + step])
    ends = extremes(x)
    bad = np.zeros(0, bool) if ends[2] else ~np.isfinite(x).all(0)
    if not bad.any():
        _refuse_impossible(x, names, ends, float(raw.info["sfreq"]), where)
        return x, offset, ends, 0.0
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
    ends = extremes(x)
    _refuse_impossible(x, names, ends, float(raw.info["sfreq"]), where)
    return x, offset, ends, round(share, 6)


def _refuse_unknown_units(
    raw: mne.io.BaseRaw, rows: list[int], config: PreprocessingConfig, where: str
) -> None:
    """Ask for the unit of EEG channels whose file states none that is known; a given scale is an answer."""
    unknown = [raw.ch_names[row] for row in rows if raw.info["chs"][row]["unit"] == _NO_UNIT]
    unknown = [name for name in unknown if raw.get_channel_types(picks=[name]) == ["eeg"]]
    if unknown and config.scale == 1:
        raise DataError(
            f"{where}: the unit of {' '.join(unknown)} is not stated, or none of V, mV, µV and nV; say how "
            "many volts one of them is with --scale (1e-6 if they are microvolts)"
        )


def _offsets(block: np.ndarray, n_chans: int) -> np.ndarray:
    """Return every channel's median over the beginning; 0 where none is a number."""
    some = block[:, : max(1, _OFFSET_SAMPLES // n_chans)].astype(np.float32)
    if np.isfinite(some).all():
        return medians(some)[:, 0].astype(np.float64)
    good = [row[np.isfinite(row)] for row in some]
    return np.array([np.median(row) if len(row) else 0.0 for row in good], np.float64)


def _store_less(block: np.ndarray, offset: np.ndarray, out: np.ndarray) -> None:
    """Write `block - offset` into `out`, a time-major float32 view (n_chans, n)."""
    compiled = kernels("filter_kernels")
    if compiled is None or not block.flags.c_contiguous:
        out[:] = block - offset[:, None]
    else:
        compiled.store_less(block, offset, out.T)


def _refuse_impossible(x: np.ndarray, names: list[str], ends: Ends, sfreq_hz: float, where: str) -> None:
    """Refuse samples a million times the usual: damaged numbers, which filters would smear over seconds."""
    typical = float(np.median(np.abs(x[:, :: max(1, x.size // 20_000)])))
    limit = min(1e15, IMPOSSIBLE_TIMES_TYPICAL * typical if typical > 0 else np.inf)
    for name, row, largest in zip(names, x, np.maximum(ends[1], -ends[0])):
        if largest > limit:
            worst = int(np.argmax(np.abs(row)))
            raise DataError(
                f"{where}: {name} has {row[worst]:.3g} µV at {worst / sfreq_hz:.3f} s, "
                f"{typical:.3g} is usual there; the file is damaged: copy or export it again"
            )
