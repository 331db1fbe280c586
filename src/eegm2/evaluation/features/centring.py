"""Features centred recording by recording: what differs between people and days is taken off, without labels.

References
----------
He & Wu (2020), Transfer learning for brain-computer interfaces: a Euclidean space data alignment approach,
IEEE Trans. Biomed. Eng. 67:399-410, doi:10.1109/TBME.2019.2913914, for aligning people without labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eegm2.errors import DataError
from eegm2.evaluation.config import Centre
from eegm2.evaluation.windows.labelled import LabelledWindows

#: Windows of a recording, side by side, after which a running mean counts as known.
WARM_UP_WINDOWS = 15


class RunningMean:
    """The mean of a recording's features so far, for windows that come one after another.

    Parameters
    ----------
    warm_up : int
        Windows before it counts as known.

    Attributes
    ----------
    count : int
        Windows taken.
    mean : array, shape (n_features,), or None
    """

    def __init__(self, warm_up: int = WARM_UP_WINDOWS) -> None:
        self.warm_up, self.count = warm_up, 0
        self.mean: NDArray[np.float64] | None = None

    @property
    def known(self) -> bool:
        """Whether enough windows have been taken."""
        return self.count >= self.warm_up

    def push(self, features: NDArray[np.floating]) -> None:
        """Count one window's features, (n_features,) or those of several streams, (batch, n_features)."""
        self.count += 1
        before = np.zeros(features.shape) if self.mean is None else self.mean
        self.mean = before + (np.asarray(features, np.float64) - before) / self.count


def centred(
    features: NDArray[np.floating],
    recording: NDArray[np.str_],
    centre: Centre,
    start_s: NDArray[np.float64] | None = None,
    window_s: float = 0.0,
) -> NDArray[np.floating]:
    """Return features less a mean of the same recording's.

    ``recording``: of all its windows. ``running``: of those up to each window in time, as a stream has them:
    of windows that overlap, those count that lie side by side from the first one on; the windows of the
    warm-up take the mean at its end.

    Parameters
    ----------
    features : array, shape (n, n_features)
    recording : array of str, shape (n,)
    centre : {"none", "recording", "running"}
    start_s : array, shape (n,), optional
        Start of each window, for ``running``; by default windows are in order.
    window_s : float
        Their length; 0: none overlaps another.
    """
    if centre == "none":
        return features
    result = np.array(features, np.float64)
    for name in np.unique(recording):
        rows = np.flatnonzero(recording == name)
        if centre == "recording":
            result[rows] -= result[rows].mean(0)
            continue
        counts = np.ones(len(rows), bool)
        if start_s is not None:
            rows = rows[np.argsort(start_s[rows], kind="stable")]
            counts = side_by_side(start_s[rows], window_s)
        number = np.cumsum(counts)
        means = np.cumsum(result[rows] * counts[:, None], axis=0) / number[:, None]
        known = np.searchsorted(number, min(WARM_UP_WINDOWS, number[-1]))
        means[:known] = means[known]
        result[rows] -= means
    return result


def side_by_side(start_s: NDArray[np.float64], window_s: float) -> NDArray[np.bool_]:
    """Tell the first window, and each that begins where the last one told ended, or later.

    Parameters
    ----------
    start_s : array, shape (n,)
        Starts in ascending order, in seconds.
    window_s : float
        Length of a window.
    """
    counts, end_s = np.zeros(len(start_s), bool), -np.inf
    for row, start in enumerate(start_s):
        if start >= end_s - 1e-6:
            counts[row], end_s = True, start + window_s
    return counts


def centre_features(
    features: NDArray[np.floating], data: LabelledWindows, centre: Centre
) -> NDArray[np.floating]:
    """Return features less a mean over windows of the same recording, or as they are; see :func:`centred`.

    Targets are not used, but the windows of a recording that is tested are: what is learnt this way judges
    recordings that are there as a whole, or a stream after a while, and not a single window of somebody new.
    A recording in which one class is rarer than in the others is centred on another mixture of classes.

    Parameters
    ----------
    features : array, shape (n, n_features)
        One row per window of `data`.
    data : LabelledWindows
        Where every window is from.
    centre : {"none", "recording", "running"}
        What is taken off.

    Raises
    ------
    DataError
        If every recording has one target throughout, which centring would take away.
    """
    if centre == "none":
        return features
    refuse_constant(data)
    return centred_windows(features, data, centre)


def centred_windows(
    features: NDArray[np.floating], data: LabelledWindows, centre: Centre
) -> NDArray[np.floating]:
    """Return the same whatever the targets; see :func:`centred`."""
    return centred(features, data.recording, centre, data.start_s, data.window_s)


def refuse_constant(data: LabelledWindows) -> None:
    """Raise a DataError where every recording has one target throughout, which centring would take away."""
    recordings = np.unique(data.recording)
    if all(len(np.unique(data.y[data.recording == name])) < 2 for name in recordings):
        raise DataError(
            f"centre: each of the {len(recordings)} recordings has one target throughout, and centring by "
            "recording would take away what is to be told apart; set centre to none"
        )
