"""Scaling of a window, one definition for files, training and streaming.

Every method acts on each channel of each window alone and works on NumPy arrays and torch tensors alike; the
same float32 operations in the same order, so both give the same numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from eegm2.data.config import Scaling
from eegm2.data.signal.compiled import kernels
from eegm2.data.signal.order_statistics import neighbours
from eegm2.errors import ConfigError

EPSILON_UV = 1e-8
_QUARTILES_TO_SIGMA = 1.3489795


def scale_window(x: Any, method: Scaling, amplitude_uv: float | None = None) -> Any:
    """Return a scaled copy of one window or a batch of them.

    ``quantile95``: ``x / (q + 1e-8)``, q the 0.95 quantile of ``|x|``; ``robust``: ``(x - median) /
    (interquartile range / 1.349 + 1e-8)``; ``zscore``: ``(x - mean) / (standard deviation + 1e-8)``;
    ``recording``: ``x / (amplitude + 1e-8)``, one amplitude for a whole recording; ``none``: a copy.

    Parameters
    ----------
    x : ndarray or Tensor, shape (..., n_chans, n_times)
        Microvolts.
    method : str
        ``quantile95``, ``robust``, ``zscore``, ``recording`` or ``none``.
    amplitude_uv : float, optional
        Typical amplitude of the recording (`eegm2.data.signal.quality.typical_amplitude`), for ``recording``.

    Returns
    -------
    ndarray or Tensor, same shape and kind
        Contiguous, without unit unless `method` is ``none``.

    Raises
    ------
    ConfigError
        If the method is unknown, or the recording's amplitude is needed and not given.

    References
    ----------
    EEGM2, arXiv 2502.17873, datasets and preprocessing (TUAB windows), for ``quantile95``.
    """
    if method == "none":
        return np.array(x, order="C") if isinstance(x, np.ndarray) else x.clone()
    offset, gain = scale_constants(x, method, amplitude_uv)
    return (x if offset is None else x - offset) / gain


def scale_stored(
    stored: np.ndarray, method: Scaling, out: np.ndarray, amplitude_uv: float | None = None
) -> None:
    """Write `scale_window` of a stored window into `out`: the same numbers, in one pass where compiled.

    Parameters
    ----------
    stored : ndarray of float32 or float16, shape (n_times, n_chans)
        Microvolts, time-major, as `RecordingStore.view` returns them.
    method, amplitude_uv
        As in `scale_window`.
    out : ndarray of float32, shape (n_chans, n_times)
        Contiguous; filled.
    """
    compiled = kernels("select_kernels") if method == "quantile95" else None
    if compiled is None:
        out[:] = stored.T
        if method != "none":
            out[:] = scale_window(out, method, amplitude_uv)
        return
    x = np.asarray(stored, np.float32)
    rank, fraction = _place(0.95, len(x))
    compiled.scale_by_quantile(x, rank, np.float32(fraction), np.float32(EPSILON_UV), out, out.view(np.int32))


def scale_constants(x: Any, method: Scaling, amplitude_uv: float | None = None) -> tuple[Any | None, Any]:
    """Return what `scale_window` takes off and divides by, so that its work can be undone.

    Parameters
    ----------
    x, method, amplitude_uv
        As in `scale_window`.

    Returns
    -------
    offset : ndarray or Tensor of shape (..., n_chans, 1), or None
        In microvolts; None where nothing is taken off.
    gain : ndarray or Tensor of shape (..., n_chans, 1), or 1.0
        In microvolts.

    Raises
    ------
    ConfigError
        As in `scale_window`.
    """
    if method == "none":
        return None, 1.0
    if method == "recording":
        if amplitude_uv is None:
            raise ConfigError(
                "scaling: 'recording' needs to know recordings, which windows alone do not tell; divide them "
                "by their recording's typical amplitude and use scaling 'none'"
            )
        return None, np.float32(amplitude_uv + EPSILON_UV)
    if method == "quantile95":
        (high,) = _quantiles(abs(x), 0.95)
        return None, high + EPSILON_UV
    if method == "robust":
        low, middle, high = _quantiles(x, 0.25, 0.5, 0.75)
        return middle, (high - low) / _QUARTILES_TO_SIGMA + EPSILON_UV
    if method == "zscore":
        keep = {"keepdims": True} if isinstance(x, np.ndarray) else {"keepdim": True}
        mean = x.mean(-1, **keep)
        variance = ((x - mean) ** 2).mean(-1, **keep)
        return mean, variance**0.5 + EPSILON_UV
    raise ConfigError(f"scaling: got {method!r}, expected quantile95, robust, zscore, recording or none")


def _quantiles(x: Any, *shares: float) -> tuple[Any, ...]:
    """Return quantiles over the last axis (kept, length 1), linear between neighbouring order statistics."""
    last = x.shape[-1] - 1
    places = [_place(share, x.shape[-1]) for share in shares]
    if isinstance(x, np.ndarray):
        pairs = [neighbours(x, rank) for rank, _ in places]
    else:
        ordered = x.sort(dim=-1).values
        pairs = [(ordered[..., rank, None], ordered[..., min(rank + 1, last), None]) for rank, _ in places]
    return tuple(below + (above - below) * fraction for (below, above), (_, fraction) in zip(pairs, places))


def _place(share: float, n: int) -> tuple[int, float]:
    """Return between which ranks of `n` values a quantile lies: after which one, and how far."""
    place = share * (n - 1)
    return int(place), place - int(place)
