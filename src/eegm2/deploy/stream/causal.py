"""The declared preprocessing on a live stream: the same filter, causal, with its delay stated.

Channels → band-pass → notch → resampling, as :mod:`eegm2.data.signal.preprocessing` does for recordings, but
each stage only looks back and keeps a state, so that a stream may be cut anywhere.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import signal

from eegm2.data.channels import Montage, parse_aliases
from eegm2.data.config import PreprocessingConfig
from eegm2.data.signal.filters import band_filter, notch_filters, resampling_ratio
from eegm2.data.signal.mixing import mixing_matrix
from eegm2.errors import ConfigError, DataError
from eegm2.model.inputs import dense_array

#: Frequency at which delays are stated by default: the middle of the alpha band.
REFERENCE_HZ = 10.0


class CausalFilter:
    """Second-order sections run forwards once, with their state.

    The offline filter runs forwards and backwards: it has no delay and twice the attenuation. The causal one
    delays a component at f by its group delay, see :meth:`delay_s`.

    Parameters
    ----------
    sections : list of array, each (n_sections, 6)
    sfreq_hz : float
    """

    def __init__(self, sections: list[np.ndarray], sfreq_hz: float) -> None:
        self.sos = np.concatenate(sections) if sections else None
        self.sfreq_hz = sfreq_hz
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        self._zi: np.ndarray | None = None

    def push(self, x: np.ndarray) -> np.ndarray:
        """Filter (n_chans, k) samples; the first sample's value is taken to have been there for ever."""
        if self.sos is None or x.shape[1] == 0:
            return x
        if self._zi is None:
            self._zi = signal.sosfilt_zi(self.sos)[:, None, :] * x[None, :, :1]
        y, self._zi = signal.sosfilt(self.sos, x, axis=1, zi=self._zi)
        return y

    def delay_s(self, frequency_hz: float = REFERENCE_HZ) -> float:
        """Return the group delay at a frequency in seconds."""
        if self.sos is None:
            return 0.0
        around = frequency_hz + np.array([-0.01, 0.01])
        _, response = signal.freqz_sos(self.sos, worN=around, fs=self.sfreq_hz)
        turned = np.angle(response[1] / response[0])
        return float(-turned / (2 * np.pi * (around[1] - around[0])))


class StreamingResampler:
    """Polyphase resampling in blocks; equals ``scipy.signal.resample_poly`` of the whole signal.

    Parameters
    ----------
    from_hz, to_hz : float
        Rates.

    Attributes
    ----------
    delay_s : float
        An output waits for the input this much later.
    """

    def __init__(self, from_hz: float, to_hz: float) -> None:
        ratio = resampling_ratio(from_hz, to_hz)
        self.up, self.down = ratio.numerator, ratio.denominator
        if self.up == self.down:
            self.half, self.taps = 0, np.ones(1)
        else:
            widest = max(self.up, self.down)
            self.half = 10 * widest
            self.taps = signal.firwin(2 * self.half + 1, 1 / widest, window=("kaiser", 5.0)) * self.up
        self.delay_s = self.half / self.up / from_hz
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        self._held: np.ndarray | None = None
        self._taken = 0
        self._given = 0

    def push(self, x: np.ndarray) -> np.ndarray:
        """Take (n_chans, k) samples and return (n_chans, m) at the new rate."""
        if self.up == self.down:
            self._held = x[:, :0]
            return x
        before = 2 * self.half // self.up + 1
        held = np.zeros((len(x), before)) if self._held is None else self._held
        rows = np.concatenate([held, x], axis=1)
        self._taken += x.shape[1]
        # output m needs inputs up to (m down + half) / up
        ready = max(self._given, ((self._taken - 1) * self.up - self.half) // self.down + 1)
        y = self._outputs(rows, self._taken - rows.shape[1], np.arange(self._given, ready))
        self._given = ready
        needed = max(0, -(-(ready * self.down - self.half) // self.up))
        keep = max(self._taken - needed, before)
        self._held = rows[:, -keep:] if keep <= rows.shape[1] else rows
        return y

    def flush(self) -> np.ndarray:
        """Return the outputs that are left, zeros taken to follow."""
        if self._held is None or self.up == self.down:
            return np.zeros((0, 0)) if self._held is None else self._held
        total, taken = -(-self._taken * self.up // self.down), self._taken
        tail = self.push(np.zeros((len(self._held), self.half // self.up + 2)))
        y = tail[:, : max(0, total - (self._given - tail.shape[1]))]
        self._taken = taken
        return y

    def _outputs(self, rows: np.ndarray, first: int, index: np.ndarray) -> np.ndarray:
        """Return outputs `index` from rows whose first column is input `first`."""
        lowest = -(-(index * self.down - self.half) // self.up)
        inputs = lowest[:, None] + np.arange(2 * self.half // self.up + 1)
        place = index[:, None] * self.down + self.half - inputs * self.up
        weights = np.where(place >= 0, self.taps[np.clip(place, 0, len(self.taps) - 1)], 0.0)
        columns = np.clip(inputs - first, 0, rows.shape[1] - 1)
        return np.einsum("cml,ml->cm", rows[:, columns], weights)


class CausalPreprocessor:
    """Channels, causal filter and resampling of a live source, from the declared preprocessing.

    Parameters
    ----------
    ch_names : sequence of str
        Channels of the source, in its order.
    sfreq_hz : float
        Its nominal rate.
    config : PreprocessingConfig
        As stored with the model.
    wanted : tuple of str
        The model's channels, in its order.
    where : str
        The source, for messages.

    Raises
    ------
    DataError
        If a wanted channel is missing or there twice; all are named.
    ConfigError
        If the rate is below the model's.
    """

    def __init__(
        self,
        ch_names: list[str],
        sfreq_hz: float,
        config: PreprocessingConfig,
        wanted: tuple[str, ...],
        *,
        where: str = "source",
    ) -> None:
        if not sfreq_hz >= 0.99 * config.sfreq_hz:
            raise ConfigError(
                f"{where}: rate is {sfreq_hz:g} Hz, expected at least the model's {config.sfreq_hz:g} Hz"
            )
        montage = Montage("", tuple(wanted), parse_aliases(config.aliases))
        self.matrix, _ = mixing_matrix(
            ch_names,
            montage,
            where=where,
            interpolate=config.missing == "interpolate",
            average_reference=config.reference == "average",
            advice="the model needs them: rename channels of the source, or --aliases 'its name=ours'",
        )
        self.scale = config.scale
        self.filter, self.note = causal_filter(config, sfreq_hz)
        self.resampler = StreamingResampler(sfreq_hz, config.sfreq_hz)
        self.where, self.n_in = where, len(ch_names)

    def push(self, x_uv: np.ndarray) -> np.ndarray:
        """Take (n_source_chans, k) microvolts; return (n_chans, m) microvolts at the model's rate.

        Raises
        ------
        DataError
            If the number of channels differs or a value that is used is not finite.
        """
        x_uv = dense_array(x_uv, f"{self.where}: push")
        if x_uv.ndim != 2 or len(x_uv) != self.n_in:
            raise DataError(f"{self.where}: got shape {x_uv.shape}, expected ({self.n_in}, samples)")
        used = np.abs(self.matrix).sum(0) > 0
        mixed = self.matrix[:, used] @ np.asarray(x_uv, np.float64)[used] * self.scale
        if not np.isfinite(mixed).all():
            channel = int(np.flatnonzero(~np.isfinite(mixed).all(1))[0])
            raise DataError(f"{self.where}: channel {channel} of the montage has values that are not numbers")
        return self.resampler.push(self.filter.push(mixed)).astype(np.float32)

    def flush(self) -> np.ndarray:
        """Return what the resampler still holds."""
        return self.resampler.flush().astype(np.float32)

    def reset(self) -> None:
        """Forget the past, after a gap for instance."""
        self.filter.reset()
        self.resampler.reset()

    def delay_s(self, frequency_hz: float = REFERENCE_HZ) -> float:
        """Return the delay of filter and resampling at a frequency in seconds."""
        return self.filter.delay_s(frequency_hz) + self.resampler.delay_s


def causal_filter(config: PreprocessingConfig, sfreq_hz: float) -> tuple[CausalFilter, str]:
    """Return the declared band-pass and notch at a rate as a causal filter, and a note where it differs."""
    band, note = band_filter(config, sfreq_hz)
    sections = ([band] if band is not None else []) + notch_filters(config, sfreq_hz)
    return CausalFilter(sections, sfreq_hz), note


def samples_of(seconds: float, sfreq_hz: float) -> int:
    """Return a duration in whole samples, at least one."""
    return max(1, math.floor(seconds * sfreq_hz + 0.5))
