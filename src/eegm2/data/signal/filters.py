"""The declared filters and the resampling, designed once per sampling rate and run on time-major arrays."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy import signal

from eegm2.data.config import PreprocessingConfig
from eegm2.data.signal.compiled import kernels

LOW_STOP, HIGH_STOP = 0.2 / 0.5, 48.0 / 40.0
"""Stop edges relative to the pass edges: 0.2 to 0.5 and 40 to 48 Hz in the paper's filter."""
_PADDING_S = 5.0
_SMALL = 1 << 19
"""Samples (of float64) that may be filtered at once, however short the recording."""


@functools.lru_cache(maxsize=64)
def band_filter(config: PreprocessingConfig, sfreq_hz: float) -> tuple[np.ndarray | None, str]:
    """Return the Chebyshev type II filter as second-order sections, and a note where it had to differ.

    The order is the smallest that loses at most `gpass_db` in the pass band and attenuates by `gstop_db` in
    the stop bands (`scipy.signal.cheb2ord`). A high edge whose stop band would lie above half the sampling
    rate is left out: such a recording holds nothing above it.

    References
    ----------
    EEGM2, arXiv 2502.17873, datasets and preprocessing.
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


@dataclass(frozen=True)
class Filters:
    """What is done to series recorded at one rate: sections with their settled states, and the resampling."""

    sections: tuple[tuple[np.ndarray, np.ndarray], ...]
    note: str
    ratio: Fraction
    taps: np.ndarray | None
    padding: int

    def n_out(self, n_times: int) -> int:
        """Return how many samples come out."""
        return math.ceil(n_times * self.ratio)

    def channels_at_once(self, n_times: int, n_chans: int) -> int:
        """Return how many channels to filter together, so that they take little beside the recording.

        As many as are small anyway; of a long recording a quarter, which in float64 is half of its float32,
        or eight, which run side by side, but not more than half of it.
        """
        half = -(-n_chans // 2)
        most = max(_SMALL // (n_times + 2 * self.padding), n_chans // 4, min(8, half))
        even = -(-n_chans // -(-n_chans // most))  # in as many groups, of about one size
        return min(most, -(-even // 8) * 8)

    def buffer(self, n_times: int, n_chans: int) -> np.ndarray:
        """Return room for series and their continuations; they belong where `inside` says."""
        return np.empty((n_times + 2 * self._padding(n_times), n_chans))

    def inside(self, buffer: np.ndarray) -> np.ndarray:
        """Return the part of a buffer that holds the series, time-major (n_times, n_chans)."""
        n_times = max(len(buffer) - 2 * self.padding, (len(buffer) + 2) // 3)
        return buffer[(len(buffer) - n_times) // 2 :][:n_times]

    def run(self, buffer: np.ndarray, offset: np.ndarray, out: np.ndarray) -> None:
        """Filter forwards and backwards (without delay), then resample.

        As `scipy.signal.sosfiltfilt` for each of the sections, the ends continued by their reflection in the
        end points over 5 s, and `scipy.signal.resample_poly` with zeros beyond the ends: the same numbers,
        compiled or not.

        Parameters
        ----------
        buffer : ndarray of float64
            From `buffer`, with the series in it; changed.
        offset : ndarray of float64, shape (n_chans,)
            Added to the result.
        out : ndarray of float32, shape (n_out, n_chans)
            Filled.
        """
        self._resample(self._filter(buffer), offset, out)

    def run_part(self, buffer: np.ndarray, start: int, offset: np.ndarray, out: np.ndarray) -> None:
        """Do the same to a part of a recording by itself; its samples come out on the recording's own grid.

        Parameters
        ----------
        buffer, offset
            As `run` has them.
        start : int
            Sample of the recording at which the part begins.
        out : ndarray of float32, shape (n, n_chans)
            Filled: the samples from ``n_out(start)`` to before ``n_out(start + length of the part)``.
        """
        lead = start % self.ratio.denominator
        series = self._filter(buffer)
        if lead:  # zeros before the part, back to where both grids meet
            series = np.concatenate([np.zeros((lead, series.shape[1])), series])
        whole = np.empty((self.n_out(len(series)), series.shape[1]), np.float32)
        self._resample(series, offset, whole)
        out[:] = whole[len(whole) - len(out) :]

    def _filter(self, buffer: np.ndarray) -> np.ndarray:
        """Filter the series in a buffer forwards and backwards; return it."""
        compiled, series = kernels("filter_kernels"), self.inside(buffer)
        padding = self._padding(len(series))
        for sos, settled in self.sections:
            if compiled is None:
                series[:] = signal.sosfiltfilt(sos, series, axis=0, padlen=padding)
                continue
            buffer[:padding] = 2 * series[0] - series[padding:0:-1]
            buffer[padding + len(series) :] = 2 * series[-1] - series[-2 : -padding - 2 : -1]
            for backwards in (False, True):
                state = settled[:, :, None] * buffer[-1 if backwards else 0]
                compiled.cascade(buffer, sos, state, backwards)
        return series

    def _resample(self, series: np.ndarray, offset: np.ndarray, out: np.ndarray) -> None:
        """Resample a series, add the offset, write it."""
        compiled = kernels("filter_kernels")
        up, down = self.ratio.numerator, self.ratio.denominator
        if self.taps is not None and compiled is not None:
            compiled.resample(series, self.taps * up, up, down, offset, out)
            return
        if self.taps is not None:
            series = signal.resample_poly(series, up, down, axis=0, window=self.taps)[: len(out)]
        np.add(series, offset, out=out, casting="same_kind")

    def _padding(self, n_times: int) -> int:
        return min(n_times - 1, self.padding)


@functools.lru_cache(maxsize=64)
def filters(config: PreprocessingConfig, sfreq_hz: float) -> Filters:
    """Return the filters of a declaration for recordings of one sampling rate."""
    band, note = band_filter(config, sfreq_hz)
    every = ([band] if band is not None else []) + notch_filters(config, sfreq_hz)
    ratio = resampling_ratio(sfreq_hz, config.sfreq_hz)
    rate = max(ratio.numerator, ratio.denominator)
    taps = signal.firwin(20 * rate + 1, 1 / rate, window=("kaiser", 5.0)) if ratio != 1 else None
    settled = tuple((np.ascontiguousarray(sos), signal.sosfilt_zi(sos)) for sos in every)
    return Filters(settled, note, ratio, taps, round(_PADDING_S * sfreq_hz))
