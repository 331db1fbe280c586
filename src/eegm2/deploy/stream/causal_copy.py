"""A stored recording as a live stream would have filtered it."""

from __future__ import annotations

import numpy as np

from eegm2.data.config import PreprocessingConfig
from eegm2.deploy.stream.causal import causal_filter

_PADDING_S = 10.0
#: Squared response below which nothing is restored: the ends of a recording and rounding weigh more there.
_FLOOR = 1e-3


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
    anything but the phase within the pass band, and fades out where ``|H|^2`` is below 0.001. Compared with
    streams of three raw recordings, a millionth of the power between 1 and 46 Hz differed, and a
    two-hundredth of the power between 0.5 and 1 Hz at most.

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
    padding = min(round(_PADDING_S * sfreq_hz), n_times - 1)
    x = np.pad(np.asarray(x_uv, np.float64), ((0, 0), (padding, padding)), mode="reflect", reflect_type="odd")
    spectrum = np.fft.rfft(x, axis=1)
    filtering, _ = causal_filter(config, source_sfreq_hz or sfreq_hz)
    response = filtering.response(np.fft.rfftfreq(x.shape[1], 1 / sfreq_hz))
    power = np.abs(response) ** 2
    restored = np.fft.irfft(spectrum * (response / (power + _FLOOR)), n=x.shape[1], axis=1)
    return restored[:, padding : padding + n_times].astype(np.float32)
