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


def centre_features(
    features: NDArray[np.floating], data: LabelledWindows, centre: Centre
) -> NDArray[np.floating]:
    """Return features less their mean over the windows of the same recording, or as they are.

    Targets are not used, but the windows of a recording that is tested are: what is learnt this way judges
    recordings that are there as a whole, or a stream after a while, and not a single window of somebody new.
    A recording in which one class is rarer than in the others is centred on another mixture of classes.

    Parameters
    ----------
    features : array, shape (n, n_features)
        One row per window of `data`.
    data : LabelledWindows
        Where every window is from.
    centre : {"none", "recording"}
        What is taken off.

    Raises
    ------
    DataError
        If every recording has one target throughout, which centring would take away.
    """
    if centre == "none":
        return features
    recordings, index = np.unique(data.recording, return_inverse=True)
    if all(len(np.unique(data.y[index == i])) < 2 for i in range(len(recordings))):
        raise DataError(
            f"centre: each of the {len(recordings)} recordings has one target throughout, and centring by "
            "recording would take away what is to be told apart; set centre to none"
        )
    counts = np.bincount(index, minlength=len(recordings))[:, None]
    sums = np.zeros((len(recordings), features.shape[1]))
    np.add.at(sums, index, features)
    return features - (sums / counts)[index]
