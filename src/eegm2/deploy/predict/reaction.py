"""What a model reacts to: how its answer moves when a channel or a rhythm of some windows is changed.

References
----------
Zeiler & Fergus (2014), Visualizing and understanding convolutional networks, ECCV, for occlusion.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegm2.data.positions import positions
from eegm2.data.windows.scaling import scale_window
from eegm2.deploy.predict.classifier import Classifier

NEIGHBOURS = 3
MOST_WINDOWS = 24


def reactions(
    classifier: Classifier,
    windows_uv: NDArray[np.float32],
    typical_uv: NDArray[np.float64],
    mean_features: NDArray[np.float64] | None,
    ch_names: tuple[str, ...],
    sfreq_hz: float,
    bands: dict[str, tuple[float, float]],
    device: str = "cpu",
) -> dict[str, Any]:
    """Return mean changes of the log odds of every class, by channel and by band.

    A channel is replaced by the mean of its three nearest neighbours, which takes away what it alone says. A
    band is halved in amplitude in all channels. The change is that of the log odds of a class; positive means
    that what was taken away spoke for the class. Of a value, it is the change itself.

    Parameters
    ----------
    classifier : Classifier
        For these channels.
    windows_uv : array, shape (n, n_chans, n_times)
        Some windows, of any recordings.
    typical_uv : array, shape (n,)
        Typical amplitude of the recording of each.
    mean_features : array, shape (n, n_features), optional
        Means of the recordings' features, for heads of centred ones.
    ch_names, sfreq_hz, bands, device
        As they are.

    Returns
    -------
    dict
        channels: (n_classes, n_chans) and bands: (n_classes, n_bands), as lists, of one row for a value;
        n_windows.
    """

    def odds(x_uv: NDArray[np.float32]) -> NDArray[np.float64]:
        scaling = classifier.windows.scaling
        if scaling == "recording":
            x = (x_uv / typical_uv[:, None, None]).astype(np.float32)
        else:
            x = scale_window(x_uv, scaling)
        features = classifier.features(x, 64, device)
        if features is not None and mean_features is not None and classifier.centre != "none":
            features = features - mean_features
        made = classifier.probabilities(x, features, 64, device)
        if not classifier.classes:
            return made
        p = np.clip(made, 1e-6, 1 - 1e-6)
        return np.log(p / (1 - p))

    usual = odds(windows_uv)
    near = _neighbours(ch_names)
    by_channel = []
    for channel in range(len(ch_names)):
        changed = windows_uv.copy()
        changed[:, channel] = windows_uv[:, near[channel]].mean(1)
        by_channel.append((usual - odds(changed)).mean(0))
    by_band = [(usual - odds(_halved(windows_uv, sfreq_hz, *edges))).mean(0) for edges in bands.values()]
    return {
        "channels": np.array(by_channel).T.round(5).tolist(),
        "bands": np.array(by_band).T.round(5).tolist(),
        "n_windows": len(windows_uv),
    }


def _halved(x: NDArray[np.float32], sfreq_hz: float, low_hz: float, high_hz: float) -> NDArray[np.float32]:
    """Return windows in which one band has half its amplitude."""
    spectrum = np.fft.rfft(x, axis=-1)
    frequency_hz = np.fft.rfftfreq(x.shape[-1], 1 / sfreq_hz)
    spectrum[..., (frequency_hz >= low_hz) & (frequency_hz < high_hz)] *= 0.5
    return np.fft.irfft(spectrum, x.shape[-1], axis=-1).astype(np.float32)


def _neighbours(ch_names: tuple[str, ...]) -> list[list[int]]:
    """Return the nearest channels of each; all others where positions are unknown."""
    n = len(ch_names)
    places = positions(ch_names)
    found = []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        distance = np.linalg.norm(places[others] - places[i], axis=1)
        if not np.isfinite(distance).all():
            found.append(others or [i])
            continue
        found.append([others[j] for j in np.argsort(distance, kind="stable")[:NEIGHBOURS]] or [i])
    return found
