"""What differs between classes before any model: the power of rhythms at every electrode."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eegm2.evaluation.baselines.band_power import log_band_power
from eegm2.evaluation.baselines.options import band_edges
from eegm2.evaluation.baselines.windows import chunks, rescaled
from eegm2.evaluation.windows.labelled import LabelledWindows

BANDS = ("delta=1:4", "theta=4:8", "alpha=8:13", "beta=13:30", "gamma=30:40")
"""The rhythms that maps are drawn of, in Hz."""


def band_power_by_class(
    data: LabelledWindows, sfreq_hz: float, bands: tuple[str, ...] = BANDS
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the power of rhythms per class: mean decibels over each person's windows, then over people.

    Only people with windows of every class count, so that what differs between classes is not who was
    recorded. Where nobody has all (patients against controls), all people count.

    Parameters
    ----------
    data : LabelledWindows
        Windows of a store (read again in microvolts), or an array in microvolts.
    sfreq_hz : float
    bands : tuple of str
        As ``name=low:high`` in Hz; those that begin above half the sampling rate are left out.

    Returns
    -------
    power_db : array, shape (n_classes, n_bands, n_chans)
        In dB re 1 µV².
    bands : tuple of str
        Names of the bands.

    Raises
    ------
    DataError
        If a window is not finite.
    """
    usable = {name: edges for name, edges in band_edges(bands).items() if edges[0] < sfreq_hz / 2}
    windows = rescaled(data, "none")
    power = np.concatenate([log_band_power(x, sfreq_hz, usable, 2.0) for x in chunks(windows, "band power")])
    power = 10 * power.reshape(len(data), -1, len(usable)).transpose(0, 2, 1)
    n_classes = len(data.classes)
    people = [np.flatnonzero(data.subject == name) for name in np.unique(data.subject)]
    whole = [rows for rows in people if len(np.unique(data.y[rows])) == n_classes]
    means = np.full((n_classes, *power.shape[1:]), np.nan)
    for number in range(n_classes):
        of_person = [rows[data.y[rows] == number] for rows in whole or people]
        found = [power[rows].mean(0) for rows in of_person if len(rows)]
        if found:
            means[number] = np.mean(found, axis=0)
    return means, tuple(usable)
