"""From any electrodes to a few virtual channels, by way of real spherical harmonics.

A potential over the head is written as a sum of harmonics and a constant that depends on the reference. The
coefficients that fit the channels of a montage best are linear in the samples (`spread`), and so are the
virtual channels, weights over harmonics that a network learns. The constant is fitted beside them and left
out, so whatever is common to all electrodes has no influence.

References
----------
Perrin, Pernier, Bertrand, Echallier (1989), Electroenceph. clin. Neurophysiol. 72:184-187, for potentials as
harmonics with a penalty on their degree; Press et al., "Numerical Recipes", 6.7, for the recursion.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from eegm2.errors import ConfigError

#: Fewest electrodes (or bipolar channels) from which virtual channels can be made.
MIN_ELECTRODES = 4
#: Two electrodes closer than this, in radians (about 2 mm on a head), are one.
SAME_PLACE_RAD = 0.02
#: Penalty of harmonics, in shares of what evenly spread electrodes know of each.
PENALTY = 0.01

#: Places of the 10-20 and 10-10 systems as unit vectors (right, front, up): the first n are spread evenly.
SITES: dict[str, tuple[float, float, float]] = {
    "F3": (-0.548, 0.735, 0.399),
    "F4": (0.544, 0.746, 0.383),
    "O1": (-0.298, -0.954, 0.039),
    "O2": (0.287, -0.957, 0.039),
    "T7": (-0.986, -0.005, -0.165),
    "T8": (0.986, 0.007, -0.169),
    "C3": (-0.744, 0.044, 0.667),
    "C4": (0.747, 0.053, 0.662),
    "Fp1": (-0.290, 0.950, -0.114),
    "Fp2": (0.275, 0.955, -0.114),
    "P3": (-0.553, -0.648, 0.523),
    "P4": (0.558, -0.642, 0.526),
    "F7": (-0.763, 0.622, -0.175),
    "F8": (0.757, 0.629, -0.177),
    "P7": (-0.783, -0.618, -0.079),
    "P8": (0.780, -0.621, -0.080),
    "Fz": (-0.006, 0.769, 0.639),
    "Cz": (-0.005, 0.067, 0.998),
    "Pz": (-0.006, -0.645, 0.764),
    "AF3": (-0.346, 0.924, 0.163),
    "AF4": (0.345, 0.923, 0.169),
    "FC5": (-0.893, 0.391, 0.223),
    "FC6": (0.889, 0.402, 0.221),
    "FC1": (-0.377, 0.449, 0.810),
    "FC2": (0.370, 0.459, 0.808),
    "CP5": (-0.893, -0.344, 0.289),
    "CP6": (0.898, -0.333, 0.287),
    "CP1": (-0.368, -0.320, 0.873),
    "CP2": (0.379, -0.319, 0.869),
    "PO3": (-0.380, -0.865, 0.327),
    "PO4": (0.367, -0.873, 0.322),
    "Oz": (-0.008, -0.995, 0.098),
}


def harmonics(places: NDArray[np.floating], order: int) -> NDArray[np.float64]:
    """Return the real spherical harmonics of degrees 1 to `order` at unit vectors, (n, (order + 1)² - 1).

    Their mean square over the sphere is 1. Columns go by degree and, within one, from sine to cosine terms.

    Parameters
    ----------
    places : array, shape (n, 3)
        Unit vectors.
    """
    x, y, z = np.asarray(places, np.float64).T
    azimuth, across = np.arctan2(y, x), np.sqrt(np.clip(1 - z**2, 0, None))
    legendre: dict[tuple[int, int], NDArray[np.float64]] = {}
    for m in range(order + 1):
        legendre[m, m] = math.prod(range(1, 2 * m, 2)) * across**m
        if m < order:
            legendre[m + 1, m] = (2 * m + 1) * z * legendre[m, m]
        for degree in range(m + 2, order + 1):
            two = (2 * degree - 1) * z * legendre[degree - 1, m] - (degree + m - 1) * legendre[degree - 2, m]
            legendre[degree, m] = two / (degree - m)
    columns = []
    for degree in range(1, order + 1):
        for m in range(-degree, degree + 1):
            k = abs(m)
            scale = math.sqrt((2 * degree + 1) * math.factorial(degree - k) / math.factorial(degree + k))
            wave = np.sin(k * azimuth) if m < 0 else np.cos(k * azimuth)
            columns.append(scale * (math.sqrt(2) if m else 1.0) * legendre[degree, k] * wave)
    return np.stack(columns, axis=1)


def degrees(order: int) -> NDArray[np.float64]:
    """Return the degree of every column of `harmonics`."""
    return np.repeat(np.arange(1.0, order + 1), 2 * np.arange(1, order + 1) + 1)


def spread(
    places: NDArray[np.floating], order: int, channels: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """Return the map from the channels of a montage to coefficients of harmonics, (n_harmonics, n_chans).

    With A the harmonics of the channels, ``(AᵀA + n λ D)⁻¹ Aᵀ`` after the constant is projected out of both
    sides; D grows with the degree, so that few electrodes give a smooth field.

    Parameters
    ----------
    places : array, shape (n_electrodes, 3)
        Unit vectors of the electrodes.
    order : int
        Highest degree.
    channels : array, shape (n_chans, n_electrodes), optional
        Channels as sums of electrodes: a row of 1 and -1 is a bipolar pair. One per electrode by default.
    """
    rows = np.eye(len(places)) if channels is None else np.asarray(channels, np.float64)
    fields, constant = rows @ harmonics(places, order), rows.sum(1)
    outside = np.eye(len(rows))
    if np.abs(constant).max() > 1e-9:
        outside -= np.outer(constant, constant) / (constant @ constant)
    fields = outside @ fields
    penalty = len(rows) * PENALTY * np.diag(degrees(order) * (degrees(order) + 1) / 2)
    return np.asarray(np.linalg.solve(fields.T @ fields + penalty, fields.T @ outside), np.float64)


def refuse_electrodes(
    places: NDArray[np.floating], names: list[str] | None = None, n_chans: int | None = None
) -> None:
    """Refuse a montage from which no virtual channels can be made.

    Raises
    ------
    ConfigError
        If there are fewer than four channels, a place is not finite or not a unit vector, or two coincide;
        the message names them.
    """
    count = len(places) if n_chans is None else n_chans
    names = [str(i) for i in range(len(places))] if names is None else names
    if count < MIN_ELECTRODES:
        raise ConfigError(
            f"electrodes: got {count} ({', '.join(names)}), expected at least {MIN_ELECTRODES} channels"
        )
    lengths = np.linalg.norm(places, axis=1)
    wrong = [name for name, length in zip(names, lengths) if not abs(length - 1) < 1e-3]
    if wrong:
        raise ConfigError(f"electrodes: no direction from the head's centre for {', '.join(wrong)}")
    near = places @ places.T > math.cos(SAME_PLACE_RAD)
    pairs = [f"{names[i]} and {names[j]}" for i, j in np.argwhere(np.triu(near, 1))]
    if pairs:
        raise ConfigError(
            f"electrodes: at one place: {', '.join(pairs)}; leave one of each out, or correct the positions"
        )


def sites(n: int) -> NDArray[np.float64]:
    """Return `n` places spread over the head: the first of ``SITES``, or a spiral where there are more."""
    if n <= len(SITES):
        places = np.array(list(SITES.values())[:n])
        made: NDArray[np.float64] = places / np.linalg.norm(places, axis=1, keepdims=True)
        return made
    z = np.linspace(0.999, -0.2, n)
    azimuth = np.arange(n) * math.pi * (3 - math.sqrt(5))
    across = np.sqrt(1 - z**2)
    return np.stack([across * np.cos(azimuth), across * np.sin(azimuth), z], axis=1)
