"""The declared preprocessing on a live stream: the same filter, causal, with its delay stated.

Channels → band-pass → notch → resampling, as :mod:`eegm2.data.signal.preprocessing` does for recordings, but
each stage only looks back and keeps a state, so that a stream may be cut anywhere.
"""

from __future__ import annotations

import numpy as np
from scipy import signal

from eegm2.data.channels import Montage, canonical, parse_aliases
from eegm2.data.config import PreprocessingConfig
from eegm2.data.positions import template_directions
from eegm2.data.signal.filters import band_filter, notch_filters, resampling_ratio
from eegm2.data.signal.mixing import mixing_matrix
from eegm2.deploy.device.filters import BlockFilter, BlockResampler
from eegm2.deploy.device.flat import LEAST_SOURCES, filled, interpolation_kernel
from eegm2.errors import ConfigError, DataError
from eegm2.model.inputs import dense_array

#: Frequency at which delays are stated by default: the middle of the alpha band.
REFERENCE_HZ = 10.0


class CausalFilter(BlockFilter):
    """Second-order sections run forwards once, with their state.

    The offline filter runs forwards and backwards: it has no delay and twice the attenuation. The causal one
    delays a component at f by its group delay, see :meth:`delay_s`.

    Parameters
    ----------
    sections : list of array, each (n_sections, 6)
        None of them passes everything.
    sfreq_hz : float
    """

    def __init__(self, sections: list[np.ndarray], sfreq_hz: float) -> None:
        self.sos = np.concatenate(sections) if sections else np.zeros((0, 6))
        self.sfreq_hz = sfreq_hz
        super().__init__(self.sos, signal.sosfilt_zi(self.sos) if sections else np.zeros((0, 2)))

    def response(self, frequency_hz: np.ndarray) -> np.ndarray:
        """Return the complex response at frequencies in hertz."""
        if not len(self.sos):
            return np.ones(len(frequency_hz), complex)
        result: np.ndarray = signal.freqz_sos(self.sos, worN=frequency_hz, fs=self.sfreq_hz)[1]
        return result

    def delay_s(self, frequency_hz: float = REFERENCE_HZ) -> float:
        """Return the group delay at a frequency in seconds."""
        around = frequency_hz + np.array([-0.01, 0.01])
        response = self.response(around)
        turned = np.angle(response[1] / response[0])
        return float(-turned / (2 * np.pi * (around[1] - around[0])))


class StreamingResampler(BlockResampler):
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
        up, down, taps = ratio.numerator, ratio.denominator, np.ones(1)
        if up != down:
            widest = max(up, down)
            taps = signal.firwin(20 * widest + 1, 1 / widest, window=("kaiser", 5.0)) * up
        super().__init__(up, down, taps)
        self.delay_s = self.half / up / from_hz


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
        self.used = np.abs(self.matrix).sum(0) > 0
        self._now = self.matrix
        names = [canonical(name, montage.aliases) for name in ch_names]
        self._names = [name if used else "" for name, used in zip(names, self.used)]
        #: The filter lets a hundredth of a constant through, which offline is taken off before it.
        self.from_zero = bool(config.l_freq_hz) and config.offset == "remove"
        self._start: np.ndarray | None = None

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
        used = np.abs(self._now).sum(0) > 0
        mixed = self._now[:, used] @ np.asarray(x_uv, np.float64)[used] * self.scale
        if not np.isfinite(mixed).all():
            channel = int(np.flatnonzero(~np.isfinite(mixed).all(1))[0])
            raise DataError(f"{self.where}: channel {channel} of the montage has values that are not numbers")
        if self.from_zero and mixed.shape[1]:
            self._start = mixed[:, :1].copy() if self._start is None else self._start
            mixed = mixed - self._start
        return self.resampler.push(self.filter.push(mixed)).astype(np.float32)

    def electrodes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the spline kernel of the used channels whose electrode is known, and which those are."""
        table = template_directions()
        places = np.array([i for i, name in enumerate(self._names) if name in table], int)
        directions = np.array([table[self._names[i]] for i in places]).reshape(-1, 3)
        return interpolation_kernel(directions), places

    def refuse_unknown_electrodes(self) -> None:
        """Raise a ConfigError where a channel that goes flat could not be taken from the others."""
        known = set(self.electrodes()[1].tolist())
        unknown = [self._names[i] for i in np.flatnonzero(self.used) if i not in known]
        if unknown or len(known) <= LEAST_SOURCES:
            why = f"no known position for {' '.join(unknown)}" if unknown else f"only {len(known)} channels"
            raise ConfigError(f"flat: {self.where} cannot be interpolated: {why}; use --flat flag or refuse")

    def without(self, flat: np.ndarray) -> None:
        """Take other channels instead of flat ones from here on, (n_source_chans,); of none, as at first."""
        self._now = filled(self.matrix, flat, *self.electrodes()) if flat.any() else self.matrix

    def flush(self) -> np.ndarray:
        """Return what the resampler still holds."""
        return self.resampler.flush().astype(np.float32)

    def reset(self) -> None:
        """Forget the past, after a gap for instance."""
        self._start = None
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
