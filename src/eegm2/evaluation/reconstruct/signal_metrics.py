"""Figures of merit for reconstruction: ACMSE, correlation, spectral error.

References
----------
EEGM2, arXiv 2502.17873, section 5.5 (ACMSE).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eegm2.errors import DataError


def acmse(x: ArrayLike, reconstruction: ArrayLike) -> float:
    r"""Return the average channel-wise mean squared error, as the paper's text defines it.

    .. math:: \frac{1}{C}\sum_c \frac{1}{N T}\sum_{n,t} (x_{nct} - \hat x_{nct})^2

    Parameters
    ----------
    x, reconstruction : array, shape (n_windows, n_chans, n_times)
        In the same unit; the result is in its square.

    References
    ----------
    EEGM2, arXiv 2502.17873, section 5.5.
    """
    difference = _difference(x, reconstruction)
    return float((difference**2).mean(axis=(0, 2)).mean())


def acmse_authors_code(x: ArrayLike, reconstruction: ArrayLike) -> float:
    r"""Return the figure that the authors' code reports as ACMSE, for comparison with their tables only.

    It averages the windows first, so errors of opposite sign cancel, and divides the sum over channels by
    n_times instead of n_chans:

    .. math:: \frac{1}{T}\sum_c \frac{1}{T}\sum_t \Big(\frac{1}{N}\sum_n (x_{nct} - \hat x_{nct})\Big)^2

    Parameters
    ----------
    x, reconstruction : array, shape (n_windows, n_chans, n_times)
        In the same unit.
    """
    mean_window = _difference(x, reconstruction).mean(axis=0)
    return float((mean_window**2).mean(axis=1).sum() / mean_window.shape[1])


def channel_correlation(x: ArrayLike, reconstruction: ArrayLike) -> NDArray[np.float64]:
    """Return Pearson's r of every channel over time, NaN for a constant one; inputs (n_chans, n_times)."""
    a, b = np.asarray(x, dtype=float), np.asarray(reconstruction, dtype=float)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), norm, out=np.full(len(a), math.nan), where=norm > 0)


def spectral_error(x: ArrayLike, reconstruction: ArrayLike) -> float:
    r"""Return the relative error of the amplitude spectra: 0 for equal ones, 1 for a silent output.

    .. math:: \frac{\sum_f (|X_f| - |\hat X_f|)^2}{\sum_f |X_f|^2}

    summed over channels too; inputs of shape (..., n_times). NaN where the input is all zero.
    """
    a, b = (
        np.abs(np.fft.rfft(np.asarray(x, dtype=float))),
        np.abs(np.fft.rfft(np.asarray(reconstruction, dtype=float))),
    )
    power = float((a**2).sum())
    return float(((a - b) ** 2).sum()) / power if power > 0 else math.nan


def _difference(x: ArrayLike, reconstruction: ArrayLike) -> NDArray[np.float64]:
    a, b = np.asarray(x, dtype=float), np.asarray(reconstruction, dtype=float)
    if a.shape != b.shape or a.ndim != 3 or 0 in a.shape:
        raise DataError(
            f"acmse: got shapes {a.shape} and {b.shape}, expected two equal (n_windows, n_chans, n_times)"
        )
    return a - b
