"""A stored recording as a live stream would have filtered it."""

from __future__ import annotations

import numpy as np

from eegm2.data.config import PreprocessingConfig
from eegm2.deploy.stream.causal import causal_filter

_PADDING_S = 20.0
#: Squared response below which nothing is restored. The high-pass rings for seconds, so that what lies beyond
#: the ends of a recording, which nobody knows, weighs more around its edge than elsewhere.
_FLOOR, _FLOOR_AT_HIGH_PASS = 1e-4, 1e-2


def causal_copy(
    x_uv: np.ndarray,
    sfreq_hz: float,
    config: PreprocessingConfig,
    *,
    source_sfreq_hz: float | None = None,
) -> np.ndarray:
    """Return a recording filtered once, forwards, from what was filtered forwards and backwards.

    The declared filter has the response H. Forwards and backwards it makes ``|H|^2 X`` of a signal X, which
    is what a store holds; a stream makes ``H X``. One is the other times ``H / |H|^2``, which changes hardly
    anything but the phase within the pass band, and fades out where ``|H|^2`` is below 0.0001, and below 0.01
    around the edge of the high-pass. Zeros are taken to lie beyond the ends.

    Parameters
    ----------
    x_uv : array, shape (n_chans, n_times)
        Microvolts, as stored.
    sfreq_hz : float
        Rate of the store.
    config : PreprocessingConfig
        With which it was made.
    source_sfreq_hz : float, optional
        Rate of the recording before it was resampled, at which it was filtered.

    Returns
    -------
    array of float32, shape (n_chans, n_times)
    """
    n_times = x_uv.shape[1]
    padding = round(_PADDING_S * sfreq_hz)
    x = np.pad(np.asarray(x_uv, np.float64), ((0, 0), (padding, padding)))
    spectrum = np.fft.rfft(x, axis=1)
    filtering, _ = causal_filter(config, source_sfreq_hz or sfreq_hz)
    frequency_hz = np.fft.rfftfreq(x.shape[1], 1 / sfreq_hz)
    response = filtering.response(frequency_hz)
    floor = np.where(frequency_hz < 4 * config.l_freq_hz, _FLOOR_AT_HIGH_PASS, _FLOOR)
    restored = np.fft.irfft(spectrum * response / (np.abs(response) ** 2 + floor), n=x.shape[1], axis=1)
    return restored[:, padding : padding + n_times].astype(np.float32)
