"""The order of windows: a function of seed and epoch alone, the same on every process and machine."""

from __future__ import annotations

import numpy as np


def epoch_order(n_windows: int, *, seed: int, epoch: int, shuffle: bool = True) -> np.ndarray:
    """Return the order in which one epoch visits the windows.

    Parameters
    ----------
    n_windows : int
        Number of windows.
    seed, epoch : int
        Both decide the order; the process and the machine do not.
    shuffle : bool
        False: ascending order.

    Returns
    -------
    ndarray of int64, shape (n_windows,)
        Every window once.
    """
    return np.random.default_rng([seed, epoch]).permutation(n_windows) if shuffle else np.arange(n_windows)


def grouped_order(groups: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """Return windows in an order in which `size` of one group follow one another.

    What is left of a group beyond whole sets comes last, as do groups that are smaller.

    Parameters
    ----------
    groups : ndarray of int, shape (n_windows,)
        A number for each window's group, its recording usually.
    size : int
        Windows of a set.
    generator : Generator
        Decides which windows meet, and the order of the sets.
    """
    sets: list[np.ndarray] = []
    left: list[np.ndarray] = []
    for group in np.unique(groups):
        members = generator.permutation(np.flatnonzero(groups == group))
        whole = len(members) // size * size
        sets += list(members[:whole].reshape(-1, size))
        left.append(members[whole:])
    sets = [sets[place] for place in generator.permutation(len(sets))]
    return np.concatenate([*sets, *(left[place] for place in generator.permutation(len(left)))])
