"""Samples of a headset file on their way to an MNE recording: rate, lost samples, gaps, markers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eegm2.data.files.rates import refuse_rate
from eegm2.errors import DataError

if TYPE_CHECKING:
    import mne

#: A pause in the time stamps that is longer, and is not caught up, is a gap.
_PAUSE_S = 0.5
#: A clock that goes back further is no jitter.
_BACK_S = 0.25
#: Part by which the stated rate and that of the times may differ.
_RATE_OFF = 0.1
#: Samples that a counter says are lost are filled in up to this length; a longer gap parts the recording.
LONGEST_FILLED_S = 0.25
#: Rates of devices; a measured one that lies within 2 % is the nearest of these.
_RATES_HZ = (100, 125, 128, 160, 200, 220, 250, 256, 300, 500, 512, 600, 1000, 1024, 2000, 2048)
_BLOCK = 256
#: Times as many samples as there are, at most, where packets are missing.
_MOST_LOST = 1.5
#: A stretch that lasts so much longer or shorter than others has a pause in it.
_WITH_A_PAUSE = 0.3
JOIN, FILLED = "BAD boundary", "BAD filled"


@dataclass
class Samples:
    """What was read.

    Attributes
    ----------
    path : Path
    ch_names : list of str
    x_uv : array, shape (n_chans, n_times)
        Microvolts.
    sfreq_hz : float, optional
        As the file states it; measured from the times where it does not.
    times_s : array, shape (n_times,), optional
        Stamps on any clock.
    lost : array of int, shape (n_times,), optional
        Samples that are missing before each.
    marks : list of (float, str)
        Markers: place in samples (with parts), and text.
    """

    path: Path
    ch_names: list[str]
    x_uv: np.ndarray
    sfreq_hz: float | None = None
    times_s: np.ndarray | None = None
    lost: np.ndarray | None = None
    marks: list[tuple[float, str]] = field(default_factory=list)


def as_raw(samples: Samples) -> mne.io.BaseRaw:
    """Return a recording in volts, in the samples' own memory; gaps are joins, filled samples bad spans.

    Raises
    ------
    DataError
        If there are no samples, times are missing or run backwards, or no rate is known.
    """
    import mne

    path, x = samples.path, np.asarray(samples.x_uv, float)
    if x.shape[1] < 2 or not len(x):
        raise DataError(f"{path}: holds {x.shape[1]} samples of {len(x)} channels; record or export it again")
    twice = sorted({name for name in samples.ch_names if samples.ch_names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: has channel {twice[0]} twice; rename one of them")
    rate_hz = samples.sfreq_hz or measured_rate(samples.times_s, path)
    refuse_rate(path, rate_hz)
    _refuse_repeated(samples)
    _refuse_other_rate(samples)
    x, places, spans = _filled(x, samples.lost, rate_hz)
    spans += [(float(places[i]), 0.0, JOIN) for i in _pauses(samples.times_s, rate_hz, path)]
    index = np.arange(x.shape[1] if not len(places) else len(places))
    spans += [(float(np.interp(at, index, places)), 0.0, text) for at, text in samples.marks]
    info = mne.create_info(list(samples.ch_names), rate_hz, "eeg")
    x *= 1e-6
    raw = mne.io.RawArray(x, info, verbose="error")
    if spans:
        starts, lengths, texts = zip(*sorted(spans))
        raw.set_annotations(mne.Annotations(np.array(starts) / rate_hz, np.array(lengths) / rate_hz, texts))
    return raw


def measured_rate(times_s: np.ndarray | None, path: Path) -> float:
    """Return the sampling rate by the time stamps, and a device's if that is near.

    Raises
    ------
    DataError
        If there are no usable times.
    """
    if times_s is None:
        raise DataError(f"{path}: states neither times nor a rate; declare rate_hz in {path.stem}.toml")
    if not np.isfinite(times_s).all():
        raise DataError(f"{path}: row {int(np.isfinite(times_s).argmin()) + 1} has no time; export it again")
    measured = _rate(times_s)
    if not measured > 0:
        raise DataError(f"{path}: its times do not advance; export it again, or declare rate_hz")
    nearest = min(_RATES_HZ, key=lambda rate: abs(rate - measured))
    return float(nearest) if abs(nearest - measured) <= 0.02 * measured else float(f"{measured:.4g}")


def _rate(times_s: np.ndarray, lost: np.ndarray | None = None) -> float:
    """Return samples a second by their times; 0 where these do not advance.

    Packets give all their samples one time, arrive late, or not at all. Over stretches, those with a pause
    left out, packets even out; where most steps are alike they say the rate although some are missing.
    """
    places = np.arange(len(times_s)) + (0 if lost is None else np.cumsum(lost))
    block = min(max(_BLOCK, len(times_s) // 16), 16 * _BLOCK, len(times_s) - 1)
    each_s = (times_s[block:] - times_s[:-block]) / (places[block:] - places[:-block])
    usual = float(np.median(each_s))
    if not usual > 0:
        return 0.0
    over_stretches = float(each_s[np.abs(each_s - usual) <= _WITH_A_PAUSE * usual].mean())
    steps = np.diff(times_s)
    usual = float(np.median(steps))
    alike = steps[np.abs(steps - usual) < usual / 2]
    if len(alike) > len(steps) / 2 and over_stretches / _MOST_LOST <= alike.mean() <= over_stretches:
        return float(1 / alike.mean())
    return 1 / over_stretches


def _refuse_repeated(samples: Samples) -> None:
    """Refuse rows that come again: where the times go back, to a row with the same time and values."""
    times_s, x = samples.times_s, samples.x_uv
    if times_s is None:
        return
    order = np.argsort(times_s, kind="stable")
    ordered = times_s[order]
    for i in np.flatnonzero(np.diff(times_s) < 0) + 1:
        first, stop = np.searchsorted(ordered, times_s[i]), np.searchsorted(ordered, times_s[i], "right")
        for earlier in order[first:stop]:
            if earlier < i and np.array_equal(x[:, earlier], x[:, i]):
                raise DataError(
                    f"{samples.path}: sample {i + 1} is sample {earlier + 1} again, of the same time; "
                    "take out what is there twice"
                )


def _refuse_other_rate(samples: Samples) -> None:
    """Refuse a stated rate that the times contradict over most of a longer recording."""
    stated_hz, times_s = samples.sfreq_hz, samples.times_s
    if not stated_hz or times_s is None or len(times_s) <= 2 * _BLOCK or not np.isfinite(times_s).all():
        return
    measured = _rate(times_s, samples.lost)
    if measured > 0 and abs(measured / stated_hz - 1) > _RATE_OFF:
        raise DataError(
            f"{samples.path}: states {stated_hz:g} samples a second, its times say {measured:.4g}; "
            "correct the one that is wrong"
        )


def _filled(
    x: np.ndarray, lost: np.ndarray | None, rate_hz: float
) -> tuple[np.ndarray, np.ndarray, list[tuple[float, float, str]]]:
    """Return samples with short gaps filled by a straight line, each sample's new place, and what to mark."""
    if lost is None or not lost.any():
        return x, np.arange(x.shape[1]), []
    fill = np.where(lost <= LONGEST_FILLED_S * rate_hz, lost, 0)
    places = np.arange(x.shape[1]) + np.cumsum(fill)
    every = np.arange(places[-1] + 1)
    spans = [(float(places[i] - fill[i]), float(fill[i]), FILLED) for i in np.flatnonzero(fill)]
    spans += [(float(places[i]), 0.0, JOIN) for i in np.flatnonzero(lost > fill)]
    return np.stack([np.interp(every, places, row) for row in x]), places, spans


def _pauses(times_s: np.ndarray | None, rate_hz: float, path: Path) -> list[int]:
    """Return the samples before which something is missing by the times, which others do not catch up."""
    if times_s is None or not np.isfinite(times_s).all():
        return []
    steps = np.diff(times_s)
    if len(steps) and steps.min() < -_BACK_S:
        at = int(steps.argmin()) + 2
        raise DataError(
            f"{path}: its clock jumps back by {-steps.min():.3g} s at sample {at}; cut the recording there"
        )
    late = times_s - np.arange(len(times_s)) / rate_hz
    around = round(rate_hz)
    found = []
    for i in np.flatnonzero(steps > _PAUSE_S) + 1:
        before, after = late[max(0, i - around) : i], late[i : i + around]
        if after.min() - before.min() > _PAUSE_S / 2:
            found.append(int(i))
    return found


def by_counter(counter: np.ndarray) -> np.ndarray:
    """Return how many samples are missing before each, by a counter that wraps at a power of two (or at 129).

    Counters of boards that send pairs (Daisy) go up by two.
    """
    whole = np.asarray(counter, float)
    lost = np.zeros(len(whole), np.int64)
    if len(whole) < 3 or not np.isfinite(whole).all() or (whole != np.round(whole)).any():
        return lost
    steps = np.diff(whole)
    usual = float(np.median(steps))
    if usual < 1:
        return lost
    top = whole.max() + usual
    missing = np.where(steps < 0, steps + top, steps) / usual - 1
    lost[1:] = np.where((missing > 0) & (missing < top / usual / 2), np.round(missing), 0)
    return lost
