"""Channels that go flat in mid-stream: when, and what the others say of them; NumPy alone."""

from __future__ import annotations

import numpy as np

from eegm2.errors import DataError

#: A channel that does not move for so long is flat.
FLAT_S = 1.0
#: Least change from one sample to the next that counts as moving, in microvolts.
_MOVES_UV = 0.01
#: Fewest channels from which another is interpolated.
LEAST_SOURCES = 4
#: Terms, stiffness and regularisation of the splines of `interpolation_kernel`.
_TERMS, _STIFFNESS, _SMOOTHING = 50, 4, 1e-5


class FlatWatch:
    """Tells from which sample on which channels are flat, however the stream is cut.

    Parameters
    ----------
    used : array of bool, shape (n_chans,)
        Channels that count.
    sfreq_hz : float
    """

    def __init__(self, used: np.ndarray, sfreq_hz: float) -> None:
        self.used, self.least = np.asarray(used, bool), max(1, round(FLAT_S * sfreq_hz))
        self.flat = np.zeros(len(self.used), bool)
        self.reset()

    def reset(self) -> None:
        """Begin to count anew, after a gap; what was flat stays so until it moves."""
        self._still = np.where(self.flat, self.least, 0)
        self._last: np.ndarray | None = None

    def push(self, x_uv: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Take (n_chans, k) samples; return (index, flat channels from there on) of each change."""
        k = x_uv.shape[1]
        if not k:
            return []
        before = x_uv[:, :1] if self._last is None else self._last[:, None]
        moves = np.abs(np.diff(np.concatenate([before, x_uv], axis=1), axis=1)) > _MOVES_UV
        self._last = x_uv[:, -1].copy()
        index = np.arange(k)
        moved = np.maximum.accumulate(np.where(moves, index, -1), axis=1)
        still = np.where(moved >= 0, index - moved, self._still[:, None] + index + 1)
        self._still = np.minimum(still[:, -1], self.least)
        flat = (still >= self.least) & self.used[:, None]
        earlier = np.concatenate([self.flat[:, None], flat[:, :-1]], axis=1)
        self.flat = flat[:, -1]
        return [(int(i), flat[:, i]) for i in np.flatnonzero((flat != earlier).any(0))]


def interpolation_kernel(directions: np.ndarray) -> np.ndarray:
    """Return the spline kernel of electrodes on a sphere, (n, n).

    Parameters
    ----------
    directions : array, shape (n, 3)
        Unit vectors from the centre of the head.

    References
    ----------
    Perrin et al. (1989), Spherical splines for scalp potential and current density mapping,
    Electroencephalogr. Clin. Neurophysiol. 72:184-187, doi:10.1016/0013-4694(89)90180-6, equation 3.
    """
    n = np.arange(1, _TERMS + 1)
    factors = (2 * n + 1) / (4 * np.pi * (n * (n + 1.0)) ** _STIFFNESS)
    cosine = np.clip(directions @ directions.T, -1, 1)
    result: np.ndarray = np.polynomial.legendre.legval(cosine, [0, *factors])
    return result


def filled(matrix: np.ndarray, flat: np.ndarray, kernel: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return a mixing matrix that takes other channels instead of flat ones.

    Parameters
    ----------
    matrix : array, shape (n_out, n_in)
        From a device's channels to the network's.
    flat : array of bool, shape (n_in,)
    kernel : array, shape (n, n)
        Of the channels whose electrode is known, see :func:`interpolation_kernel`.
    places : array of int, shape (n,)
        Which of the device's channels those are.

    Raises
    ------
    DataError
        If the others are too few, or a flat one's electrode is not known.
    """
    good = np.flatnonzero(~flat[places])
    if not set(np.flatnonzero(flat)) <= set(places.tolist()) or len(good) < LEAST_SOURCES:
        raise DataError(
            f"flat: {int(flat.sum())} channels are flat, {len(good)} others have a known electrode; "
            f"interpolating needs {LEAST_SOURCES}"
        )
    n = len(good)
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = kernel[np.ix_(good, good)] + _SMOOTHING * np.eye(n)
    system[n, n] = 0.0
    inverse = np.linalg.pinv(system)[:, :n]
    weights = np.eye(matrix.shape[1])
    for place in np.flatnonzero(flat[places]):
        row = np.zeros(matrix.shape[1])
        row[places[good]] = np.append(kernel[place, good], 1.0) @ inverse
        weights[places[place]] = row
    result: np.ndarray = matrix @ weights
    return result
